//! The images of a training: found, divided into those to train on and those to validate on,
//! and decoded.

use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;
use wdsr_eval::{ImagePair, Pair, Protocol, Track, find_pairs};
use wdsr_image::{Limits, Reader};

use crate::error::Error;
use crate::image_cache::{ImageCache, Source};
use crate::patches::Share;
use crate::recipe::{DataFolder, Recipe};

/// Images to train on, and those to validate on. Clones share the decoded images.
#[derive(Clone)]
pub struct Images {
    /// Patches are cut from these.
    pub training: Arc<ImageCache>,
    /// Which of them belong to folders with weights; empty when the folders have none.
    pub shares: Vec<Share>,
    /// Never trained on.
    pub validation: Arc<[ValidationImage]>,
    /// Images too small for a patch, left out.
    pub too_small: Vec<String>,
    /// Of the names and sizes of all images used: a training goes on with these only.
    pub fingerprint: String,
}

/// An image to validate on.
pub struct ValidationImage {
    /// Its name.
    pub name: String,
    source: ValidationSource,
}

enum ValidationSource {
    Decoded(ImagePair),
    File(Pair),
}

impl ValidationImage {
    /// The images, and whether they had to be decoded for it.
    ///
    /// # Errors
    /// When an image that is not kept in memory can no longer be read.
    pub fn load(&self) -> Result<std::borrow::Cow<'_, ImagePair>, Error> {
        match &self.source {
            ValidationSource::Decoded(pair) => Ok(std::borrow::Cow::Borrowed(pair)),
            ValidationSource::File(pair) => Ok(std::borrow::Cow::Owned(pair.load()?)),
        }
    }
}

/// Where decoded images may be kept.
pub struct Storage<'s> {
    /// Memory for those to train on; if they need more, they go to a temporary file, and those to
    /// validate on are decoded each time.
    pub memory_bytes: u64,
    /// Folder of the temporary file.
    pub folder: &'s Path,
}

/// The images of a training, not decoded yet.
pub struct Found {
    training: Vec<Source>,
    validation: Vec<Source>,
    shares: Vec<Share>,
    too_small: Vec<String>,
    fingerprint: String,
}

impl Found {
    /// Finds the images of a recipe: of every folder of its data (images alone, or any layout
    /// of pairs that [`find_pairs`] knows). Those to validate on come from their own folder, or are
    /// kept from training, spread evenly.
    ///
    /// # Errors
    /// When a folder has no images, the size of one cannot be read, too few are large enough for
    /// a patch, or one to validate on is too small for the protocol.
    ///
    /// # Panics
    /// When the recipe names no folder.
    pub fn find(recipe: &Recipe) -> Result<Self, Error> {
        let (data, scale) = (&recipe.data, recipe.network.scale);
        assert!(!data.folders.is_empty(), "no folder to train on");
        let patch_px = recipe.training.patch_px;
        let (count, own_folder) = (recipe.validation.images, &data.validation);
        let kept = if own_folder.is_some() { 0 } else { count };

        let mut large: Vec<(usize, Source)> = Vec::new();
        let mut too_small = Vec::new();
        for (at, folder) in data.folders.iter().enumerate() {
            for source in sources(&folder.path, scale, data.track)? {
                if source.low_width_px.min(source.low_height_px) >= patch_px {
                    large.push((at, source));
                } else {
                    too_small.push(source.pair.name);
                }
            }
        }
        let path = || data.folders[0].path.clone();
        if large.len() <= kept {
            let reason = format!(
                "{} images of at least {patch_px} low-resolution pixels on each side, expected \
                 more than the {kept} kept for validation; add images, or lower \
                 validation.images or training.patch_px ({} images are smaller)",
                large.len(),
                too_small.len()
            );
            let path = path();
            return Err(Error::Data { path, reason });
        }
        // Image i of n is kept where i * kept / n steps up.
        let n = large.len();
        let keep = |i: usize| (i + 1) * kept / n != i * kept / n;
        let (mut training, mut validation) = (Vec::new(), Vec::new());
        for (i, (folder, source)) in large.into_iter().enumerate() {
            if keep(i) {
                validation.push(source);
            } else {
                training.push((folder, source));
            }
        }
        if let Some(folder) = own_folder {
            let found = sources(folder, scale, data.track)?;
            let used = if count == 0 { found.len() } else { count };
            validation = found.into_iter().take(used).collect();
        }
        for source in &validation {
            large_enough_to_validate(source, recipe.validation.protocol)?;
        }
        let shares = shares(&data.folders, training.iter().map(|(folder, _)| *folder))?;
        let training: Vec<Source> = training.into_iter().map(|(_, source)| source).collect();
        let fingerprint = fingerprint(&data.folders, &training, &validation);
        Ok(Self {
            training,
            validation,
            shares,
            too_small,
            fingerprint,
        })
    }

