//! What a degradation consists of, as a recipe states it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A list of stages in order, and the share of patches that none of them touches.
///
/// An untouched patch is the plain low-resolution patch: MATLAB's bicubic `imresize` rounded as
/// DIV2K's files are, or the patch itself at scale 1.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Degradation {
    /// Share of untouched patches, 0..=1.
    #[serde(default)]
    pub untouched: f64,
    /// The stages, first to last.
    #[serde(default)]
    pub stages: Vec<Stage>,
}

/// One kind of damage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Stage {
    /// Blur by a lens or a motion.
    Blur(Blur),
    /// The reduction to low resolution.
    Downsample(Downsample),
    /// A shift by a fraction of a pixel.
    Shift(Shift),
    /// A change of brightness.
    Exposure(Exposure),
    /// Noise of a sensor.
    Noise(Noise),
    /// Compression and decompression as JPEG.
    Jpeg(Jpeg),
}

/// How often the values of a stage are drawn. Noise itself is new in every patch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Per {
    /// For each patch.
    #[default]
    Patch,
    /// Once for each image: all patches of an image have the same values.
    Image,
    /// Once for the dataset: all patches of a training, and its validation images, have the same
    /// values.
    Dataset,
}

impl Per {
    #[allow(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde passes a reference"
    )]
    fn is_patch(&self) -> bool {
        *self == Self::Patch
    }
}

/// The smallest and the largest value; values between them are equally probable.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "[f64; 2]", into = "[f64; 2]")]
pub struct Range {
    /// The smallest value.
    pub min: f64,
    /// The largest value.
    pub max: f64,
}

impl From<[f64; 2]> for Range {
    fn from([min, max]: [f64; 2]) -> Self {
        Self { min, max }
    }
}

impl From<Range> for [f64; 2] {
    fn from(range: Range) -> Self {
        [range.min, range.max]
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {}]", self.min, self.max)
    }
}

/// Convolution with a kernel whose shape is drawn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Blur {
    /// How often the stage runs, 0..=1.
    #[serde(default = "always")]
    pub probability: f64,
    /// How often the values are drawn.
    #[serde(default, skip_serializing_if = "Per::is_patch")]
    pub per: Per,
    /// The shapes to choose from, equally probable.
    pub shapes: Vec<BlurShape>,
    /// Standard deviation of a Gaussian in pixels of the image at this stage (before `downsample`:
    /// high-resolution pixels). An anisotropic kernel draws one for each axis.
    #[serde(default = "no_range")]
    pub sigma_px: Range,
    /// Length of a motion in the same pixels.
    #[serde(default = "no_range")]
    pub length_px: Range,
    /// The largest width and height of a kernel, odd. Wider kernels are cut off and normalised.
    #[serde(default = "kernel_px")]
    pub kernel_px: usize,
}

/// The shape of a blur kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlurShape {
    /// A Gaussian, the same in all directions.
    Isotropic,
    /// A Gaussian with two standard deviations, turned by a random angle.
    Anisotropic,
    /// A line of even weight in a random direction.
    Motion,
}

/// Reduction by the scale of the training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Downsample {
    /// How often the values are drawn.
    #[serde(default, skip_serializing_if = "Per::is_patch")]
    pub per: Per,
    /// The methods to choose from, equally probable.
    pub methods: Vec<Method>,
    /// Standard deviation of `shifted_gaussian` in high-resolution pixels.
    #[serde(default = "no_range")]
    pub sigma_px: Range,
}

/// A way to reduce an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// MATLAB's bicubic `imresize`: a = -0.5, widened by the scale.
    Bicubic,
    /// A triangle, widened by the scale.
    Bilinear,
    /// The mean of the pixels that a low-resolution pixel covers.
    Area,
    /// An isotropic Gaussian, sampled at the centres of the low-resolution pixels (BSRGAN's shifted
    /// kernel and nearest neighbour).
    ShiftedGaussian,
}

/// A shift of the whole image, drawn for each axis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shift {
    /// How often the stage runs, 0..=1.
    #[serde(default = "always")]
    pub probability: f64,
    /// How often the values are drawn.
    #[serde(default, skip_serializing_if = "Per::is_patch")]
    pub per: Per,
    /// To the right and downwards, in pixels of the image at this stage. Interpolated bicubically.
    pub offset_px: Range,
    /// Whether the training target is shifted along.
    #[serde(default)]
    pub known: bool,
}

/// One factor for all samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exposure {
    /// How often the stage runs, 0..=1.
    #[serde(default = "always")]
    pub probability: f64,
    /// How often the values are drawn.
    #[serde(default, skip_serializing_if = "Per::is_patch")]
    pub per: Per,
    /// The factor. The training target is multiplied with it too, since no network can know it.
    pub gain: Range,
}

