//! Reading image files.
//!
//! The crates `png`, `jpeg-decoder`, `tiff`, `jxl-oxide`, `re_rav1d` and `image` decode. Around them, here and for
//! every format alike: the size is checked from the header before memory for pixels is allocated, the
//! orientation is applied, an ICC profile of another colour space is dropped, and errors name the file.

mod after_end;
mod animation;
#[cfg(feature = "avif")]
mod avif;
mod gif;
mod jpeg;
mod jpeg_end;
mod jpeg_scan;
#[cfg(feature = "jpeg-xl")]
mod jxl;
mod netpbm;
mod plain;
mod png;
mod tiff;
mod tiff_directories;

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Cursor, Read, Seek, SeekFrom};
#[cfg(any(feature = "avif", feature = "jpeg-xl"))]
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::metadata::Orientation;
use image::{ImageError, ImageFormat};
use xxhash_rust::xxh3::xxh3_128;

use crate::animation::Animation;
use crate::deadline::{Checked, Deadline, Stops};
use crate::error::{Error, one_line};
use crate::format::Format;
use crate::hash::hash_of;
use crate::memory::is_memory_free;
use crate::metadata::Metadata;
use crate::pixels::Image;
use crate::samples::{Outline, RowSample, Samples};
use crate::unread;

pub use animation::Frames;

/// The signature of a bare codestream of JPEG XL.
const CODESTREAM: &[u8] = &[0xff, 0x0a];
/// The signature of its container: a box of its own.
const CONTAINER: &[u8] = b"\0\0\0\x0cJXL \r\n\x87\n";

/// The largest image that is decoded, and until when. The header is checked before memory is allocated.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Most pixels, width x height; a billion by default (3 GB as 8-bit RGB).
    pub max_pixels: u64,
    /// Most memory in bytes for the pixels while a whole image is decoded, without the file's own
    /// bytes; unlimited by default, but for the memory that is available.
    pub max_bytes: u64,
    /// When reading the image ends; never by default.
    pub deadline: Deadline,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_pixels: 1_000_000_000,
            max_bytes: u64::MAX,
            deadline: Deadline::default(),
        }
    }
}

impl Limits {
    /// Checks a size against [`max_pixels`](Self::max_pixels). Errors name the image by `name`.
    ///
    /// # Errors
    ///
    /// If it has more pixels.
    pub fn check(&self, width_px: usize, height_px: usize, name: &Path) -> Result<(), Error> {
        let pixels = (width_px as u64).saturating_mul(height_px as u64);
        let max_pixels = self.max_pixels;
        if pixels <= max_pixels {
            return Ok(());
        }
        Err(Error::TooLarge {
            path: name.to_owned(),
            width_px,
            height_px,
            pixels,
            max_pixels,
        })
    }
}

/// Memory that a decoder may allocate for anything but pixels: profiles, text, tables.
const MAX_METADATA_BYTES: u64 = 64 << 20;

/// Files up to this length are read into memory at once; of longer ones only JPEG and JPEG XL are.
const MAX_BYTES_IN_MEMORY: u64 = 8 << 20;

