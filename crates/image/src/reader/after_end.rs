//! What follows the end of an image in its file: further images, a gain map, a video.
//!
//! Cameras append such data to photographs (Multi-Picture Format, Ultra HDR, motion photos), and a pipe may
//! contain several images. Only the first image is read, so the rest is described.

use std::io::{self, Read};

use crate::format::Format;

use super::jpeg_end::end_of_image;

/// The start of a JPEG stream: the start-of-image marker and the first byte of the next marker.
const JPEG_START: &[u8] = &[0xff, 0xd8, 0xff];
const PNG_START: &[u8] = b"\x89PNG\r\n\x1a\n";

/// Texts that appear in the metadata of a gain map, and in that of no other image.
const GAIN_MAP_NAMES: [&[u8]; 3] = [
    b"http://ns.adobe.com/hdr-gain-map/1.0/",
    b"urn:iso:std:iso:ts:21496:-1",
    b"urn:com:apple:photo:2020:aux:hdrgainmap",
];

/// The metadata of a gain map is searched up to this length.
const MAX_SEARCHED_BYTES: usize = 1 << 16;

/// Of what follows the image so many bytes are searched for further images.
const MAX_REST_BYTES: u64 = 8 << 20;

/// What follows the image in a file, as far as it is searched.
pub(super) fn rest_of(source: impl Read) -> io::Result<Vec<u8>> {
    let mut rest = Vec::new();
    source.take(MAX_REST_BYTES).read_to_end(&mut rest)?;
    Ok(rest)
}

/// The position of `pattern` in `bytes`.
pub(crate) fn find(bytes: &[u8], pattern: &[u8]) -> Option<usize> {
    bytes.windows(pattern.len()).position(|w| w == pattern)
}

/// The position of a video in a file of the ISO base media format (MP4, QuickTime): its first box.
pub(super) fn video_at(bytes: &[u8]) -> Option<usize> {
    let mut from = 0;
    loop {
        let kind_at = from + find(&bytes[from..], b"ftyp")?;
        let header = kind_at.checked_sub(4).map(|at| (at, &bytes[at..kind_at]));
        // The size of the box, then a brand of printable characters.
        let brand = bytes.get(kind_at + 4..kind_at + 8);
        let is_brand = brand.is_some_and(|b| b.iter().all(|c| (0x20..0x7f).contains(c)));
        if let Some((at, &[0, 0, 0, size])) = header
            && size >= 12
            && is_brand
        {
            return Some(at);
        }
        from = kind_at + 4;
    }
}

/// Whether an image's own metadata announces a gain map in its file.
pub(super) fn announces_gain_map(metadata: &[u8]) -> bool {
    let searched = &metadata[..metadata.len().min(MAX_SEARCHED_BYTES)];
    GAIN_MAP_NAMES
        .iter()
        .any(|name| find(searched, name).is_some())
}

/// Describes the bytes after the end of an image, each part with the reason why it is not in the
/// result. Padding is not described. A gain map that the image announces may not have metadata of its own.
pub(super) fn described(rest: &[u8], is_gain_map_announced: bool) -> Vec<String> {
    if rest
        .iter()
        .all(|byte| matches!(byte, 0 | 0xff | b' ' | b'\r' | b'\n'))
    {
        return Vec::new();
    }
    let video_at = video_at(rest);
    let before_video = &rest[..video_at.unwrap_or(rest.len())];
    let (mut gain_maps, mut images) = (0, 0);
    let mut at = 0;
    while let Some(found) = find(&before_video[at..], JPEG_START) {
        let start = at + found;
        let jpeg = &before_video[start..];
        let end = end_of_image(jpeg).unwrap_or(jpeg.len());
        let searched = &jpeg[..end.min(MAX_SEARCHED_BYTES)];
        if GAIN_MAP_NAMES
            .iter()
            .any(|name| find(searched, name).is_some())
        {
            gain_maps += 1;
        } else {
            images += 1;
        }
        at = start + end;
    }
    if is_gain_map_announced && gain_maps == 0 && images > 0 {
        (gain_maps, images) = (1, images - 1);
    }
    images += count(before_video, PNG_START);
    if images == 0 && gain_maps == 0 && Format::of_start(before_video).is_some() {
        images = 1;
    }
    let mut parts = Vec::new();
    if gain_maps > 0 {
        parts.push("gain map: results have no HDR part".to_owned());
    }
    parts.extend(further_images(images));
    if video_at.is_some() {
        parts.push("video of a motion photo: only the photograph is upscaled".to_owned());
    }
    if parts.is_empty() {
        parts.push("data after the end of the image: its meaning is unknown".to_owned());
    }
    parts
}

/// Describes images after the first.
pub(super) fn further_images(count: usize) -> Option<String> {
    let noun = if count == 1 { "image" } else { "images" };
    (count > 0).then(|| format!("{count} further {noun}: only the first is upscaled"))
}

fn count(bytes: &[u8], pattern: &[u8]) -> usize {
    let matches = bytes.windows(pattern.len()).filter(|w| *w == pattern);
    matches.count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const JPEG: &[u8] = &[0xff, 0xd8, 0xff, 0xe0, 0, 2, 0xff, 0xd9];

    #[test]
    fn parts_are_counted_and_named() {
        let gain_map = [
            &JPEG[..2],
            &[0xff, 0xe2, 0, 29],
            GAIN_MAP_NAMES[1],
            &JPEG[6..],
        ]
        .concat();
        let video = b"\0\0\0\x18ftypmp42\0\0\0\0isommp42";
        let cases: [(&[&[u8]], &[&str]); 7] = [
            (&[b""], &[]),
            (&[b"\0\0\0\r\n"], &[]),
            (&[JPEG], &["1 further image"]),
            (&[JPEG, b"\0\0", JPEG], &["2 further images"]),
            (
                &[&gain_map, video],
                &["gain map", "video of a motion photo"],
            ),
            (&[PNG_START, b"...", PNG_START], &["2 further images"]),
            (&[b"SEFT of a camera"], &["data after the end"]),
        ];
        for (rest, expected) in cases {
            let found = described(&rest.concat(), false);
            assert_eq!(found.len(), expected.len(), "{found:?}");
            for (found, expected) in found.iter().zip(expected) {
                assert!(found.starts_with(expected), "{found}, expected {expected}");
            }
        }
    }

    #[test]
    fn a_video_starts_with_a_box() {
        assert_eq!(video_at(b"xx\0\0\0\x14ftypqt  \0"), Some(2));
        for none in [
            &b"ftyp"[..],
            b"\0\0\0\x14ftyp",
            b"abcdftypqt  ",
            b"\0\0\0\x14ftyp\0\0\0\0",
        ] {
            assert_eq!(video_at(none), None);
        }
    }
}
