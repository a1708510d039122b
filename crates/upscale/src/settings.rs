//! What images are upscaled to.

use wdsr_image::{Encoding, MetadataPolicy};

use crate::{AlphaMethod, SizeRequest, Wrap};

/// What images are upscaled to and how, within which limits.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The size of the results.
    pub size: SizeRequest,
    /// How alpha is upscaled.
    pub alpha: AlphaMethod,
    /// Which edges continue at the opposite side.
    pub wrap: Wrap,
    /// Which metadata is copied.
    pub metadata: MetadataPolicy,
    /// Quality and compression of the results.
    pub encoding: Encoding,
    /// The strength of models that have one, 0..=1; unless given, it is read off each image.
    pub strength: Option<f32>,
    /// Most pixels of a result.
    pub max_output_pixels: u64,
    /// Most memory in bytes. Unless given, 2 GiB for images that stream, and for others the memory that
    /// is available.
    pub max_memory_bytes: Option<u64>,
    /// Whether images stream from file to file where they can. The samples are the same; the compressed
    /// bytes of a PNG differ.
    pub streams: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            size: SizeRequest::OnePass,
            alpha: AlphaMethod::default(),
            wrap: Wrap::default(),
            metadata: MetadataPolicy::default(),
            encoding: Encoding::DEFAULT,
            strength: None,
            max_output_pixels: 8_000_000_000,
            max_memory_bytes: None,
            streams: true,
        }
    }
}