/// Reads one image from a file or from memory. The content decides the format, not the suffix.
///
/// When it is opened, the reader knows the format, the upright size, the colour, the depth and all
/// metadata, and has checked the size against [`Limits`]. Pixels are then read by rows or all at once.
///
/// Samples keep the file's depth; palettes and 1, 2 or 4-bit samples are expanded to 8 bit, CMYK
/// becomes RGB. The orientation (of EXIF, TIFF or JPEG XL) is applied. Of a TIFF with several
/// directories those of full size are its [`pages`](Self::pages), and the first is read; [`next_page`](Self::next_page)
/// reads the others. Of an animation [`into_frames`](Self::into_frames) reads the frames. Camera raw files are refused.
///
/// The file is opened once. Files up to 8 MiB, and all JPEG and JPEG XL files, are read into memory
/// and decoded from there; longer ones are read as they are decoded.
///
/// # Examples
/// ```
/// use std::path::Path;
/// use wdsr_image::{Colour, Format, Image, Limits, Reader, Samples, encode_bytes};
///
/// let image = Image::new(3, 2, Colour::Grey, Samples::U8(vec![1, 2, 3, 4, 5, 6]));
/// let file = encode_bytes(&image, Format::Png)?;
/// let mut reader = Reader::from_bytes(file, Path::new("grey.png"), &Limits::default())?;
/// assert_eq!(reader.outline(), image.outline());
/// assert!(reader.streams_rows());
/// let mut row = [0_u8; 3];
/// reader.read_rows(&mut row)?;
/// assert_eq!(row, [1, 2, 3]);
/// # Ok::<(), wdsr_image::Error>(())
/// ```
pub struct Reader {
    name: PathBuf,
    format: Format,
    limits: Limits,
    outline: Outline,
    metadata: Metadata,
    omitted: Vec<String>,
    animation: Option<Animation>,
    pages: Option<tiff::Pages>,
    orientation: Orientation,
    /// Width and height before the orientation is applied.
    stored_size: (usize, usize),
    streams_rows: bool,
    whole_bytes: u64,
    rows_bytes: u64,
    rows_left: usize,
    decoder: Box<dyn Decode>,
    content: Content,
}

/// The file's bytes, beside the decoder.
enum Content {
    Memory {
        len_bytes: u64,
        hash: u128,
        /// The bytes, for decoders that can start again.
        bytes: Option<SharedBytes>,
    },
    /// Another handle of the decoder's file.
    File(File),
}

/// What a decoder knows after the header.
struct Header {
    /// As the pixels are stored.
    outline: Outline,
    orientation: Orientation,
    metadata: Metadata,
    /// What the file contains beside the image and its metadata, each with the reason why it is not
    /// read.
    omitted: Vec<String>,
    /// If it has more than one frame.
    animation: Option<Animation>,
    /// The pages of a TIFF file.
    pages: Option<tiff::Pages>,
    /// Whether [`Decode::read_rows`] can be used.
    streams_rows: bool,
    /// Memory in bytes for the pixels while the whole image is decoded.
    whole_bytes: u64,
    /// Memory in bytes of a decoder that reads rows.
    rows_bytes: u64,
}

/// A decoder that has read the header.
trait Decode: Send {
    /// Fills `rows` with the next whole rows, in the machine's byte order, where
    /// [`Header::streams_rows`] is true.
    fn read_rows(&mut self, _rows: &mut [u8], name: &Path) -> Result<(), Error> {
        unreachable!("{} does not stream rows", name.display())
    }

    /// Skips whole rows, where [`Header::streams_rows`] is true.
    fn skip_rows(&mut self, count: usize, row_bytes: usize, name: &Path) -> Result<(), Error> {
        let mut row = vec![0; row_bytes];
        (0..count).try_for_each(|_| self.read_rows(&mut row, name))
    }

    /// Starts again with the first row of the same file, where [`Header::streams_rows`] is true.
    fn restart(&mut self, _source: Source, name: &Path) -> Result<(), Error> {
        unreachable!("{} does not stream rows", name.display())
    }

    /// [`Reader::jpeg_table_scale`].
    fn jpeg_table_scale(&self) -> Option<f64> {
        None
    }

    /// All samples as they are stored.
    fn read_all(self: Box<Self>, name: &Path) -> Result<Samples, Error>;

    /// The frames, where [`Header::animation`] is set.
    fn frames(self: Box<Self>, name: &Path) -> Result<image::Frames<'static>, Error> {
        unreachable!("{} is no animation", name.display())
    }
}

