//! Bands: parts of an image of whole rows, each in a TIFF file of its own, which are joined to one file.

use std::fmt;
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};

use wdsr_atomic_file::AtomicFile;

use crate::error::Error;
use crate::format::Format;
use crate::reader::{Limits, Reader};
use crate::samples::{Depth, Outline, RowSample};
use crate::writer::Writer;

/// Bytes of rows that are copied at a time, rounded up to a whole row.
const COPIED_BYTES: usize = 1 << 20;

/// The place of a band in the image that it is a part of.
///
/// TIFF files hold it as a text in the tag [`Band::TAG`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Band {
    /// The rows of the image.
    pub rows: Range<usize>,
    /// The height of the image.
    pub height_px: usize,
    /// What the image is and how it was made, in a line. Only bands of the same origin are joined.
    pub origin: String,
}

impl Band {
    /// One of the tags that TIFF 6.0 leaves to anyone (65,000 and more).
    pub const TAG: u16 = 65_112;

    const MARK: &str = "wdsr-band";

    /// The text of the tag: mark, first row, end, height, origin.
    pub(crate) fn to_text(&self) -> String {
        let Self {
            rows,
            height_px,
            origin,
        } = self;
        let (mark, start, end) = (Self::MARK, rows.start, rows.end);
        format!("{mark} {start} {end} {height_px} {origin}")
    }

    /// The place in a text of [`to_text`](Self::to_text), for a band of so many rows.
    pub(crate) fn of_text(text: &str, band_height_px: usize) -> Option<Self> {
        let mut parts = text.strip_prefix(Self::MARK)?.splitn(5, ' ').skip(1);
        let mut number = || parts.next()?.parse().ok();
        let (start, end, height_px): (usize, usize, usize) = (number()?, number()?, number()?);
        let is_sound = start < end && end <= height_px && end - start == band_height_px;
        let origin = parts.next()?.to_owned();
        is_sound.then_some(Self {
            rows: start..end,
            height_px,
            origin,
        })
    }
}

/// Why bands were not joined.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// A band cannot be read, or the image cannot be written.
    #[error(transparent)]
    Image(#[from] Error),
    /// A file does not say its place.
    #[error(
        "{}: expected a band of an image (a result of wdsr upscale --rows), found an image without its place \
         in another",
        path.display()
    )]
    NoBand {
        /// The file.
        path: PathBuf,
    },
    /// Two bands are not of one image.
    #[error(
        "{}: its {what} is {found}, that of {} is {expected}; name the bands of one image, made with the \
         same options",
        path.display(), first.display()
    )]
    Differs {
        /// The band.
        path: PathBuf,
        /// The first band.
        first: PathBuf,
        /// What differs.
        what: &'static str,
        /// The value of the band.
        found: String,
        /// The value of the first band.
        expected: String,
    },
    /// Two bands have the same rows.
    #[error(
        "{}: its rows {} are also in {}; name one of the two",
        path.display(), Rows(rows), other.display()
    )]
    Overlap {
        /// The band.
        path: PathBuf,
        /// The rows that both have.
        rows: Range<usize>,
        /// The band before.
        other: PathBuf,
    },
    /// Rows that no band has.
    #[error(
        "rows {} of {height_px} are in none of the {count} bands; make them by wdsr upscale --rows {}",
        Rows(rows),
        Rows(rows)
    )]
    Missing {
        /// The rows.
        rows: Range<usize>,
        /// The height of the image.
        height_px: usize,
        /// The number of bands.
        count: usize,
    },
    /// A band is another file than when the work began.
    #[error("{}: it was changed while the bands were joined; join them again", path.display())]
    Changed {
        /// The band.
        path: PathBuf,
    },
    /// The progress function stopped the work.
    #[error("stopped")]
    Stopped,
}

/// Rows as an argument: `A:B`.
struct Rows<'a>(&'a Range<usize>);

impl fmt::Display for Rows<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0.start, self.0.end)
    }
}

/// A band that was opened to read its header.
struct Part {
    path: PathBuf,
    outline: Outline,
    band: Band,
}

