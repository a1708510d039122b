//! What a training works on, written for a trainer in another program, which finds it beside the
//! checkpoint it begins with. `reference/twin.py` reads these files.
//!
//! [`BATCHES`] is a safetensors file of 8-bit samples: `low` `[updates, batch, 3, side, side]` and
//! `high` `[updates, batch, 3, scale side, scale side]`, R G B; its metadata `first_update` counts
//! the updates done before the first batch.
//!
//! `images-1.safetensors` and so on hold the images' files as they are: `INDEX.high`, and
//! `INDEX.low` where an image has one (elsewhere it is made by `imresize`, 8-bit after each
//! dimension). Their metadata `probabilities` is a JSON object: for each index of the file, how
//! probable the image is to be the next patch's.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, TensorView};

use crate::error::Error;
use crate::patches::Patches;

/// The batches, within the folder of a training.
pub const BATCHES: &str = "batches.safetensors";

const VERSION: &str = "1";
/// A file of images is ended before it would pass this.
const PART_BYTES: usize = 24 << 20;

/// A named tensor of bytes.
type Bytes = (String, Vec<usize>, Vec<u8>);

/// Writes the batches of a range of updates into a folder and returns the file.
pub(crate) fn write_batches(
    patches: &Patches,
    updates: Range<u64>,
    folder: &Path,
) -> Result<PathBuf, Error> {
    let (mut low, mut high) = (Vec::new(), Vec::new());
    for update in updates.clone() {
        let batch = patches.batch(update)?;
        for (bytes, planes) in [(&mut low, &batch.low), (&mut high, &batch.high)] {
            let samples = planes.iter().flat_map(|planes| planes.to_chw());
            bytes.extend(samples.map(|sample| (sample * 255.0).round() as u8));
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

/// Writes the images into files of a folder and returns these.
pub(crate) fn write_images(patches: &Patches, folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut parts = Vec::new();
    let mut tensors: Vec<Bytes> = Vec::new();
    let mut probabilities = BTreeMap::new();
    let mut end_part = |tensors: &mut Vec<Bytes>, probabilities: &mut BTreeMap<usize, f64>| {
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
        let mut own: Vec<Bytes> = Vec::new();
        for (role, path) in [("high", Some(&files.high)), ("low", files.low.as_ref())] {
            let Some(path) = path else { continue };
            let bytes = std::fs::read(path).map_err(|e| Error::io(path, "read", e))?;
            own.push((format!("{image}.{role}"), vec![bytes.len()], bytes));
        }
        let size = |tensors: &[Bytes]| tensors.iter().map(|(.., b)| b.len()).sum::<usize>();
        if !tensors.is_empty() && size(&tensors) + size(&own) > PART_BYTES {
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
    remark: (&str, String),
    tensors: &[Bytes],
) -> Result<(), Error> {
    let views = tensors.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::U8, shape.clone(), bytes)
            .unwrap_or_else(|e| unreachable!("shape {shape:?} of {name}: {e}"));
        (name, view)
    });
    let metadata = HashMap::from([
        ("format".to_owned(), format.to_owned()),
        ("version".to_owned(), VERSION.to_owned()),
        (remark.0.to_owned(), remark.1),
    ]);
    let bytes = safetensors::serialize(views, Some(metadata))
        .unwrap_or_else(|e| unreachable!("valid tensors serialise: {e}"));
    wdsr_image::write_atomically(path, &bytes)?;
    Ok(())
}