impl Reader {
    /// Opens a file and reads its header and metadata.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is empty, not an image, above `limits`, of an unsupported kind, or its
    /// header is damaged.
    pub fn open(path: &Path, limits: &Limits) -> Result<Self, Error> {
        let (name, moved) = (path.to_owned(), limits.clone());
        let open = move || Self::open_within(&name, &moved);
        limits.deadline.within(path, Stops::Soon, open)
    }

    /// Reads the header and metadata of an open file, from its position. Errors name it by `name`.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open).
    pub fn from_file(file: File, name: &Path, limits: &Limits) -> Result<Self, Error> {
        let (path, moved) = (name.to_owned(), limits.clone());
        let open = move || Self::from_file_within(BufReader::new(file), &path, &moved);
        limits.deadline.within(name, Stops::Soon, open)
    }

    fn open_within(path: &Path, limits: &Limits) -> Result<Self, Error> {
        Self::from_file_within(open(path)?, path, limits)
    }

    fn from_file_within(
        mut file: BufReader<File>,
        path: &Path,
        limits: &Limits,
    ) -> Result<Self, Error> {
        let read = |source| Error::Read {
            path: path.to_owned(),
            source,
        };
        let format = format_of(&mut file, path)?;
        let len_bytes = file.get_ref().metadata().map_err(read)?.len();
        let deadline = &limits.deadline;
        let needs_memory = matches!(format, Format::Jpeg | Format::JpegXl | Format::Avif);
        if needs_memory || len_bytes <= MAX_BYTES_IN_MEMORY {
            let mut bytes = Vec::new();
            let read_all = Checked::new(file, deadline.clone()).read_to_end(&mut bytes);
            read_all.map_err(read)?;
            return Self::from_bytes_within(bytes, path, limits);
        }
        let handle = file.get_ref().try_clone().map_err(read)?;
        Self::new(
            Source::new(Bytes::File(file), deadline.clone()),
            Content::File(handle),
            format,
            path,
            limits,
        )
    }

    /// Reads the header and metadata of a file that is in memory. Errors name it by `name`.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open).
    pub fn from_bytes(
        bytes: impl Into<Vec<u8>>,
        name: &Path,
        limits: &Limits,
    ) -> Result<Self, Error> {
        let (bytes, path, moved) = (bytes.into(), name.to_owned(), limits.clone());
        let open = move || Self::from_bytes_within(bytes, &path, &moved);
        limits.deadline.within(name, Stops::Soon, open)
    }

    fn from_bytes_within(bytes: Vec<u8>, name: &Path, limits: &Limits) -> Result<Self, Error> {
        let (len_bytes, hash) = (bytes.len() as u64, xxh3_128(&bytes));
        let bytes = SharedBytes(Arc::new(bytes));
        let format = format_of(&mut Cursor::new(bytes.clone()), name)?;
        let content = Content::Memory {
            len_bytes,
            hash,
            bytes: matches!(format, Format::Png | Format::Tiff).then(|| bytes.clone()),
        };
        let source = Source::new(Bytes::Memory(Cursor::new(bytes)), limits.deadline.clone());
        Self::new(source, content, format, name, limits)
    }

    fn new(
        source: Source,
        content: Content,
        format: Format,
        name: &Path,
        limits: &Limits,
    ) -> Result<Self, Error> {
        let opened = match format {
            Format::Png => png::open(source, name, limits)?,
            Format::Tiff => tiff::open(source, name, limits)?,
            Format::Jpeg => jpeg::open(source, name, limits)?,
            #[cfg(feature = "jpeg-xl")]
            Format::JpegXl => jxl::open(source, name, limits)?,
            #[cfg(not(feature = "jpeg-xl"))]
            Format::JpegXl => {
                return Err(Error::Unsupported {
                    path: name.to_path_buf(),
                    format,
                    reason: "this build reads none".to_owned(),
                });
            }
            #[cfg(feature = "avif")]
            Format::Avif => avif::open(source, name, limits)?,
            #[cfg(not(feature = "avif"))]
            Format::Avif => unreachable!("AVIF is not recognised"),
            Format::Netpbm => netpbm::open(source, name, limits)?,
            Format::Gif => gif::open(source, name, limits)?,
            Format::WebP | Format::Bmp | Format::Dds | Format::Qoi | Format::Tga => {
                plain::open(source, format, name, limits)?
            }
        };
        Ok(Self::of(opened, content, format, name, limits))
    }