/// Noise in levels of 0..255, with variance `sigma_levels^2 + poisson * level`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Noise {
    /// How often the stage runs, 0..=1.
    #[serde(default = "always")]
    pub probability: f64,
    /// How often the values are drawn.
    #[serde(default, skip_serializing_if = "Per::is_patch")]
    pub per: Per,
    /// Standard deviation of the part that does not depend on the level.
    #[serde(default = "no_range")]
    pub sigma_levels: Range,
    /// Variance per level of the part that does (photon noise).
    #[serde(default = "no_range")]
    pub poisson: Range,
    /// Share of patches whose channels have the same noise, 0..=1.
    #[serde(default)]
    pub grey: f64,
    /// Share of patches whose noise lies on a Bayer mosaic, which is then demosaiced by Malvar's
    /// filters, 0..=1. `grey + bayer` is at most 1; the rest has independent noise in each channel.
    #[serde(default)]
    pub bayer: f64,
}

/// Compression and decompression as JPEG, with libjpeg's tables and a random position of the grid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Jpeg {
    /// How often the stage runs, 0..=1.
    #[serde(default = "always")]
    pub probability: f64,
    /// How often the values are drawn.
    #[serde(default, skip_serializing_if = "Per::is_patch")]
    pub per: Per,
    /// libjpeg's quality, 1..=100.
    pub quality: [u8; 2],
    /// The chroma subsamplings to choose from, equally probable.
    pub subsampling: Vec<Subsampling>,
    /// Share of patches that are compressed a second time on another grid, 0..=1.
    #[serde(default)]
    pub twice: f64,
}

/// Chroma subsampling of a JPEG file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Subsampling {
    /// Half the columns and rows.
    #[serde(rename = "4:2:0")]
    S420,
    /// Half the columns.
    #[serde(rename = "4:2:2")]
    S422,
    /// Full resolution.
    #[serde(rename = "4:4:4")]
    S444,
}

fn always() -> f64 {
    1.0
}

fn no_range() -> Range {
    Range { min: 0.0, max: 0.0 }
}

/// Real-ESRGAN's largest kernel.
fn kernel_px() -> usize {
    21
}

/// A degradation that cannot be carried out. Each message names the key.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A number is outside the values that its key allows.
    #[error("degradation.{key}: expected {expected}, found {found}")]
    OutOfRange {
        /// The key, with the number of its stage.
        key: String,
        /// The values allowed.
        expected: String,
        /// The value found.
        found: String,
    },
    /// A list without an entry.
    #[error("degradation.{key} is empty: expected one or more of {expected}")]
    Empty {
        /// The key, with the number of its stage.
        key: String,
        /// The entries allowed.
        expected: &'static str,
    },
    /// A length is larger than a patch.
    #[error(
        "degradation.{key}: expected at most the {patch_px} pixels of a patch at this stage, found \
         {found_px}; lower it, or raise training.patch_px"
    )]
    LargerThanPatch {
        /// The key, with the number of its stage.
        key: String,
        /// The length in pixels of the image at the stage.
        found_px: f64,
        /// Side of a patch in the same pixels.
        patch_px: usize,
    },
    /// The stages do not fit the scale of the network.
    #[error(
        "degradation.stages: expected {expected} at scale {scale}, found {found}; change the stages or \
         network.scale"
    )]
    Scale {
        /// The number of `downsample` stages that the scale asks for.
        expected: &'static str,
        /// The scale of the network.
        scale: usize,
        /// The number of `downsample` stages found.
        found: usize,
    },
}

impl Degradation {
    /// Checks all values against their ranges and the stages against the scale.
    ///
    /// # Errors
    ///
    /// The first fault, which names the key and what it may be.
    pub fn check(&self, scale: usize) -> Result<(), Error> {
        within("untouched", self.untouched, 0.0, 1.0)?;
        for (index, stage) in self.stages.iter().enumerate() {
            stage.check(&format!("stages[{index}]"))?;
        }
        let is_downsample = |stage: &&Stage| matches!(stage, Stage::Downsample(_));
        let found = self.stages.iter().filter(is_downsample).count();
        let expected = match scale {
            1 if found > 0 => "no downsample stage",
            1 => return Ok(()),
            _ if found != 1 => "exactly one downsample stage",
            _ => return Ok(()),
        };
        Err(Error::Scale {
            expected,
            scale,
            found,
        })
    }
}

impl Degradation {
    /// Checks that no kernel and no shift is larger than a patch, of `patch_px` low-resolution pixels.
    ///
    /// # Errors
    /// The first that is.
    pub fn check_patch(&self, scale: usize, patch_px: usize) -> Result<(), Error> {
        let mut side_px = patch_px * scale;
        for (index, stage) in self.stages.iter().enumerate() {
            let (name, found_px) = match stage {
                Stage::Blur(blur) => ("kernel_px", blur.kernel_px as f64),
                Stage::Downsample(downsample) => ("sigma_px", downsample.sigma_px.max),
                Stage::Shift(Shift { offset_px, .. }) => {
                    ("offset_px", offset_px.min.abs().max(offset_px.max.abs()))
                }
                _ => continue,
            };
            if found_px > side_px as f64 {
                return Err(Error::LargerThanPatch {
                    key: format!("stages[{index}].{name}"),
                    found_px,
                    patch_px: side_px,
                });
            }
            if matches!(stage, Stage::Downsample(_)) {
                side_px = patch_px;
            }
        }
        Ok(())
    }
}

