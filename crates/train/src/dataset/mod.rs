//! The dataset of a training: its images are scanned, divided into training and validation images,
//! and decoded; [`Patches`] cuts patches from them.

mod cache;
mod degrader;
mod patches;
mod shifts;

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use wdsr_data::map_or_first_error;
use wdsr_eval::{ImagePair, Protocol, Track, describe_low_images, find_pairs};
use wdsr_image::{Limits, Reader};

use crate::error::Error;
use crate::recipe::{DataFolder, Recipe};
pub use cache::{ImageCache, PairSource, PatchPixels, Rectangle};
pub use degrader::Degrader;
pub use patches::{
    BatchStream, Cutting, DrawnBatch, DrawnPatch, Orientation, PatchPlace, Patches, WeightedImages,
};
use shifts::ShiftSource;
pub use shifts::{AlignmentProblem, ImageShift};

/// A dataset whose images are not decoded yet.
pub struct Dataset {
    training: Vec<PairSource>,
    validation: Vec<PairSource>,
    weights: Vec<WeightedImages>,
    too_small: Vec<String>,
    low_images: String,
    shifts: Vec<ImageShift>,
    not_aligned: usize,
    fingerprint: String,
}

/// A dataset in memory or in a temporary file. Clones share the decoded images.
#[derive(Clone)]
pub struct DecodedDataset {
    /// Training images.
    pub training: Arc<ImageCache>,
    /// The training images of each folder with a weight; empty if the folders have no weights.
    pub weights: Vec<WeightedImages>,
    /// Validation images.
    pub validation: Arc<[ValidationImage]>,
    /// Names of the images that are skipped because they are smaller than a patch.
    pub too_small: Vec<String>,
    /// Where the low-resolution training images come from.
    pub low_images: String,
    /// How they are shifted, if the recipe says that they are.
    pub shifts: Vec<ImageShift>,
    /// Number of images that are skipped because they could not be aligned.
    pub not_aligned: usize,
    /// Of the names, sizes and weights of all images: a run is resumed with the same only.
    pub fingerprint: String,
}

/// A validation image.
pub struct ValidationImage {
    /// Its name.
    pub name: String,
    source: ValidationSource,
}

enum ValidationSource {
    Decoded(ImagePair),
    File(PairSource),
}

impl ValidationImage {
    /// The pair, decoded now if it is not kept in memory.
    ///
    /// # Errors
    /// If an image can no longer be read.
    pub fn load(&self) -> Result<Cow<'_, ImagePair>, Error> {
        match &self.source {
            ValidationSource::Decoded(pair) => Ok(Cow::Borrowed(pair)),
            ValidationSource::File(source) => Ok(Cow::Owned(source.load()?)),
        }
    }
}

/// Where decoded images are kept.
pub struct CacheOptions<'o> {
    /// Memory limit of the training images. Above it they are kept in a temporary file, and
    /// validation images are decoded at each validation.
    pub memory_bytes: u64,
    /// Folder of the temporary file.
    pub folder: &'o Path,
}

impl Dataset {
    /// Scans the folders of a recipe, each with images alone or in any layout of pairs that
    /// [`find_pairs`] knows. Validation images come from their own folder, or are kept from the
    /// training images, spread evenly.
    ///
    /// # Errors
    /// If a folder has no images, the size of one cannot be read, the shift of one is neither known nor
    /// can be estimated though the recipe asks for it, too few are large enough for a patch, or a
    /// validation image is too small for the protocol.
    ///
    /// # Panics
    /// If the recipe names no folder.
    pub fn scan(recipe: &Recipe) -> Result<Self, Error> {
        let (data, scale) = (&recipe.data, recipe.network.scale);
        assert!(!data.folders.is_empty(), "no folder of training images");
        let patch_px = recipe.training.patch_px;
        let (count, validation_folder) = (recipe.validation.images, &data.validation);
        let kept = match validation_folder {
            Some(_) => 0,
            None => count,
        };

        let shifts = ShiftSource::new(data.shifts.as_ref())?;
        let mut usable: Vec<(usize, PairSource)> = Vec::new();
        let (mut too_small, mut not_aligned) = (Vec::new(), 0);
        for (at, folder) in data.folders.iter().enumerate() {
            let (sources, rejected) = scan_folder(&folder.path, scale, data.track, &shifts)?;
            not_aligned += rejected;
            for source in sources {
                if source.low_width_px.min(source.low_height_px) >= patch_px {
                    usable.push((at, source));
                } else {
                    too_small.push(source.pair.name);
                }
            }
        }
        if usable.len() <= kept {
            return Err(Error::TooFewImages {
                folder: data.folders[0].path.clone(),
                found: usable.len(),
                validation: kept,
                too_small: too_small.len(),
                patch_px,
            });
        }
        let (training, mut validation) = split_evenly(usable, kept);
        if let Some(folder) = validation_folder {
            let (sources, rejected) = scan_folder(folder, scale, data.track, &shifts)?;
            validation = sources;
            not_aligned += rejected;
            if count > 0 {
                validation.truncate(count);
            }
        }
        for source in &validation {
            check_validation_size(source, recipe.validation.protocol)?;
        }
        let folder_of: Vec<usize> = training.iter().map(|(folder, _)| *folder).collect();
        let weights = weights(&data.folders, &folder_of)?;
        let training: Vec<PairSource> = training.into_iter().map(|(_, source)| source).collect();
        let fingerprint = fingerprint(&data.folders, &training, &validation);
        let low_images = describe_low_images(training.iter().map(|source| &source.pair));
        let shifts = training.iter().chain(&validation);
        let shifts = shifts.filter_map(ImageShift::of).collect();
        Ok(Self {
            training,
            validation,
            weights,
            too_small,
            low_images,
            shifts,
            not_aligned,
            fingerprint,
        })
    }