    fn of(
        (header, decoder): (Header, Box<dyn Decode>),
        content: Content,
        format: Format,
        name: &Path,
        limits: &Limits,
    ) -> Self {
        let Header {
            mut outline,
            orientation,
            mut metadata,
            omitted,
            animation,
            pages,
            streams_rows,
            whole_bytes,
            rows_bytes,
        } = header;
        let stored_size = (outline.width_px, outline.height_px);
        if let Orientation::Rotate90
        | Orientation::Rotate270
        | Orientation::Rotate90FlipH
        | Orientation::Rotate270FlipH = orientation
        {
            (outline.width_px, outline.height_px) = (outline.height_px, outline.width_px);
        }
        metadata.drop_foreign_profile(outline.colour);
        Self {
            name: name.to_owned(),
            format,
            limits: limits.clone(),
            outline,
            metadata,
            omitted,
            animation,
            pages,
            orientation,
            stored_size,
            streams_rows: streams_rows && orientation == Orientation::NoTransforms,
            whole_bytes,
            rows_bytes,
            rows_left: outline.height_px,
            decoder,
            content,
        }
    }

    /// The path or name that errors use.
    pub fn name(&self) -> &Path {
        &self.name
    }

    /// The limits that it was opened with.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The format, by content.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Upright size, colour and depth of the image.
    pub fn outline(&self) -> Outline {
        self.outline
    }

    /// The metadata, without what is damaged and without an ICC profile of another colour space;
    /// [`Metadata::dropped`] names both.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// What the file contains beside the image and its metadata, each with the reason why it is not read:
    /// further images, a gain map, a video, data after the end of the image.
    pub fn omitted(&self) -> &[String] {
        &self.omitted
    }

    /// The animation, if the file has more than one frame.
    pub fn animation(&self) -> Option<Animation> {
        self.animation
    }

    /// Number of pages: of a TIFF file its images of full size, else 1.
    pub fn pages(&self) -> usize {
        self.pages.as_ref().map_or(1, tiff::Pages::count)
    }

    /// Opens the page after this one; `None` if this is the last.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open).
    pub fn next_page(&self) -> Result<Option<Self>, Error> {
        let Some(pages) = self.pages.as_ref().and_then(tiff::Pages::next) else {
            return Ok(None);
        };
        let content = match &self.content {
            Content::Memory {
                len_bytes,
                hash,
                bytes,
            } => Content::Memory {
                len_bytes: *len_bytes,
                hash: *hash,
                bytes: bytes.clone(),
            },
            Content::File(file) => {
                let handle = file.try_clone();
                Content::File(handle.map_err(|source| self.read_failed(source))?)
            }
        };
        let (source, name, limits) = (self.source()?, self.name.clone(), self.limits.clone());
        let deadline = limits.deadline.clone();
        let open = move || {
            let opened = tiff::open_page(source, Some(pages), Vec::new(), &name, &limits)?;
            Ok(Self::of(opened, content, Format::Tiff, &name, &limits))
        };
        deadline.within(&self.name, Stops::Soon, open).map(Some)
    }

    fn read_failed(&self, source: io::Error) -> Error {
        let path = self.name.clone();
        Error::Read { path, source }
    }

    /// The file from its start.
    fn source(&self) -> Result<Source, Error> {
        let bytes = match &self.content {
            Content::Memory { bytes, .. } => {
                let bytes = bytes
                    .clone()
                    .expect("decoders that start again have kept bytes");
                Bytes::Memory(Cursor::new(bytes))
            }
            Content::File(file) => {
                let reopen = || {
                    let mut file = file.try_clone()?;
                    file.rewind()?;
                    Ok(Bytes::File(BufReader::new(file)))
                };
                reopen().map_err(|source| self.read_failed(source))?
            }
        };
        Ok(Source::new(bytes, self.limits.deadline.clone()))
    }