impl Stage {
    /// How often its values are drawn.
    pub fn per(&self) -> Per {
        match self {
            Self::Blur(blur) => blur.per,
            Self::Downsample(downsample) => downsample.per,
            Self::Shift(shift) => shift.per,
            Self::Exposure(exposure) => exposure.per,
            Self::Noise(noise) => noise.per,
            Self::Jpeg(jpeg) => jpeg.per,
        }
    }

    fn check(&self, at: &str) -> Result<(), Error> {
        let key = |name: &str| format!("{at}.{name}");
        let probability = |p: f64| within(key("probability"), p, 0.0, 1.0);
        match self {
            Self::Blur(blur) => {
                probability(blur.probability)?;
                let shapes = "isotropic, anisotropic, motion";
                not_empty(key("shapes"), &blur.shapes, shapes)?;
                range(key("sigma_px"), blur.sigma_px, 0.0, 100.0)?;
                range(key("length_px"), blur.length_px, 0.0, 200.0)?;
                let gaussian = blur.shapes.iter().any(|s| *s != BlurShape::Motion);
                above_zero(key("sigma_px"), blur.sigma_px, gaussian)?;
                let motion = blur.shapes.contains(&BlurShape::Motion);
                above_zero(key("length_px"), blur.length_px, motion)?;
                if blur.kernel_px.is_multiple_of(2) || blur.kernel_px > MAX_KERNEL_PX {
                    return Err(Error::OutOfRange {
                        key: key("kernel_px"),
                        expected: format!("an odd number, at most {MAX_KERNEL_PX}"),
                        found: blur.kernel_px.to_string(),
                    });
                }
                Ok(())
            }
            Self::Downsample(downsample) => {
                let methods = "bicubic, bilinear, area, shifted_gaussian";
                not_empty(key("methods"), &downsample.methods, methods)?;
                range(key("sigma_px"), downsample.sigma_px, 0.0, 100.0)?;
                let gaussian = downsample.methods.contains(&Method::ShiftedGaussian);
                above_zero(key("sigma_px"), downsample.sigma_px, gaussian)
            }
            Self::Shift(shift) => {
                probability(shift.probability)?;
                range(key("offset_px"), shift.offset_px, -64.0, 64.0)
            }
            Self::Exposure(exposure) => {
                probability(exposure.probability)?;
                range(key("gain"), exposure.gain, 0.0, 16.0)?;
                above_zero(key("gain"), exposure.gain, true)
            }
            Self::Noise(noise) => {
                probability(noise.probability)?;
                range(key("sigma_levels"), noise.sigma_levels, 0.0, 255.0)?;
                range(key("poisson"), noise.poisson, 0.0, 255.0)?;
                within(key("grey"), noise.grey, 0.0, 1.0)?;
                within(key("bayer"), noise.bayer, 0.0, 1.0)?;
                within(key("grey + bayer"), noise.grey + noise.bayer, 0.0, 1.0)
            }
            Self::Jpeg(jpeg) => {
                probability(jpeg.probability)?;
                let [min, max] = jpeg.quality;
                let quality = Range::from([min, max].map(f64::from));
                range(key("quality"), quality, 1.0, 100.0)?;
                let subsamplings = "4:2:0, 4:2:2, 4:4:4";
                not_empty(key("subsampling"), &jpeg.subsampling, subsamplings)?;
                within(key("twice"), jpeg.twice, 0.0, 1.0)
            }
        }
    }
}

/// The widest kernel of a blur.
const MAX_KERNEL_PX: usize = 63;

fn within(key: impl Into<String>, value: f64, min: f64, max: f64) -> Result<(), Error> {
    // NaN is within nothing.
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(Error::OutOfRange {
        key: key.into(),
        expected: format!("a number from {min} to {max}"),
        found: value.to_string(),
    })
}

fn range(key: String, found: Range, min: f64, max: f64) -> Result<(), Error> {
    let inside = (min..=max).contains(&found.min) && (min..=max).contains(&found.max);
    if inside && found.min <= found.max {
        return Ok(());
    }
    Err(Error::OutOfRange {
        key,
        expected: format!("[smallest, largest] from {min} to {max}"),
        found: found.to_string(),
    })
}

fn above_zero(key: String, found: Range, needed: bool) -> Result<(), Error> {
    if !needed || found.min > 0.0 {
        return Ok(());
    }
    Err(Error::OutOfRange {
        key,
        expected: "[smallest, largest] above 0".to_owned(),
        found: found.to_string(),
    })
}

fn not_empty<T>(key: String, list: &[T], expected: &'static str) -> Result<(), Error> {
    if list.is_empty() {
        return Err(Error::Empty { key, expected });
    }
    Ok(())
}
