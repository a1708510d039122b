//! Y4M, in which video programs pass frames through pipes.
//!
//! Source: yuv4mpeg(5) of MJPEG tools; for more bits and the range, ffmpeg's `yuv4mpegenc.c`.

use std::io::{BufRead, ErrorKind, Read, Write};

use anyhow::{Context, bail};
use wdsr_upscale::Size;

use crate::upscale::failure::Refused;
use crate::upscale::frames::Frame;
use crate::upscale::yuv::{Chroma, Layout, Range};

const MAGIC: &str = "YUV4MPEG2";
/// Longest line.
const MAX_LINE_BYTES: u64 = 1024;

/// The header of a stream.
#[derive(Debug)]
pub(super) struct Y4mHeader {
    pub(super) size: Size,
    pub(super) layout: Layout,
    /// `None` if the header does not tell.
    pub(super) range: Option<Range>,
    pub(super) is_interlaced: bool,
    /// All parameters but the size.
    others: Vec<String>,
}

/// A line without its end; `None` at the end of the stream.
fn line(input: &mut impl BufRead) -> anyhow::Result<Option<String>> {
    let mut line = Vec::new();
    input.take(MAX_LINE_BYTES).read_until(b'\n', &mut line)?;
    match line.pop() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(String::from_utf8_lossy(&line).into_owned())),
        Some(_) => bail!(ErrorKind::InvalidData),
    }
}

impl Y4mHeader {
    /// # Errors
    /// [`Refused`] if it is no Y4M, or one of an unsupported kind.
    pub(super) fn read(input: &mut impl BufRead) -> anyhow::Result<Self> {
        let refused = |message: &str| Refused(format!("standard input: {message}"));
        let no_y4m = || refused("expected Y4M (ffmpeg -f yuv4mpegpipe -strict -1)");
        let line = line(input).ok().flatten().ok_or_else(no_y4m)?;
        let mut words = line.split(' ');
        if words.next() != Some(MAGIC) {
            return Err(no_y4m().into());
        }
        let (mut width, mut height, mut colour) = (None, None, "420jpeg");
        let (mut range, mut is_interlaced, mut others) = (None, false, Vec::new());
        for word in words.filter(|word| !word.is_empty()) {
            match word.split_at_checked(1) {
                Some(("W", number)) => width = number.parse().ok(),
                Some(("H", number)) => height = number.parse().ok(),
                _ => others.push(word.to_owned()),
            }
            match word.split_at_checked(1) {
                Some(("C", name)) => colour = name,
                Some(("I", fields)) => is_interlaced = matches!(fields, "t" | "b" | "m"),
                _ if word == "XCOLORRANGE=FULL" => range = Some(Range::Full),
                _ if word == "XCOLORRANGE=LIMITED" => range = Some(Range::Limited),
                _ => {}
            }
        }
        let (Some(width_px), Some(height_px)) = (width, height) else {
            return Err(refused("expected a size in the header of the Y4M").into());
        };
        let layout = layout(colour).ok_or_else(|| {
            refused(&format!(
                "Y4M of colour {colour} is unsupported; expected 420, 422, 444 or mono"
            ))
        })?;
        if width_px == 0 || height_px == 0 {
            return Err(refused("Y4M without pixels").into());
        }
        Ok(Self {
            size: Size {
                width_px,
                height_px,
            },
            layout,
            range,
            is_interlaced,
            others,
        })
    }

    /// Writes the header of a stream of another size.
    pub(super) fn write(&self, output: &mut impl Write, size: Size) -> std::io::Result<()> {
        let Size {
            width_px,
            height_px,
        } = size;
        let others: String = self.others.iter().map(|word| format!(" {word}")).collect();
        writeln!(output, "{MAGIC} W{width_px} H{height_px}{others}")
    }

    /// Reads frame `number`, counted from 1; `None` at the end.
    ///
    /// # Errors
    /// If the stream ends within a frame ([`Refused`] if it had no whole one).
    pub(super) fn frame(
        &self,
        input: &mut impl BufRead,
        number: u64,
    ) -> anyhow::Result<Option<Frame>> {
        let read = |input: &mut dyn BufRead| {
            let Some(line) = line(&mut &mut *input)? else {
                anyhow::ensure!(number > 1, "found none");
                return Ok(None);
            };
            anyhow::ensure!(
                line.starts_with("FRAME"),
                "expected FRAME, found \"{line}\""
            );
            let expected = self.layout.frame_bytes(self.size) as u64;
            let mut bytes = Vec::new();
            let found = input.take(expected).read_to_end(&mut bytes)? as u64;
            anyhow::ensure!(
                found == expected,
                "expected {expected} bytes, found {found}"
            );
            Ok(Some(Frame { pts: 0, bytes }))
        };
        match read(input) {
            Err(error) if number == 1 => {
                Err(Refused(format!("standard input: no whole frame: {error}")).into())
            }
            frame => frame.with_context(|| {
                let before = number - 1;
                format!("standard input: frame {number} is truncated; the {before} before it are written")
            }),
        }
    }
}

/// The planes of a colour.
fn layout(colour: &str) -> Option<Layout> {
    use Chroma::{Between, Each, Even};
    let parts = colour
        .split_once('p')
        .map(|(sampling, bits)| (sampling, bits.parse()));
    let (sampling, bits) = match parts {
        Some((sampling, Ok(bits @ 9..=16))) => (sampling, bits),
        _ => (colour, 8),
    };
    let chroma = match sampling {
        "420" if bits > 8 => Some([Even, Between]),
        "420" | "420jpeg" => Some([Between, Between]),
        "420mpeg2" => Some([Even, Between]),
        "420paldv" => Some([Even, Even]),
        "422" => Some([Even, Each]),
        "444" => Some([Each, Each]),
        mono => {
            let bits = mono.strip_prefix("mono")?;
            let bits = if bits.is_empty() {
                8
            } else {
                bits.parse().ok()?
            };
            return (8..=16)
                .contains(&bits)
                .then_some(Layout { chroma: None, bits });
        }
    };
    Some(Layout { chroma, bits })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_keep_all_but_the_size() {
        let text = "YUV4MPEG2 W48 H31 F30000:1001 Ip A1:1 C420p10 XYSCSS=420P10 XCOLORRANGE=FULL\n";
        let header = Y4mHeader::read(&mut text.as_bytes()).expect("a header");
        assert_eq!(header.range, Some(Range::Full));
        let mut again = Vec::new();
        let size = Size {
            width_px: 96,
            height_px: 62,
        };
        header.write(&mut again, size).expect("written");
        let expected = text.replace("W48 H31", "W96 H62");
        assert_eq!(String::from_utf8(again).expect("text"), expected);
    }

    #[test]
    fn colours_are_layouts() {
        use Chroma::{Between, Each, Even};
        for (colour, chroma, bits) in [
            ("420jpeg", Some([Between, Between]), 8),
            ("420mpeg2", Some([Even, Between]), 8),
            ("420paldv", Some([Even, Even]), 8),
            ("420p10", Some([Even, Between]), 10),
            ("422", Some([Even, Each]), 8),
            ("444p12", Some([Each, Each]), 12),
            ("mono", None, 8),
            ("mono10", None, 10),
        ] {
            assert_eq!(layout(colour), Some(Layout { chroma, bits }), "{colour}");
        }
        for colour in ["411", "444alpha", "420p32", "mono7", "rgb"] {
            assert_eq!(layout(colour), None, "{colour}");
        }
    }
}