    /// Of a JPEG file: by how much its luma quantisation steps are larger than those of Annex K (ITU-T
    /// T.81), which are libjpeg's at quality 50.
    pub fn jpeg_table_scale(&self) -> Option<f64> {
        self.decoder.jpeg_table_scale()
    }

    /// Whether [`read_rows`](Self::read_rows) can be used: the image is a PNG that is not interlaced,
    /// or a TIFF whose strips or tiles hold 8-bit, 16-bit or float grey or RGB, upright, and its file
    /// is not truncated.
    pub fn streams_rows(&self) -> bool {
        self.streams_rows
    }

    /// Memory in bytes that reading rows takes beside the rows.
    pub fn rows_memory_bytes(&self) -> u64 {
        self.held_bytes() + self.rows_bytes
    }

    /// Memory in bytes that [`read_all`](Self::read_all) takes for the pixels and the file.
    pub fn whole_memory_bytes(&self) -> u64 {
        self.held_bytes() + self.whole_bytes
    }

    /// Bytes of the file that are in memory.
    fn held_bytes(&self) -> u64 {
        match self.content {
            Content::Memory { len_bytes, .. } => len_bytes,
            Content::File(_) => 0,
        }
    }

    /// XXH3 (128 bit) of the file's bytes. A file that is not in memory is read for it once more.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn content_hash(&mut self) -> Result<u128, Error> {
        let file = match &mut self.content {
            Content::Memory { hash, .. } => return Ok(*hash),
            Content::File(file) => file,
        };
        let mut hash = || {
            // The decoder's handle shares the position.
            let position = file.stream_position()?;
            file.rewind()?;
            let hash = hash_of(Checked::new(&mut *file, self.limits.deadline.clone()))?;
            file.seek(SeekFrom::Start(position))?;
            Ok(hash)
        };
        let hash = hash().map_err(|source| Error::Read {
            path: self.name.clone(),
            source,
        });
        self.limits.deadline.explained(hash, &self.name)
    }

    /// Fills `rows` with the next whole rows.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is truncated or damaged.
    ///
    /// # Panics
    ///
    /// If [`streams_rows`](Self::streams_rows) is false, the samples have another depth than the
    /// image, or `rows` are not whole rows or more than are left.
    pub fn read_rows<T: RowSample>(&mut self, rows: &mut [T]) -> Result<(), Error> {
        assert!(self.streams_rows, "rows of {}", self.name.display());
        assert_eq!(
            T::DEPTH,
            self.outline.depth,
            "depth of the rows and of the image"
        );
        let row_len = self.outline.row_len();
        let count = rows.len() / row_len;
        assert!(
            rows.len() == count * row_len && count <= self.rows_left,
            "{} samples asked, {} rows of {row_len} left",
            rows.len(),
            self.rows_left
        );
        self.rows_left -= count;
        let rows = bytemuck::cast_slice_mut(rows);
        let rows = self.decoder.read_rows(rows, &self.name);
        self.limits.deadline.explained(rows, &self.name)
    }

    /// Skips the next rows; of a TIFF, strips and tiles without a wanted row are not decoded.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is truncated or damaged.
    ///
    /// # Panics
    ///
    /// If [`streams_rows`](Self::streams_rows) is false, or fewer rows are left.
    pub fn skip_rows(&mut self, count: usize) -> Result<(), Error> {
        assert!(self.streams_rows, "rows of {}", self.name.display());
        let left = self.rows_left;
        assert!(count <= left, "{count} rows to skip, {left} left");
        self.rows_left -= count;
        let row_bytes = self.outline.row_bytes();
        let skipped = self.decoder.skip_rows(count, row_bytes, &self.name);
        self.limits.deadline.explained(skipped, &self.name)
    }

    /// Starts again with the first row.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    ///
    /// # Panics
    ///
    /// If [`streams_rows`](Self::streams_rows) is false.
    pub fn restart(&mut self) -> Result<(), Error> {
        assert!(self.streams_rows, "rows of {}", self.name.display());
        let source = self.source()?;
        self.rows_left = self.outline.height_px;
        let restarted = self.decoder.restart(source, &self.name);
        self.limits.deadline.explained(restarted, &self.name)
    }

    /// Reads the whole image.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is truncated, damaged (of a JPEG: a scan whose codes do not fill its
    /// blocks), an animation, or its pixels take more memory than [`Limits::max_bytes`] or than is available.
    ///
    /// # Panics
    ///
    /// If rows were read before.
    pub fn read_all(self) -> Result<Image, Error> {
        let outline = self.outline;
        assert_eq!(self.rows_left, outline.height_px, "rows left of the image");
        check_memory(self.whole_bytes, &self.name, &self.limits)?;
        let (decoder, name) = (self.decoder, self.name.clone());
        let stops = match self.format {
            Format::JpegXl | Format::Avif | Format::WebP => Stops::Late,
            _ => Stops::Soon,
        };
        let decode = move || decoder.read_all(&name);
        let samples = self.limits.deadline.within(&self.name, stops, decode)?;
        let (width_px, height_px) = self.stored_size;
        let mut image =
            Image::new(width_px, height_px, outline.colour, samples).turned(self.orientation);
        debug_assert_eq!(image.outline(), outline, "decoded and announced");
        image.metadata = self.metadata;
        Ok(image)
    }

    /// The frames of an animation, each whole and of the size of the outline.
    ///
    /// # Errors
    ///
    /// If the file is damaged, or its pixels take more memory than [`Limits::max_bytes`] or than is available.
    ///
    /// # Panics
    ///
    /// If the file is no [`animation`](Self::animation).
    pub fn into_frames(self) -> Result<Frames, Error> {
        let Some(animation) = self.animation else {
            panic!("frames of {}, which is no animation", self.name.display());
        };
        check_memory(self.whole_bytes, &self.name, &self.limits)?;
        Ok(Frames {
            decoded: self.decoder.frames(&self.name)?,
            name: self.name,
            format: self.format,
            outline: Outline {
                width_px: self.stored_size.0,
                height_px: self.stored_size.1,
                ..self.outline
            },
            orientation: self.orientation,
            deadline: self.limits.deadline,
            left: animation.frames,
        })
    }
}