/// Joins the bands of an image, in any order, to a TIFF file that is complete, but not published under its name.
/// Samples are copied, some rows at a time; the metadata is that of the upper band. The file is that of
/// the image written at once, byte for byte. `progress` gets (rows done, rows in all) and may stop the work.
///
/// Returns the file and the outline of the image.
///
/// # Errors
/// If a file is no band; if the bands are not of one image, made the same way; if rows are missing or twice; if a
/// file cannot be read or written. No part of the file is left.
///
/// # Panics
/// If there is no band.
pub fn join_bands(
    paths: &[PathBuf],
    output: &Path,
    limits: &Limits,
    progress: &dyn Fn(usize, usize) -> ControlFlow<()>,
) -> Result<(AtomicFile, Outline), JoinError> {
    assert!(!paths.is_empty(), "no bands");
    let mut parts = Vec::new();
    for path in paths {
        let (_, part) = open(path, limits)?;
        parts.push(part);
    }
    parts.sort_by_key(|part| (part.band.rows.start, part.band.rows.end));
    check(&parts)?;
    let (first, _) = open(&parts[0].path, limits)?;
    let mut metadata = first.metadata().clone();
    metadata.band = None;
    let outline = Outline {
        height_px: parts[0].band.height_px,
        ..parts[0].outline
    };
    let failed = |source| Error::Write {
        path: output.to_owned(),
        source,
    };
    let file = AtomicFile::create(output).map_err(failed)?;
    let mut writer = Writer::new(file, output, Format::Tiff, &outline, &metadata)?;
    for part in &parts {
        let (mut reader, again) = open(&part.path, limits)?;
        if (again.outline, &again.band) != (part.outline, &part.band) {
            let path = part.path.clone();
            return Err(JoinError::Changed { path });
        }
        let rows = &part.band.rows;
        let progress = |done: usize| progress(rows.start + done, outline.height_px);
        match outline.depth {
            Depth::U8 => copy::<u8>(&mut reader, &mut writer, &progress),
            Depth::U16 => copy::<u16>(&mut reader, &mut writer, &progress),
            Depth::F32 => copy::<f32>(&mut reader, &mut writer, &progress),
        }?;
    }
    let file = writer.finish()?;
    file.synchronise().map_err(failed)?;
    Ok((file, outline))
}

fn open(path: &Path, limits: &Limits) -> Result<(Reader, Part), JoinError> {
    let reader = Reader::open(path, limits)?;
    let (outline, path) = (reader.outline(), path.to_owned());
    match reader.metadata().band.clone() {
        Some(band) if reader.streams_rows() => Ok((
            reader,
            Part {
                path,
                outline,
                band,
            },
        )),
        _ => Err(JoinError::NoBand { path }),
    }
}

/// Checks that bands, in the order of their first rows, are an image.
fn check(parts: &[Part]) -> Result<(), JoinError> {
    let first = &parts[0];
    let height_px = first.band.height_px;
    let mut next_row = 0;
    for (number, part) in parts.iter().enumerate() {
        let texts = |part: &Part| {
            let Outline {
                width_px,
                colour,
                depth,
                ..
            } = part.outline;
            [
                ("width", width_px.to_string()),
                ("colour", format!("{colour:?}")),
                ("depth", format!("{} bit", 8 * depth.bytes())),
                ("whole height", part.band.height_px.to_string()),
                ("origin", format!("\"{}\"", part.band.origin)),
            ]
        };
        for ((what, found), (_, expected)) in texts(part).into_iter().zip(texts(first)) {
            if found != expected {
                return Err(JoinError::Differs {
                    path: part.path.clone(),
                    first: first.path.clone(),
                    what,
                    found,
                    expected,
                });
            }
        }
        let rows = &part.band.rows;
        if rows.start < next_row {
            return Err(JoinError::Overlap {
                path: part.path.clone(),
                rows: rows.start..rows.end.min(next_row),
                other: parts[number - 1].path.clone(),
            });
        }
        if rows.start > next_row {
            return Err(missing(next_row..rows.start, parts));
        }
        next_row = rows.end;
    }
    if next_row < height_px {
        return Err(missing(next_row..height_px, parts));
    }
    Ok(())
}

fn missing(rows: Range<usize>, parts: &[Part]) -> JoinError {
    JoinError::Missing {
        rows,
        height_px: parts[0].band.height_px,
        count: parts.len(),
    }
}

/// Copies all rows.
fn copy<T: RowSample + Default>(
    reader: &mut Reader,
    writer: &mut Writer<AtomicFile>,
    progress: &dyn Fn(usize) -> ControlFlow<()>,
) -> Result<(), JoinError> {
    let outline = reader.outline();
    let rows_at_a_time = COPIED_BYTES.div_ceil(outline.row_bytes());
    let mut rows = vec![T::default(); rows_at_a_time * outline.row_len()];
    let mut done = 0;
    while done < outline.height_px {
        let count = rows_at_a_time.min(outline.height_px - done);
        let rows = &mut rows[..count * outline.row_len()];
        reader.read_rows(rows)?;
        writer.write_rows(rows)?;
        done += count;
        if progress(done).is_break() {
            return Err(JoinError::Stopped);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_from_their_text_if_they_are_sound() {
        let band = Band {
            rows: 20..30,
            height_px: 40,
            origin: "wdsr 0.1.0, x2".to_owned(),
        };
        let text = band.to_text();
        assert_eq!(text, "wdsr-band 20 30 40 wdsr 0.1.0, x2");
        assert_eq!(Band::of_text(&text, 10).as_ref(), Some(&band));
        assert_eq!(Band::of_text(&text, 11), None, "another number of rows");
        for wrong in [
            "",
            "wdsr-band",
            "wdsr-band 20 30 40",
            "wdsr-band 30 20 40 x",
            "wdsr-band 20 30 29 x",
            "wdsr-band -1 9 40 x",
            "wdsr-band 18446744073709551616 30 40 x",
            "band 20 30 40 x",
        ] {
            assert_eq!(Band::of_text(wrong, 10), None, "{wrong}");
        }
    }
}
