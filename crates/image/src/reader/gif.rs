//! GIF, still and animated.
//!
//! Source: GIF89a specification (CompuServe, 1990).

use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use image::codecs::gif::GifDecoder;
use image::metadata::LoopCount;
use image::{AnimationDecoder, ImageDecoder};

use super::animation::FrameDecoder;
use super::{
    Decode, Header, Limits, MAX_METADATA_BYTES, Source, after_end, check_size, read_error,
};
use crate::animation::Animation;
use crate::error::Error;
use crate::format::Format;
use crate::metadata::Metadata;
use crate::samples::{Colour, Depth, Outline};

pub(super) fn open(
    mut source: Source,
    name: &Path,
    limits: &Limits,
) -> Result<(Header, Box<dyn Decode>), Error> {
    let failed = |error| read_error(error, Format::Gif, name);
    let blocks = Blocks::read(&mut source).map_err(|error| failed(error.into()))?;
    if !blocks.ends {
        let reason = "a block of an unknown kind";
        return Err(Error::damaged(reason, Format::Gif, name));
    }
    let (width_px, height_px) = check_size(blocks.size, name, limits)?;
    if blocks.frames == 0 {
        return Err(Error::damaged("it has no frame", Format::Gif, name));
    }
    let mut decoder = GifDecoder::new(source).map_err(failed)?;
    let icc_profile = decoder.icc_profile().map_err(failed)?;
    let xmp = decoder.xmp_metadata().map_err(failed)?;
    let (mut metadata, orientation) = Metadata::of_blocks(icc_profile, None, xmp, None);
    metadata.dropped.extend(blocks.dropped());
    let outline = Outline {
        width_px,
        height_px,
        colour: if blocks.is_opaque {
            Colour::Rgb
        } else {
            Colour::RgbAlpha
        },
        depth: Depth::U8,
    };
    let canvas_bytes = width_px as u64 * height_px as u64 * 4;
    let mut allowed = image::Limits::no_limits();
    allowed.max_alloc = Some(4 * canvas_bytes + MAX_METADATA_BYTES);
    decoder.set_limits(allowed).map_err(failed)?;
    let is_animation = blocks.frames > 1;
    let header = Header {
        outline,
        orientation,
        metadata,
        omitted: blocks.omitted,
        animation: is_animation.then(|| Animation {
            frames: blocks.frames,
            plays: plays(decoder.loop_count()),
        }),
        pages: None,
        streams_rows: false,
        whole_bytes: 4 * canvas_bytes,
        rows_bytes: 0,
    };
    let decoder = FrameDecoder::new(outline, Format::Gif, is_animation, || Ok(decoder));
    Ok((header, Box::new(decoder)))
}

/// How often an animation is played; 0 is without end.
pub(super) fn plays(count: LoopCount) -> u32 {
    match count {
        LoopCount::Infinite => 0,
        LoopCount::Finite(count) => count.get(),
    }
}

/// What the blocks of a file say.
#[derive(Default)]
struct Blocks {
    size: (u32, u32),
    frames: usize,
    /// Whether each frame covers the canvas: the first does without transparent pixels, and none is
    /// replaced by the background.
    is_opaque: bool,
    comments: usize,
    /// Whether the last block is that of the end.
    ends: bool,
    /// What follows the image in the file.
    omitted: Vec<String>,
}

impl Blocks {
    /// Walks through the blocks, and leaves the source at its start.
    fn read(source: &mut Source) -> io::Result<Self> {
        let mut blocks = Self::default();
        blocks.walk(source)?;
        source.rewind()?;
        Ok(blocks)
    }

    fn walk(&mut self, source: &mut Source) -> io::Result<()> {
        const EXTENSION: u8 = 0x21;
        const IMAGE: u8 = 0x2c;
        const END: u8 = 0x3b;
        const GRAPHIC_CONTROL: u8 = 0xf9;
        const COMMENT: u8 = 0xfe;
        // The canvas behind a frame is cleared, or as before the frame.
        const TO_BACKGROUND: u8 = 2;
        const TO_PREVIOUS: u8 = 3;
        source.seek(SeekFrom::Start(6))?;
        let [w0, w1, h0, h1, flags, ..] = bytes::<7>(source)?;
        let size = [[w0, w1], [h0, h1]].map(u16::from_le_bytes);
        self.size = (size[0].into(), size[1].into());
        skip_colours(source, flags)?;
        self.is_opaque = true;
        let mut is_transparent = false;
        loop {
            match bytes::<1>(source)? {
                [EXTENSION] => match bytes::<1>(source)? {
                    [GRAPHIC_CONTROL] => {
                        let [length, flags] = bytes::<2>(source)?;
                        is_transparent = flags & 1 != 0;
                        self.is_opaque &= !matches!((flags >> 2) & 7, TO_BACKGROUND | TO_PREVIOUS);
                        source.seek_relative(i64::from(length) - 1)?;
                        skip_data(source)?;
                    }
                    [kind] => {
                        self.comments += usize::from(kind == COMMENT);
                        skip_data(source)?;
                    }
                },
                [IMAGE] => {
                    let [x, y, w, h] = [(); 4].map(|()| bytes::<2>(source));
                    let place = [x?, y?, w?, h?].map(u16::from_le_bytes);
                    let [flags] = bytes::<1>(source)?;
                    skip_colours(source, flags)?;
                    // The bits of the first codes.
                    source.seek_relative(1)?;
                    let covers = place == [0, 0, size[0], size[1]] && !is_transparent;
                    self.is_opaque &= self.frames > 0 || covers;
                    self.frames += 1;
                    is_transparent = false;
                    skip_data(source)?;
                }
                [kind] => {
                    self.ends = kind == END;
                    break;
                }
            }
        }
        let rest = after_end::rest_of(&mut *source)?;
        self.omitted = after_end::described(&rest, false);
        Ok(())
    }

    fn dropped(&self) -> Option<String> {
        (self.comments > 0).then(|| "comment of GIF: not copied".to_owned())
    }
}

fn bytes<const N: usize>(source: &mut Source) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    source.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Skips a table of colours, if the flags say that there is one.
fn skip_colours(source: &mut Source, flags: u8) -> io::Result<()> {
    if flags & 0x80 != 0 {
        source.seek_relative(3 * (2 << (flags & 7)))?;
    }
    Ok(())
}

/// Skips pieces of data up to the empty one at their end.
fn skip_data(source: &mut Source) -> io::Result<()> {
    loop {
        match bytes::<1>(source)? {
            [0] => return Ok(()),
            [length] => source.seek_relative(length.into())?,
        }
    }
}
