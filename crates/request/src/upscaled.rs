//! The result of a request.

use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};
use wdsr_image::{Format, Limits, Reader};
use wdsr_model::Progress;
use wdsr_upscale::{Damage, Summary};

use crate::{Error, Networks, UpscaleRequest};

/// The result of an image.
pub struct Upscaled {
    /// The bytes of its file.
    pub file: Vec<u8>,
    /// The format of the file.
    pub format: Format,
    /// What the program reports of an image, for programs.
    pub report: Value,
    /// What the result lacks.
    pub warnings: Vec<String>,
}

/// The media type of a format that results have.
///
/// # Panics
/// If the format is only read.
pub fn media_type(format: Format) -> &'static str {
    match format {
        Format::Png => "image/png",
        Format::Jpeg => "image/jpeg",
        Format::WebP => "image/webp",
        Format::Tiff => "image/tiff",
        Format::Bmp => "image/bmp",
        Format::Gif => "image/gif",
        _ => unreachable!("{format} is only read"),
    }
}

impl Networks {
    /// Upscales the image in the bytes of a file, which messages call `name`. `progress` gets (work done, work
    /// in all).
    ///
    /// # Errors
    /// If the image cannot be read or upscaled within the limits, or a parameter has no effect on the result.
    pub fn upscale(
        &self,
        request: &UpscaleRequest,
        (name, bytes): (&str, Vec<u8>),
        limits: &Limits,
        progress: &Progress<'_>,
    ) -> Result<Upscaled, Error> {
        let started = Instant::now();
        let reader = Reader::from_bytes(bytes, Path::new(name), limits)?;
        let format = request.result_format(reader.format())?;
        let job = self.job(reader, request)?;
        let (file, summary) = job.into_bytes(Path::new("the result"), format, progress)?;
        let mut warnings = summary.dropped.clone();
        warnings.extend(self.precision_warning(request, &summary));
        Ok(Upscaled {
            file,
            format,
            report: report(request, &summary, started),
            warnings,
        })
    }

    /// Why a result is in f32 although another precision was requested.
    fn precision_warning(&self, request: &UpscaleRequest, summary: &Summary) -> Option<String> {
        let kind = Self::kind_of(request, summary)?;
        let isa = self.isa();
        match self.precision(kind, request.precision) {
            Ok(precision) if isa.precision_for(precision) != precision => Some(format!(
                "precision {}: not faster than f32 on this processor ({isa}), so f32 was used",
                precision.name()
            )),
            Ok(_) => None,
            Err(_) => Some(format!(
                "precision int8: {kind}, for images with damage, has no int8, so f32 was used"
            )),
        }
    }
}

/// The values of a report of `wdsr upscale`.
fn report(request: &UpscaleRequest, summary: &Summary, started: Instant) -> Value {
    let found = match (summary.choice, summary.strength) {
        (Some(choice), _) => Some(choice.damage),
        (None, strength) => strength.map(|strength| strength.damage),
    };
    let damage = found.filter(|damage| *damage != Damage::Given);
    json!({
        "width_px": summary.plan.target().width_px,
        "height_px": summary.plan.target().height_px,
        "steps": summary.plan.to_string(),
        "model": Networks::kind_of(request, summary),
        "strength": summary.strength.map(|strength| strength.value),
        "damage": damage.map(|damage| damage.to_string()),
        "seconds": started.elapsed().as_secs_f64(),
    })
}
