//! The result of a request.

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};
use wdsr_image::{Format, Limits, Reader};
use wdsr_model::Progress;
use wdsr_upscale::{Damage, Job, Summary};

use crate::{Error, Networks, UpscaleRequest};

/// The name of a result in messages.
const RESULT: &str = "the result";

/// The result of an image.
pub struct Upscaled {
    /// The bytes of its file.
    pub file: Vec<u8>,
    /// What describes it.
    pub head: ResultHead,
}

/// What describes a result; it is known before the first byte of the file.
pub struct ResultHead {
    /// The format of the file.
    pub format: Format,
    /// What the program reports of an image, for programs; `seconds` only if the result is complete.
    pub report: Value,
    /// What the result lacks, and what was not computed as requested.
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
        image: (&str, Vec<u8>),
        limits: &Limits,
        progress: &Progress<'_>,
    ) -> Result<Upscaled, Error> {
        let started = Instant::now();
        let (job, format) = self.open(request, image, limits)?;
        self.whole(request, job, format, started, progress)
    }

    /// [`upscale`](Self::upscale) that writes the result to the destination that `start` returns, while it is computed.
    /// Only some formats are written so ([`Format::is_sequential`]); a result of another one is returned.
    ///
    /// # Errors
    /// Those of [`upscale`](Self::upscale), and if the destination cannot be written. What was written until then is no
    /// file.
    pub fn upscale_into<W: Write + 'static>(
        &self,
        request: &UpscaleRequest,
        image: (&str, Vec<u8>),
        limits: &Limits,
        start: impl FnOnce(ResultHead) -> W,
        progress: &Progress<'_>,
    ) -> Result<Option<Upscaled>, Error> {
        let started = Instant::now();
        let (job, format) = self.open(request, image, limits)?;
        if !format.is_sequential() {
            let result = self.whole(request, job, format, started, progress);
            return result.map(Some);
        }
        let start = |summary: &Summary| start(self.head(request, summary, format));
        job.into_stream(Path::new(RESULT), format, start, progress)?;
        Ok(None)
    }

    /// The job of an image, and the format of its result.
    fn open(
        &self,
        request: &UpscaleRequest,
        (name, bytes): (&str, Vec<u8>),
        limits: &Limits,
    ) -> Result<(Job<'_>, Format), Error> {
        let reader = Reader::from_bytes(bytes, Path::new(name), limits)?;
        let format = request.result_format(reader.format())?;
        Ok((self.job(reader, request)?, format))
    }

    fn whole(
        &self,
        request: &UpscaleRequest,
        job: Job<'_>,
        format: Format,
        started: Instant,
        progress: &Progress<'_>,
    ) -> Result<Upscaled, Error> {
        let (file, summary) = job.into_bytes(Path::new(RESULT), format, progress)?;
        let mut head = self.head(request, &summary, format);
        head.report["seconds"] = started.elapsed().as_secs_f64().into();
        Ok(Upscaled { file, head })
    }

    fn head(&self, request: &UpscaleRequest, summary: &Summary, format: Format) -> ResultHead {
        let device = self.device_of(request, summary);
        let dropped = summary.dropped.iter();
        let mut warnings: Vec<String> = dropped.map(|what| format!("dropped {what}")).collect();
        warnings.extend(self.precision_warning(request, summary));
        warnings.extend(self.device_warning(request, summary));
        ResultHead {
            format,
            report: report(
                request,
                summary,
                device,
                self.precision_of(request, summary),
            ),
            warnings,
        }
    }

    /// Why the processor computed a result although there is a device.
    fn device_warning(&self, request: &UpscaleRequest, summary: &Summary) -> Option<String> {
        Self::kind_of(request, summary)?;
        let (device, used) = (self.device_name(), self.device_of(request, summary));
        (used != device).then(|| {
            format!(
                "device {device}: its memory does not suffice or its driver failed, so the processor computed"
            )
        })
    }

    /// Why a result is in f32 although another precision was requested.
    fn precision_warning(&self, request: &UpscaleRequest, summary: &Summary) -> Option<String> {
        let kind = Self::kind_of(request, summary)?;
        let isa = self.isa();
        match self.precision(kind, request.precision) {
            Ok(on) if on.is_slower_than_f32(isa) => Some(format!(
                "precision {}: not faster than f32 on this processor ({isa}), so f32 was used",
                on.name()
            )),
            Ok(_) => None,
            Err(_) => Some(format!(
                "precision int8: {kind}, for images with damage, has no int8, so f32 was used"
            )),
        }
    }
}

/// The values of a report of `wdsr upscale`, without the time.
fn report(
    request: &UpscaleRequest,
    summary: &Summary,
    device: &str,
    precision: Option<&str>,
) -> Value {
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
        "device": device,
        "precision": precision,
    })
}