/// Reads an image file: [`Reader::open`] and [`Reader::read_all`].
///
/// # Errors
///
/// Those of both.
pub fn decode(path: &Path, limits: &Limits) -> Result<Image, Error> {
    Reader::open(path, limits)?.read_all()
}

/// Reads an image file that is in memory: [`Reader::from_bytes`] and [`Reader::read_all`].
///
/// # Errors
///
/// Those of both.
pub fn decode_bytes(bytes: &[u8], name: &Path, limits: &Limits) -> Result<Image, Error> {
    Reader::from_bytes(bytes, name, limits)?.read_all()
}

impl Format {
    /// The format by the first bytes of a file, 16 or more.
    pub(crate) fn of_start(start: &[u8]) -> Option<Self> {
        // BigTIFF, which the `image` crate does not know.
        if start.starts_with(b"II+\0") || start.starts_with(b"MM\0+") {
            return Some(Self::Tiff);
        }
        if start.starts_with(CODESTREAM) || start.starts_with(CONTAINER) {
            return Some(Self::JpegXl);
        }
        if cfg!(feature = "avif") && matches!(start.get(4..12), Some(b"ftypavif" | b"ftypavis")) {
            return Some(Self::Avif);
        }
        if netpbm::starts(start) {
            return Some(Self::Netpbm);
        }
        match image::guess_format(start).ok()? {
            ImageFormat::Png => Some(Self::Png),
            ImageFormat::Jpeg => Some(Self::Jpeg),
            ImageFormat::WebP => Some(Self::WebP),
            ImageFormat::Tiff => Some(Self::Tiff),
            ImageFormat::Bmp => Some(Self::Bmp),
            ImageFormat::Gif => Some(Self::Gif),
            ImageFormat::Dds => Some(Self::Dds),
            ImageFormat::Qoi => Some(Self::Qoi),
            _ => None,
        }
    }