    /// What [`Images::fingerprint`] will be.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Decodes them. `progress` is told (images decoded, images in all).
    ///
    /// # Errors
    /// When an image cannot be read, or the temporary file not be written.
    pub fn decode(
        &self,
        storage: &Storage<'_>,
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<Images, Error> {
        let training = ImageCache::load(
            &self.training,
            storage.memory_bytes,
            storage.folder,
            progress,
        )?;
        let validation = self
            .validation
            .par_iter()
            .map(|source| {
                let pair = source.pair.clone();
                let name = pair.name.clone();
                let decoded = pair.load()?;
                let source = if training.is_in_file() {
                    ValidationSource::File(pair)
                } else {
                    ValidationSource::Decoded(decoded)
                };
                Ok(ValidationImage { name, source })
            })
            .collect::<Result<Vec<_>, Error>>()?;
        Ok(Images {
            training: Arc::new(training),
            shares: self.shares.clone(),
            validation: validation.into(),
            too_small: self.too_small.clone(),
            fingerprint: self.fingerprint.clone(),
        })
    }
}

/// Whether a protocol leaves something of an image to compare.
fn large_enough_to_validate(source: &Source, protocol: Protocol) -> Result<(), Error> {
    let scale = source.pair.scale;
    let [width_px, height_px] = [source.low_width_px, source.low_height_px].map(|px| px * scale);
    let shave_px = protocol.shave_px(scale);
    let least_px = 2 * shave_px + 1;
    if width_px.min(height_px) >= least_px {
        return Ok(());
    }
    Err(Error::Data {
        path: source.pair.high.clone(),
        reason: format!(
            "{width_px} x {height_px} pixels to validate on, expected at least {least_px} on each \
             side, as validation.protocol cuts {shave_px} off each; take it out, or raise \
             training.patch_px, which leaves small images out"
        ),
    })
}

/// The pairs of a folder with their sizes, which are read from the files' headers.
fn sources(folder: &Path, scale: usize, track: Track) -> Result<Vec<Source>, Error> {
    find_pairs(folder, scale, track)?
        .into_par_iter()
        .map(|pair| {
            let high = Reader::open(&pair.high, &Limits::default())?.outline();
            Ok(Source {
                pair,
                low_width_px: high.width_px / scale,
                low_height_px: high.height_px / scale,
            })
        })
        .collect()
}

/// Which images belong to which folder with a weight; `folder_of` says each image's folder,
/// in order.
fn shares(
    folders: &[DataFolder],
    folder_of: impl Iterator<Item = usize> + Clone,
) -> Result<Vec<Share>, Error> {
    let mut shares = Vec::new();
    let mut start = 0;
    for (at, folder) in folders.iter().enumerate() {
        let end = start + folder_of.clone().filter(|of| *of == at).count();
        if let Some(weight) = folder.weight {
            if start == end {
                let reason = "no image here is left to train on, but it has a weight; add \
                              images that are large enough, or take it out of data.folders"
                    .to_owned();
                let path = folder.path.clone();
                return Err(Error::Data { path, reason });
            }
            let images = start..end;
            shares.push(Share { images, weight });
        }
        start = end;
    }
    Ok(shares)
}

fn fingerprint(folders: &[DataFolder], training: &[Source], validation: &[Source]) -> String {
    let weights = folders.iter().map(|folder| format!("{:?}", folder.weight));
    let image = |source: &Source| {
        let (name, low) = (&source.pair.name, source.pair.low.is_some());
        let (width_px, height_px) = (source.low_width_px, source.low_height_px);
        format!("{name} {width_px} {height_px} {low}")
    };
    let images = training.iter().chain(validation).map(image);
    let text = weights.chain(images).collect::<Vec<_>>().join("\n");
    format!("{:08x}", crc32c::crc32c(text.as_bytes()))
}