    /// The fingerprint of the names, sizes and weights of all images.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Decodes the images. Calls `progress` with (images decoded, all images).
    ///
    /// # Errors
    /// If an image cannot be read, or the temporary file cannot be written.
    pub fn decode(
        &self,
        options: &CacheOptions<'_>,
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<DecodedDataset, Error> {
        let training = ImageCache::load(
            &self.training,
            options.memory_bytes,
            options.folder,
            progress,
        )?;
        let decode = |source: &PairSource| -> Result<_, Error> {
            let name = source.pair.name.clone();
            // Decoded in any case, so that a corrupt image is found before the training.
            let decoded = source.load()?;
            let source = if training.is_in_file() {
                ValidationSource::File(source.clone())
            } else {
                ValidationSource::Decoded(decoded)
            };
            Ok(ValidationImage { name, source })
        };
        let validation = map_or_first_error(&self.validation, decode)?;
        Ok(DecodedDataset {
            validation: validation.into(),
            training: Arc::new(training),
            weights: self.weights.clone(),
            too_small: self.too_small.clone(),
            low_images: self.low_images.clone(),
            shifts: self.shifts.clone(),
            not_aligned: self.not_aligned,
            fingerprint: self.fingerprint.clone(),
        })
    }
}

/// Takes `kept` images, spread evenly, out of the training images: the second list.
fn split_evenly(
    images: Vec<(usize, PairSource)>,
    kept: usize,
) -> (Vec<(usize, PairSource)>, Vec<PairSource>) {
    let count = images.len();
    // Image i is kept where i * kept / count steps up.
    let is_kept = |i: usize| (i + 1) * kept / count != i * kept / count;
    let (mut training, mut validation) = (Vec::new(), Vec::new());
    for (i, (folder, source)) in images.into_iter().enumerate() {
        if is_kept(i) {
            validation.push(source);
        } else {
            training.push((folder, source));
        }
    }
    (training, validation)
}

/// Checks that an image is larger than the border that the protocol cuts off.
fn check_validation_size(source: &PairSource, protocol: Protocol) -> Result<(), Error> {
    let scale = source.pair.scale;
    let [width_px, height_px] = [source.low_width_px, source.low_height_px].map(|px| px * scale);
    let shave_px = protocol.shave_px(scale);
    let least_px = 2 * shave_px + 1;
    if width_px.min(height_px) >= least_px {
        return Ok(());
    }
    Err(Error::ValidationImageTooSmall {
        image: source.pair.high.clone(),
        width_px,
        height_px,
        least_px,
        shave_px,
    })
}

/// The pairs of a folder with their sizes, which are read from the headers of the files, and how many
/// more could not be aligned.
fn scan_folder(
    folder: &Path,
    scale: usize,
    track: Track,
    shifts: &ShiftSource,
) -> Result<(Vec<PairSource>, usize), Error> {
    let pairs = find_pairs(folder, scale, track)?;
    let sources = map_or_first_error(&pairs, |pair| {
        let high = Reader::open(&pair.high, &Limits::default())?.outline();
        shifts.align(PairSource {
            pair: pair.clone(),
            low_width_px: high.width_px / scale,
            low_height_px: high.height_px / scale,
            alignment: None,
        })
    })?;
    let count = sources.len();
    let aligned: Vec<PairSource> = sources.into_iter().flatten().collect();
    let rejected = count - aligned.len();
    Ok((aligned, rejected))
}

/// The images of each folder with a weight. `folder_of` has the folder of each image, in order.
fn weights(folders: &[DataFolder], folder_of: &[usize]) -> Result<Vec<WeightedImages>, Error> {
    let mut weights = Vec::new();
    let mut start = 0;
    for (at, folder) in folders.iter().enumerate() {
        let images = start..start + folder_of.iter().filter(|of| **of == at).count();
        start = images.end;
        let Some(weight) = folder.weight else {
            continue;
        };
        if images.is_empty() {
            let folder = folder.path.clone();
            return Err(Error::EmptyWeightedFolder { folder });
        }
        weights.push(WeightedImages { images, weight });
    }
    Ok(weights)
}

fn fingerprint(
    folders: &[DataFolder],
    training: &[PairSource],
    validation: &[PairSource],
) -> String {
    let weights = folders.iter().map(|folder| format!("{:?}", folder.weight));
    let image = |source: &PairSource| {
        let (name, low) = (&source.pair.name, source.pair.low.is_some());
        let (width_px, height_px) = (source.low_width_px, source.low_height_px);
        let placement = source
            .alignment
            .map(|(placement, _)| format!(" {placement:?}"));
        let placement = placement.unwrap_or_default();
        format!("{name} {width_px} {height_px} {low}{placement}")
    };
    let images = training.iter().chain(validation).map(image);
    let text = weights.chain(images).collect::<Vec<_>>().join("\n");
    format!("{:08x}", crc32c::crc32c(text.as_bytes()))
}
