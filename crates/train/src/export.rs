//! Exports of a training's dataset for a trainer in another program, written beside a checkpoint.
//! `reference/twin.py` reads these files.
//!
//! [`BATCHES`] is a safetensors file of 8-bit samples, R G B: `low` `[updates, batch, 3, side, side]`
//! and `high` `[updates, batch, 3, scale side, scale side]`. Its metadata `first_update` is the number
//! of updates before the first batch.
//!
//! `images-1.safetensors` and so on hold the image files themselves: `INDEX.high`, and `INDEX.low` if
//! an image has a low-resolution file (else `imresize` makes it, rounded to 8 bits after each
//! dimension). Their metadata `probabilities` is a JSON object with the probability of each image of
//! the file to be drawn.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, TensorView};

use crate::dataset::Patches;
use crate::error::Error;

/// Name of the file of batches.
pub const BATCHES: &str = "batches.safetensors";

const VERSION: &str = "1";
/// Maximum size of a file of images, unless a single image is larger.
const MAX_PART_BYTES: usize = 24 << 20;

/// Name, shape and bytes of a tensor.
type ByteTensor = (String, Vec<usize>, Vec<u8>);

/// Writes the batches of a range of updates into a folder. Returns the file.
pub(crate) fn write_batches(
    patches: &Patches,
    updates: Range<u64>,
    folder: &Path,
) -> Result<PathBuf, Error> {
    let (mut low, mut high) = (Vec::new(), Vec::new());
    for update in updates.clone() {
        for patch in patches.batch(update)?.pixels() {
            for (bytes, pixels) in [(&mut low, &patch.low), (&mut high, &patch.high)] {
                for channel in 0..3 {
                    bytes.extend(pixels[channel..].iter().step_by(3));
                }
            }
        }
    }
    let count = (updates.end - updates.start) as usize;
    let (low_px, scale) = (patches.patch_px(), patches.images().scale());
    let tensor = |name: &str, side_px: usize, bytes: Vec<u8>| {
        let shape = vec![count, patches.batch_size(), 3, side_px, side_px];
        (name.to_owned(), shape, bytes)
    };
    let tensors = [
        tensor("low", low_px, low),
        tensor("high", low_px * scale, high),
    ];
    let path = folder.join(BATCHES);
    let first = updates.start.to_string();
    write(&path, "wdsr-batches", ("first_update", first), &tensors)?;
    Ok(path)
}

/// Writes the training images into a folder. Returns the files.
pub(crate) fn write_images(patches: &Patches, folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut parts = Vec::new();
    let mut tensors: Vec<ByteTensor> = Vec::new();
    let mut probabilities = BTreeMap::new();
    let mut end_part = |tensors: &mut Vec<ByteTensor>, probabilities: &mut BTreeMap<usize, f64>| {
        let path = folder.join(format!("images-{}.safetensors", parts.len() + 1));
        let json = serde_json::to_string(probabilities)
            .unwrap_or_else(|e| unreachable!("numbers are plain JSON: {e}"));
        write(&path, "wdsr-images", ("probabilities", json), tensors)?;
        parts.push(path);
        tensors.clear();
        probabilities.clear();
        Ok::<_, Error>(())
    };
    for (image, probability) in patches.probabilities().into_iter().enumerate() {
        let files = patches.images().files(image);
        let mut own: Vec<ByteTensor> = Vec::new();
        for (role, path) in [("high", Some(&files.high)), ("low", files.low.as_ref())] {
            let Some(path) = path else { continue };
            let bytes = std::fs::read(path).map_err(|e| Error::io(path, "read", e))?;
            own.push((format!("{image}.{role}"), vec![bytes.len()], bytes));
        }
        let size = |tensors: &[ByteTensor]| tensors.iter().map(|(.., b)| b.len()).sum::<usize>();
        if !tensors.is_empty() && size(&tensors) + size(&own) > MAX_PART_BYTES {
            end_part(&mut tensors, &mut probabilities)?;
        }
        tensors.append(&mut own);
        probabilities.insert(image, probability);
    }
    end_part(&mut tensors, &mut probabilities)?;
    Ok(parts)
}

fn write(
    path: &Path,
    format: &str,
    (key, value): (&str, String),
    tensors: &[ByteTensor],
) -> Result<(), Error> {
    let views = tensors.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::U8, shape.clone(), bytes)
            .unwrap_or_else(|e| unreachable!("shape {shape:?} of {name}: {e}"));
        (name, view)
    });
    let metadata = HashMap::from([
        ("format".to_owned(), format.to_owned()),
        ("version".to_owned(), VERSION.to_owned()),
        (key.to_owned(), value),
    ]);
    let bytes = safetensors::serialize(views, Some(metadata))
        .unwrap_or_else(|e| unreachable!("valid tensors serialise: {e}"));
    wdsr_image::write_atomically(path, &bytes)?;
    Ok(())
}
