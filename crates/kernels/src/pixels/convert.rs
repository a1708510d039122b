//! Changes of a strip's format.

use super::{ZEROS, run_on_tiles};
use crate::Isa;
use crate::strip::{BLOCK_CHANNELS, Offset, Strip, StripFormat};
use crate::tiles::{TileKernel, Tiles};

/// Pixels that are transposed at a time, so that they stay in the first-level cache.
const SEGMENT_PX: usize = 64;

/// Copies a strip into another format: from planes to pixels, back, or from pixels to bf16. Adds `term`, if there is one.
///
/// # Shapes
/// - output: a strip of as many channels as the input and the same layout except for `rows_above` and `format`,
///   whose rows and columns the input holds
/// - term: a strip of as many channels that holds the output's rows and columns; both are planes
///
/// # Panics
/// If the instruction set has no tiles, the shapes differ, the input does not cover the output, or the change is none of these.
pub fn convert_strip(isa: Isa, input: &Strip, term: Option<&Strip>, output: &mut Strip) {
    assert_eq!(
        input.channels(),
        output.channels(),
        "input and output channels"
    );
    let formats = (input.layout().format, output.layout().format);
    let is_known = match formats {
        (StripFormat::Planes, StripFormat::Pixels)
        | (StripFormat::Pixels, StripFormat::Bf16Pixels) => term.is_none(),
        (StripFormat::Pixels, StripFormat::Planes) => true,
        _ => false,
    };
    assert!(
        is_known,
        "conversion of strips {formats:?}, term: {}",
        term.is_some()
    );
    let term = term.map(|term| {
        assert_eq!(
            term.channels(),
            output.channels(),
            "channels of term and output"
        );
        term.check_format(&[StripFormat::Planes]);
        (term, output.offset_in(term, 0))
    });
    let conversion = Conversion {
        input,
        offset: output.offset_in(input, 0),
        term,
        output,
    };
    run_on_tiles(isa, conversion);
}

struct Conversion<'a> {
    input: &'a Strip,
    offset: Offset,
    term: Option<(&'a Strip, Offset)>,
    output: &'a mut Strip,
}

impl TileKernel for Conversion<'_> {
    type Output = ();

    #[inline(always)]
    fn run<T: Tiles>(self, tiles: &mut T) {
        let Self {
            input,
            offset,
            term,
            output,
        } = self;
        let (channels, width_px) = (output.channels(), output.width_px());
        for y in output.inside() {
            let row = y as isize + offset.rows;
            if output.layout().format == StripFormat::Bf16Pixels {
                let (blocks, _) = input.pixels(row, offset.px).as_chunks::<BLOCK_CHANNELS>();
                let (lanes, _) = output.row_of_pixels_mut(y).as_chunks_mut();
                tiles.round::<false>(blocks, &ZEROS, lanes);
                continue;
            }
            for x in (0..width_px).step_by(SEGMENT_PX) {
                let len = SEGMENT_PX.min(width_px - x);
                let column = |offset: Offset| x as isize + offset.px;
                if output.layout().format == StripFormat::Pixels {
                    let pixel_len = output.pixel_len();
                    let to = &mut output.row_of_pixels_mut(y)[x * pixel_len..][..len * pixel_len];
                    if channels < pixel_len {
                        to.fill(0.0);
                    }
                    for channel in 0..channels {
                        let from = input.plane(channel, row, column(offset), len);
                        let to = to[channel..].iter_mut().step_by(pixel_len);
                        for (to, from) in to.zip(from) {
                            *to = *from;
                        }
                    }
                    continue;
                }
                let from = input.pixels(row, column(offset));
                for channel in 0..channels {
                    let to = output.plane_mut(channel, y, x, len);
                    let from = from[channel..].iter().step_by(input.pixel_len());
                    for (to, from) in to.iter_mut().zip(from) {
                        *to = *from;
                    }
                    if let Some((term, offset)) = term {
                        let row = y as isize + offset.rows;
                        let term = term.plane(channel, row, column(offset), len);
                        for (to, term) in to.iter_mut().zip(term) {
                            *to += term;
                        }
                    }
                }
            }
        }
    }
}
