//! Where results go: to OUT, or beside the images.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use wdsr_batch::{Input, is_folder, is_pattern, is_url};
use wdsr_image::Format;
use wdsr_upscale::SizeRequest;

use super::rows::Rows;
use super::{Arguments, WrongUsage};

/// Where the results of a batch go.
pub(super) enum Destination {
    /// OUT is the file of the only image.
    File(PathBuf),
    /// A folder that gets the tree of the inputs; names have this end, which is empty unless there are bands.
    Folder { folder: PathBuf, name_end: String },
    /// Each result stands beside its image and has its name with this end, such as `-x2`.
    Beside { name_end: String },
}

impl Destination {
    /// `scale` is that of one pass of the model.
    ///
    /// # Errors
    /// If OUT is missing and there are several inputs with a folder among them.
    pub(super) fn of(arguments: &Arguments, scale: usize) -> Result<Self, WrongUsage> {
        let rows_end = arguments.rows.map_or_else(String::new, Rows::name_end);
        if let Some(output) = &arguments.output {
            return Ok(match arguments.is_into_folder(output) {
                true => Self::Folder {
                    folder: output.clone(),
                    name_end: rows_end,
                },
                false => Self::File(output.clone()),
            });
        }
        let size_end = name_end(arguments.size.request(), scale);
        let inputs = arguments.inputs();
        match inputs.iter().find(|input| is_folder(input)) {
            None => Ok(Self::Beside {
                name_end: size_end + &rows_end,
            }),
            Some(url) if is_url(url) => Err(WrongUsage(format!(
                "{}: give the folder for the results by -o",
                url.display()
            ))),
            Some(folder) if inputs.len() == 1 => Ok(Self::Folder {
                folder: beside(folder, &size_end)?,
                name_end: rows_end,
            }),
            Some(folder) => Err(WrongUsage(format!(
                "{} is a folder among several inputs; give the folder for the results by -o",
                folder.display()
            ))),
        }
    }

    /// The folder that gets all results.
    pub(super) fn folder(&self) -> Option<&Path> {
        match self {
            Self::Folder { folder, .. } => Some(folder),
            _ => None,
        }
    }

    /// Removes the inputs that have the name of another input's result: `wdsr *.jpg` a second time. Returns
    /// each with the other.
    pub(super) fn take_results(&self, inputs: &mut Vec<Input>) -> Vec<(PathBuf, PathBuf)> {
        let Self::Beside { name_end } = self else {
            return Vec::new();
        };
        let stems = inputs.iter().map(|input| input.path.with_extension(""));
        let places: HashMap<PathBuf, usize> = stems.zip(0..).collect();
        let image_of = |input: &Input| {
            let stem = input.path.file_stem()?.to_str()?;
            let image = input.path.with_file_name(stem.strip_suffix(name_end)?);
            places.get(&image).copied()
        };
        let images = Vec::from_iter(inputs.iter().map(image_of));
        let paths = Vec::from_iter(inputs.iter().map(|input| input.path.clone()));
        let mut is_image = images.iter().map(Option::is_none);
        inputs.retain(|_| is_image.next() == Some(true));
        let results = paths.iter().zip(&images);
        results
            .filter_map(|(path, image)| Some((path.clone(), paths[(*image)?].clone())))
            .collect()
    }

    /// The name of an input's result.
    pub(super) fn result(&self, input: &Input, format: Format) -> PathBuf {
        let named = |end: &str| {
            let mut name = input.relative.file_stem().unwrap_or_default().to_owned();
            name.push(end);
            name.push(".");
            name.push(format.extension());
            name
        };
        match self {
            Self::File(file) => file.clone(),
            Self::Folder { folder, name_end } => {
                folder.join(&input.relative).with_file_name(named(name_end))
            }
            Self::Beside { name_end } => input.path.with_file_name(named(name_end)),
        }
    }
}

/// `photos-x2` for `photos`.
fn beside(folder: &Path, name_end: &str) -> Result<PathBuf, WrongUsage> {
    let named = |folder: &Path| {
        let mut name = folder.file_name()?.to_owned();
        name.push(name_end);
        Some(folder.with_file_name(name))
    };
    // `.` and `..` have no name of their own.
    let found = named(folder).or_else(|| named(&folder.canonicalize().ok()?));
    found.ok_or_else(|| {
        let message = format!(
            "{}: give the folder for the results by -o",
            folder.display()
        );
        WrongUsage(message)
    })
}

/// What a result's name has after that of its image: `-x2`, or the size that was asked for.
fn name_end(size: SizeRequest, scale: usize) -> String {
    match size {
        SizeRequest::OnePass => format!("-x{scale}"),
        SizeRequest::Factor(factor) => format!("-x{factor}"),
        SizeRequest::Width(px) => format!("-{px}w"),
        SizeRequest::Height(px) => format!("-{px}h"),
        SizeRequest::Longest(px) => format!("-{px}px"),
        SizeRequest::Exactly(size) => format!("-{}x{}", size.width_px, size.height_px),
    }
}

impl Arguments {
    /// Whether a given OUT is a folder for the results.
    pub(super) fn is_into_folder(&self, output: &Path) -> bool {
        let inputs = self.inputs();
        inputs.len() > 1
            || is_folder(&inputs[0])
            || is_pattern(&inputs[0])
            || names_folder(output)
            || output.extension().is_none() && self.format.is_none()
    }

    /// The format of the result of an image of format `found`.
    pub(super) fn format_for(&self, found: Format) -> Format {
        let usual = match self.rows {
            Some(_) => Format::Tiff,
            None => found.of_result(),
        };
        self.chosen_format().unwrap_or(usual)
    }

    /// The format that -f chooses, or the suffix of OUT unless that is a folder.
    pub(super) fn chosen_format(&self) -> Option<Format> {
        let file = self.output.as_deref();
        let file = file.filter(|output| !self.is_into_folder(output));
        self.format.or_else(|| Format::from_extension(file?))
    }
}

/// Whether a path is that of a folder: there is one, or it ends with a separator.
pub(super) fn names_folder(path: &Path) -> bool {
    let last = path.as_os_str().as_encoded_bytes().last();
    is_folder(path) || last.is_some_and(|byte| std::path::is_separator(char::from(*byte)))
}
