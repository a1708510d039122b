//! Protocols of published figures.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::metrics::Channel;

/// How published figures compare images. Figures of different protocols must not be compared.
/// All protocols round to 8 bit, and the figure of a set is the mean of those of its images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// RGB, scale + 6 pixels cropped: DIV2K figures of EDSR and WDSR (sanghyun-son/EDSR-PyTorch
    /// src/utility.py, `calc_psnr`; ychfan/wdsr).
    Div2k,
    /// RGB, scale pixels cropped: the NTIRE challenges, BasicSR's and mmagic's figures on DIV2K.
    Ntire,
    /// Y, scale pixels cropped: Set5, Set14, B100, Urban100. Grey images are compared as they are
    /// ([`Channel::Grey`]).
    #[default]
    Benchmark,
}

impl Protocol {
    /// The channel of an image that it compares. `grey`: the image is grey in its file.
    pub fn channel(self, grey: bool) -> Channel {
        match self {
            Self::Div2k | Self::Ntire => Channel::Rgb,
            Self::Benchmark if grey => Channel::Grey,
            Self::Benchmark => Channel::Y,
        }
    }

    /// Pixels cropped on each side.
    pub fn shave_px(self, scale: usize) -> usize {
        match self {
            Self::Div2k => scale + 6,
            Self::Ntire | Self::Benchmark => scale,
        }
    }

    /// Its definition, such as `benchmark: Y, 8 bit, 2 px cropped on each side`.
    pub fn describe(self, scale: usize) -> String {
        let channel = match self {
            Self::Div2k | Self::Ntire => "RGB",
            Self::Benchmark => "Y",
        };
        format!(
            "{self}: {channel}, 8 bit, {} px cropped on each side",
            self.shave_px(scale)
        )
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Div2k => "div2k",
            Self::Ntire => "ntire",
            Self::Benchmark => "benchmark",
        })
    }
}

/// A text that is not the name of a protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected div2k, ntire or benchmark, found `{0}`")]
pub struct UnknownProtocol(pub String);

impl FromStr for Protocol {
    type Err = UnknownProtocol;

    fn from_str(text: &str) -> Result<Self, UnknownProtocol> {
        match text {
            "div2k" => Ok(Self::Div2k),
            "ntire" => Ok(Self::Ntire),
            "benchmark" => Ok(Self::Benchmark),
            _ => Err(UnknownProtocol(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn borders_and_channels_are_as_published() {
        let cases = [
            (Protocol::Div2k, 8, Channel::Rgb, Channel::Rgb, "div2k: RGB"),
            (Protocol::Ntire, 2, Channel::Rgb, Channel::Rgb, "ntire: RGB"),
            (
                Protocol::Benchmark,
                2,
                Channel::Y,
                Channel::Grey,
                "benchmark: Y",
            ),
        ];
        for (protocol, shave_px, colour, grey, definition) in cases {
            assert_eq!(protocol.shave_px(2), shave_px, "{protocol}");
            assert_eq!(protocol.shave_px(4), shave_px + 2, "{protocol}");
            assert_eq!(protocol.channel(false), colour, "{protocol}");
            assert_eq!(protocol.channel(true), grey, "{protocol}");
            let definition = format!("{definition}, 8 bit, {shave_px} px cropped on each side");
            assert_eq!(protocol.describe(2), definition);
        }
    }

    #[test]
    fn names_are_parsed_back() {
        assert_eq!(Protocol::default(), Protocol::Benchmark);
        for protocol in [Protocol::Div2k, Protocol::Ntire, Protocol::Benchmark] {
            assert_eq!(protocol.to_string().parse(), Ok(protocol));
            let json = serde_json::to_string(&protocol).expect("JSON");
            assert_eq!(json, format!("\"{protocol}\""));
        }
        let error = "Y".parse::<Protocol>().expect_err("no such protocol");
        assert_eq!(
            error.to_string(),
            "expected div2k, ntire or benchmark, found `Y`"
        );
    }
}
