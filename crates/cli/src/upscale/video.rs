//! Videos among the inputs, which are named as such.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::failure::Refused;

/// Bytes that tell the container: three packets of an MPEG transport stream.
const START_BYTES: u64 = 600;

/// ISO-BMFF brands of videos: MP4, QuickTime, 3GPP, DASH and those of cameras and players.
const BRANDS: [&[u8]; 17] = [
    b"isom", b"iso", b"mp41", b"mp42", b"mp71", b"avc", b"hvc", b"M4V", b"qt  ", b"3g", b"dash",
    b"MSNV", b"XAVC", b"F4V", b"f4v", b"mmp4", b"NDS",
];

/// The name of the container of a video by its first bytes; `None` for anything else, images in the same
/// containers (HEIC, AVIF, WebP) included.
fn container(start: &[u8]) -> Option<&'static str> {
    let at = |offset: usize, bytes: &[u8]| {
        let rest = start.get(offset..);
        rest.is_some_and(|rest| rest.starts_with(bytes))
    };
    let is_stream = |first: usize, packet: usize| {
        (0..3).all(|number| start.get(first + number * packet) == Some(&0x47))
    };
    if at(4, b"ftyp") {
        let is_video = BRANDS.iter().any(|brand| at(8, brand));
        let name = if at(8, b"qt  ") { "QuickTime" } else { "MP4" };
        return is_video.then_some(name);
    }
    // QuickTime before it had brands.
    if [&b"moov"[..], b"mdat", b"wide"]
        .iter()
        .any(|kind| at(4, kind))
    {
        return Some("QuickTime");
    }
    if at(0, b"\x1a\x45\xdf\xa3") {
        let has = |name: &[u8]| start.windows(name.len()).any(|window| window == name);
        let name = if has(b"webm") { "WebM" } else { "Matroska" };
        return (has(b"webm") || has(b"matroska")).then_some(name);
    }
    let names: [(&str, bool); 7] = [
        ("AVI", at(0, b"RIFF") && at(8, b"AVI ")),
        (
            "MPEG transport stream",
            is_stream(0, 188) || is_stream(4, 192),
        ),
        ("MPEG", at(0, b"\0\0\x01\xba") || at(0, b"\0\0\x01\xb3")),
        ("Flash", at(0, b"FLV\x01")),
        ("Windows Media", at(0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11")),
        ("Ogg", at(0, b"OggS")),
        ("Y4M", at(0, b"YUV4MPEG2 ")),
    ];
    names.iter().find(|(_, is)| *is).map(|(name, _)| *name)
}

/// The error for a file that is a video.
pub(super) fn refusal(path: &Path) -> Option<Refused> {
    let mut start = Vec::new();
    let file = File::open(path).ok()?;
    file.take(START_BYTES).read_to_end(&mut start).ok()?;
    refusal_of_bytes(&start, path)
}

/// The error for the first bytes of a video that is called `name`.
pub(super) fn refusal_of_bytes(start: &[u8], name: &Path) -> Option<Refused> {
    let start = &start[..start.len().min(START_BYTES as usize)];
    let container = container(start)?;
    let shown = name.display();
    let command = match (container, name == Path::new("standard input")) {
        ("Y4M", true) => "wdsr video - -".to_owned(),
        (_, true) => "wdsr video FILE OUT.mkv".to_owned(),
        (_, false) => format!("wdsr video {} OUT.mkv", quoted(name)),
    };
    Some(Refused(format!(
        "{shown} is a video ({container}), expected an image; `{command}` upscales it (see \"Video\" in \
         docs/upscaling.md)"
    )))
}

/// A file's name for a shell.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let is_plain = |c: char| c.is_alphanumeric() || "._-/+,:@%".contains(c);
    match text.chars().all(is_plain) {
        true => text.into_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_told_by_their_content() {
        let mut stream = vec![0; 600];
        for at in [0, 188, 376] {
            stream[at] = 0x47;
        }
        let mut camera_stream = vec![0; 600];
        for at in [4, 196, 388] {
            camera_stream[at] = 0x47;
        }
        for (start, expected) in [
            (
                &b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1mp41"[..],
                Some("MP4"),
            ),
            (b"\0\0\0\x20ftypM4V \0\0\0\0", Some("MP4")),
            (b"\0\0\0\x18ftyp3gp4\0\0\0\0", Some("MP4")),
            (b"\0\0\0\x14ftypqt  \0\0\0\0", Some("QuickTime")),
            (b"\0\0\0\x08wide\0\0\0\0mdat", Some("QuickTime")),
            (b"\x1a\x45\xdf\xa3\x9f\x42\x82\x84webm", Some("WebM")),
            (
                b"\x1a\x45\xdf\xa3\x9f\x42\x82\x88matroska",
                Some("Matroska"),
            ),
            (b"RIFF\0\0\0\0AVI LIST", Some("AVI")),
            (&stream, Some("MPEG transport stream")),
            (&camera_stream, Some("MPEG transport stream")),
            (b"YUV4MPEG2 W2 H2", Some("Y4M")),
            // Images, sound and text.
            (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", None),
            (b"\0\0\0\x18ftypavif\0\0\0\0avifmif1", None),
            (b"\0\0\0\x18ftypavis\0\0\0\0avifmsf1", None),
            (b"\0\0\0\x18ftypcrx \0\0\0\0", None),
            (b"\0\0\0\x18ftypM4A \0\0\0\0", None),
            (b"RIFF\0\0\0\0WEBPVP8 ", None),
            (b"RIFF\0\0\0\0WAVEfmt ", None),
            (b"\x1a\x45\xdf\xa3\x9f\x42\x82\x84", None),
            (b"Gone with the wind", None),
            (b"", None),
        ] {
            assert_eq!(container(start), expected, "{}", start.escape_ascii());
        }
    }

    #[test]
    fn names_are_quoted_for_a_shell() {
        let start = b"\0\0\0\x20ftypisom";
        let text =
            refusal_of_bytes(start, Path::new("it's a clip.mp4")).map(|error| error.to_string());
        assert!(
            text.as_ref()
                .is_some_and(|text| text.contains(r"`wdsr video 'it'\''s a clip.mp4' OUT.mkv`")),
            "{text:?}"
        );
    }
}
