//! Where a JPEG file has its end-of-image marker.
//!
//! Checked first, so that a truncated file is reported as truncated and not as damaged.
//!
//! Source: ITU-T T.81, annex B.1.1 (markers) and B.2 (segments).

/// The position after the end-of-image marker of the stream `jpeg`. Segments are skipped by their
/// length, so a thumbnail inside one does not count.
pub(crate) fn end_of_image(jpeg: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        // A marker is 0xff, any number of fill bytes 0xff, and a byte that is neither 0 nor 0xff.
        // Between scans and, in sloppy files, between segments, other bytes may stand.
        let marker_at = next_marker(jpeg, at)?;
        let marker = jpeg[marker_at];
        at = marker_at + 1;
        if marker == END_OF_IMAGE {
            return Some(at);
        }
        if stands_alone(marker) {
            continue;
        }
        let &[high, low] = jpeg.get(at..)?.first_chunk()?;
        // The length counts its own two bytes. After the header of a scan its coded data follows,
        // in which the search for the next marker passes over stuffed zeros and restarts.
        at += usize::from(u16::from_be_bytes([high, low])).max(2);
    }
}

/// The marker of the first restart of eight.
pub(crate) const RESTART: u8 = 0xd0;
const START_OF_IMAGE: u8 = 0xd8;
pub(crate) const END_OF_IMAGE: u8 = 0xd9;

/// Whether it is a marker without a segment: TEM, RST0..RST7 or SOI.
pub(crate) fn stands_alone(marker: u8) -> bool {
    marker == 0x01 || (RESTART..=START_OF_IMAGE).contains(&marker)
}

/// The position of the code of the next marker at or after `from`.
pub(crate) fn next_marker(jpeg: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        at += jpeg.get(at..)?.iter().position(|&byte| byte == 0xff)?;
        at += jpeg.get(at..)?.iter().position(|&byte| byte != 0xff)?;
        if jpeg[at] != 0 {
            return Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::end_of_image;

    #[test]
    fn the_marker_must_stand_outside_the_segments() {
        let segment_with_thumbnail = [0xff, 0xd8, 0xff, 0xe1, 0, 6, 0xff, 0xd8, 0xff, 0xd9];
        assert_eq!(end_of_image(&segment_with_thumbnail), None);
        let mut whole = segment_with_thumbnail.to_vec();
        // A scan with a stuffed zero, a restart and a fill byte, then the end.
        whole.extend([0xff, 0xda, 0, 3, 1, 0x12, 0xff, 0, 0xff, 0xd0, 0x34, 0xff]);
        assert_eq!(end_of_image(&whole), None);
        whole.extend([0xff, 0xd9, 0xab]);
        assert_eq!(end_of_image(&whole), Some(whole.len() - 1));
    }

    #[test]
    fn any_bytes_end() {
        for bytes in [
            &[][..],
            &[0xff],
            &[0xff, 0xff],
            &[0xff, 0xe0],
            &[0xff, 0xe0, 0, 0],
        ] {
            assert_eq!(end_of_image(bytes), None);
        }
    }
}