    /// The format of a file by its first bytes, whatever its suffix.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is empty, or has none of the formats.
    pub fn of_file(path: &Path) -> Result<Self, Error> {
        format_of(&mut open(path)?, path)
    }
}

/// A file that is read until a deadline.
struct Source {
    bytes: Bytes,
    deadline: Deadline,
}

enum Bytes {
    File(BufReader<File>),
    Memory(Cursor<SharedBytes>),
}

/// The bytes of a file that is read once more.
#[derive(Clone)]
struct SharedBytes(Arc<Vec<u8>>);

impl AsRef<[u8]> for SharedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Source {
    fn new(bytes: Bytes, deadline: Deadline) -> Self {
        Self { bytes, deadline }
    }

    fn memory(bytes: Vec<u8>, deadline: Deadline) -> Self {
        let bytes = Bytes::Memory(Cursor::new(SharedBytes(Arc::new(bytes))));
        Self::new(bytes, deadline)
    }

    fn len_bytes(&mut self) -> io::Result<u64> {
        match &mut self.bytes {
            Bytes::File(file) => Ok(file.get_ref().metadata()?.len()),
            Bytes::Memory(bytes) => Ok(bytes.get_ref().0.len() as u64),
        }
    }

    /// All bytes.
    fn into_bytes(self, name: &Path) -> Result<Vec<u8>, Error> {
        match self.bytes {
            Bytes::Memory(bytes) => Ok(Arc::unwrap_or_clone(bytes.into_inner().0)),
            Bytes::File(mut file) => {
                let mut bytes = Vec::new();
                let rewound = file.rewind();
                let mut file = Checked::new(file, self.deadline);
                let read = rewound.and_then(|()| file.read_to_end(&mut bytes).map(drop));
                let path = name.to_owned();
                read.map_err(|source| Error::Read { path, source })?;
                Ok(bytes)
            }
        }
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.deadline.check()?;
        match &mut self.bytes {
            Bytes::File(file) => file.read(buffer),
            Bytes::Memory(bytes) => bytes.read(buffer),
        }
    }
}

impl BufRead for Source {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.deadline.check()?;
        match &mut self.bytes {
            Bytes::File(file) => file.fill_buf(),
            Bytes::Memory(bytes) => bytes.fill_buf(),
        }
    }

    fn consume(&mut self, count: usize) {
        match &mut self.bytes {
            Bytes::File(file) => file.consume(count),
            Bytes::Memory(bytes) => bytes.consume(count),
        }
    }
}

impl Seek for Source {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match &mut self.bytes {
            Bytes::File(file) => file.seek(to),
            Bytes::Memory(bytes) => bytes.seek(to),
        }
    }

    /// Keeps the buffer of a file where it can.
    fn seek_relative(&mut self, offset: i64) -> io::Result<()> {
        match &mut self.bytes {
            Bytes::File(file) => file.seek_relative(offset),
            Bytes::Memory(bytes) => bytes.seek_relative(offset),
        }
    }
}

fn open(path: &Path) -> Result<BufReader<File>, Error> {
    let read = |source| Error::Read {
        path: path.to_owned(),
        source,
    };
    let kind = fs::metadata(path).map_err(read)?.file_type();
    // A pipe would block and a device might never end.
    if !kind.is_file() {
        let found = if kind.is_dir() {
            "a folder"
        } else {
            "not a regular file"
        };
        return Err(Error::NotAFile {
            path: path.to_owned(),
            found,
        });
    }
    Ok(BufReader::new(File::open(path).map_err(read)?))
}

