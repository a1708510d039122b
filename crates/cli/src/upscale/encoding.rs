//! The arguments that choose how results are encoded.

use wdsr_image::{Encoding, Format, PngCompression};

use crate::WrongUsage;

#[derive(clap::Args)]
pub(super) struct EncodingArguments {
    /// Quality of JPEG results, 1 to 100 [default: 95]
    ///
    /// Results of other formats are lossless, WebP too. Chroma is not subsampled.
    #[arg(long, value_name = "Q", value_parser = clap::value_parser!(u8).range(1..=100))]
    quality: Option<u8>,
    /// Compression of PNG results [default: fast]
    ///
    /// The pixels are the same at every level.
    #[arg(long, value_enum, value_name = "LEVEL")]
    compression: Option<Compression>,
}

/// [`PngCompression`] as an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Compression {
    /// Not at all
    None,
    /// As fast as possible
    Fastest,
    /// Fast
    Fast,
    /// Smaller, a few times slower
    Balanced,
    /// Smallest, many times slower
    High,
}

impl Compression {
    fn level(self) -> PngCompression {
        match self {
            Self::None => PngCompression::None,
            Self::Fastest => PngCompression::Fastest,
            Self::Fast => PngCompression::Fast,
            Self::Balanced => PngCompression::Balanced,
            Self::High => PngCompression::High,
        }
    }
}

impl EncodingArguments {
    pub(super) fn encoding(&self) -> Encoding {
        let mut encoding = Encoding::DEFAULT;
        if let Some(quality) = self.quality {
            encoding.jpeg_quality = quality;
        }
        if let Some(compression) = self.compression {
            encoding.png_compression = compression.level();
        }
        encoding
    }

    /// Checks that the arguments have an effect on the format of all results.
    ///
    /// # Errors
    /// If one has none.
    pub(super) fn check(&self, format: Format) -> Result<(), WrongUsage> {
        let wrong = |option: &str, of: Format, why: &str| {
            let message = format!(
                "{option} is for {of}, and the result is {format}{why}; omit it, or choose {of} (-f or \
                 OUT's suffix)"
            );
            Err(WrongUsage(message))
        };
        if self.quality.is_some() && format != Format::Jpeg {
            // Lossy encoders are bindings to C, or not under a permissive licence.
            let is_webp = format == Format::WebP;
            let why = if is_webp {
                ", which is written lossless"
            } else {
                ""
            };
            return wrong("--quality", Format::Jpeg, why);
        }
        if self.compression.is_some() && format != Format::Png {
            return wrong("--compression", Format::Png, "");
        }
        Ok(())
    }
}