/// Bytes by which formats are recognised.
const START_BYTES: u64 = 16;

/// The format by the first bytes; the stream is left at its start.
fn format_of(stream: &mut (impl BufRead + Seek), path: &Path) -> Result<Format, Error> {
    let mut start = Vec::new();
    let read = |source| Error::Read {
        path: path.to_owned(),
        source,
    };
    stream
        .by_ref()
        .take(START_BYTES)
        .read_to_end(&mut start)
        .map_err(read)?;
    stream.rewind().map_err(read)?;
    let path = path.to_owned();
    if start.is_empty() {
        return Err(Error::Empty { path });
    }
    match Format::of_start(&start) {
        // Many camera raw files are TIFF files with a small preview.
        Some(Format::Tiff) if unread::has_raw_suffix(&path) => {
            let found = unread::CAMERA_RAW;
            return Err(Error::UnreadFormat { path, found });
        }
        Some(format) => return Ok(format),
        // Files without a mark of their own.
        None if plain::may_be_tga(&start, &path) => return Ok(Format::Tga),
        None => {}
    }
    let by_name = path
        .file_name()
        .map(Path::new)
        .and_then(unread::unread_by_suffix);
    Err(match unread::by_start(&start).or(by_name) {
        Some(found) => Error::UnreadFormat { path, found },
        None => Error::NotAnImage {
            path,
            found: format!("\"{}\"", start.escape_ascii()),
        },
    })
}

fn animation(format: Format, path: &Path) -> Error {
    Error::unsupported("it is an animation", format, path)
}

/// Checks width and height of a header: neither is 0, and they are within the limits.
fn check_size(
    (width, height): (u32, u32),
    path: &Path,
    limits: &Limits,
) -> Result<(usize, usize), Error> {
    let (width_px, height_px) = (width as usize, height as usize);
    if width == 0 || height == 0 {
        return Err(Error::NoPixels {
            path: path.to_owned(),
            width_px,
            height_px,
        });
    }
    limits.check(width_px, height_px, path)?;
    Ok((width_px, height_px))
}

/// Runs a decoder that panics on some damaged files.
#[cfg(any(feature = "avif", feature = "jpeg-xl"))]
fn guarded<T>(
    format: Format,
    name: &Path,
    work: impl FnOnce() -> Result<T, Error>,
) -> Result<T, Error> {
    // A panic drops what it leaves half done.
    panic::catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(Error::damaged("the decoder failed", format, name)))
}

/// Refuses an image whose pixels need more memory than is allowed or available.
fn check_memory(bytes: u64, path: &Path, limits: &Limits) -> Result<(), Error> {
    if bytes > limits.max_bytes {
        return Err(Error::TooMuchMemory {
            path: path.to_owned(),
            bytes,
            max_bytes: limits.max_bytes,
        });
    }
    if is_memory_free(u128::from(bytes)) {
        return Ok(());
    }
    Err(Error::Read {
        path: path.to_owned(),
        source: io::Error::new(
            io::ErrorKind::OutOfMemory,
            format!("its pixels need {bytes} bytes of memory, more than is available"),
        ),
    })
}

fn read_error(error: ImageError, format: Format, path: &Path) -> Error {
    match error {
        ImageError::IoError(source) if source.kind() == io::ErrorKind::UnexpectedEof => {
            Error::truncated(one_line(&source), format, path)
        }
        // The decoders report some damage as an io error without a code of the system.
        ImageError::IoError(source) if source.raw_os_error().is_some() => Error::Read {
            path: path.to_owned(),
            source,
        },
        ImageError::Unsupported(error) => Error::unsupported(one_line(&error), format, path),
        error => Error::damaged(one_line(&error), format, path),
    }
}
