//! Image formats that are not read, so that their files are named instead of skipped.

use std::path::Path;

/// Name, suffixes in lower case, and starts of the content (offset and bytes).
type UnreadFormat = (
    &'static str,
    &'static [&'static str],
    &'static [(usize, &'static [u8])],
);

/// The name of all formats of cameras' raw images.
pub(crate) const CAMERA_RAW: &str = "camera raw";
const AVIF: &str = "AVIF";

/// The formats, and AVIF, which the feature `avif` reads.
const FORMATS: [UnreadFormat; 16] = [
    (
        "HEIC",
        &["heic", "heif", "hif", "heics", "heifs"],
        &[
            (4, b"ftyphei"),
            (4, b"ftyphev"),
            (4, b"ftypmif1"),
            (4, b"ftypmsf1"),
        ],
    ),
    (
        AVIF,
        &["avif", "avifs"],
        &[(4, b"ftypavif"), (4, b"ftypavis")],
    ),
    ("Photoshop", &["psd", "psb"], &[(0, b"8BPS")]),
    (
        "JPEG 2000",
        &["jp2", "j2k", "jpf", "jpx", "jpm", "j2c", "jpc", "jph"],
        &[(0, b"\0\0\0\x0cjP  \r\n\x87\n"), (0, b"\xff\x4f\xff\x51")],
    ),
    ("JPEG XR", &["jxr", "wdp", "hdp"], &[(0, b"II\xbc")]),
    ("JPEG-LS", &["jls"], &[]),
    ("OpenEXR", &["exr"], &[(0, b"\x76\x2f\x31\x01")]),
    (
        "Radiance HDR",
        &["hdr"],
        &[(0, b"#?RADIANCE"), (0, b"#?RGBE")],
    ),
    ("farbfeld", &["ff"], &[(0, b"farbfeld")]),
    // The start of a cursor is that of most TGA files too.
    ("icon", &["ico", "cur"], &[(0, b"\0\0\x01\0")]),
    ("PCX", &["pcx"], &[]),
    ("XCF", &["xcf"], &[(0, b"gimp xcf")]),
    ("SVG", &["svg", "svgz"], &[(0, b"<svg")]),
    ("BPG", &["bpg"], &[(0, b"BPG\xfb")]),
    ("FITS", &["fits", "fit"], &[(0, b"SIMPLE  =")]),
    (
        CAMERA_RAW,
        RAW_SUFFIXES,
        &[
            (4, b"ftypcrx"),
            (0, b"IIU\0"),
            (0, b"IIRO"),
            (0, b"MMOR"),
            (0, b"IIRS"),
            (0, b"FUJIFILMCCD-RAW"),
            (0, b"FOVb"),
            (0, b"\0MRM"),
            (0, b"IIII"),
            (0, b"MMMM"),
        ],
    ),
];

/// Suffixes of cameras' raw files, many of which are TIFF files with a small preview.
const RAW_SUFFIXES: &[&str] = &[
    "3fr", "ari", "arw", "bay", "cap", "cr2", "cr3", "crw", "dcr", "dcs", "dng", "eip", "erf",
    "fff", "gpr", "iiq", "k25", "kdc", "mdc", "mef", "mos", "mrw", "nef", "nrw", "orf", "pef",
    "ptx", "raf", "raw", "rw2", "rwl", "rwz", "sr2", "srf", "srw", "x3f",
];

/// The formats that are not read.
fn formats() -> impl Iterator<Item = &'static UnreadFormat> {
    let is_read = |format: &&UnreadFormat| cfg!(feature = "avif") && format.0 == AVIF;
    FORMATS.iter().filter(move |format| !is_read(format))
}

fn suffix(path: &Path) -> Option<String> {
    Some(path.extension()?.to_str()?.to_ascii_lowercase())
}

/// The name of the image format that a path's suffix stands for, if it is none that is read.
pub fn unread_by_suffix(path: &Path) -> Option<&'static str> {
    let suffix = suffix(path)?;
    let format = formats().find(|(_, suffixes, _)| suffixes.contains(&&*suffix));
    format.map(|(name, ..)| *name)
}

/// The name of the format by the first 16 bytes of a file, if it is none that is read.
pub(crate) fn by_start(start: &[u8]) -> Option<&'static str> {
    let starts_with =
        |&(at, bytes): &(usize, &[u8])| start.get(at..).is_some_and(|s| s.starts_with(bytes));
    let format = formats().find(|(_, _, starts)| starts.iter().any(starts_with));
    format.map(|(name, ..)| *name)
}

/// Whether a path has the suffix of a camera's raw files.
pub(crate) fn has_raw_suffix(path: &Path) -> bool {
    suffix(path).is_some_and(|suffix| RAW_SUFFIXES.contains(&&*suffix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Format;

    #[test]
    fn a_tga_file_is_no_icon() {
        let rgb = [0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 48, 0, 36, 0];
        assert_eq!(by_start(&rgb), None);
        assert_eq!(by_start(&[0, 0, 1, 0, 1, 0]), Some("icon"));
    }

    #[test]
    fn suffixes_and_starts_belong_to_one_format() {
        let mut seen = std::collections::HashSet::new();
        for &(name, suffixes, starts) in formats() {
            for suffix in suffixes {
                assert!(seen.insert(*suffix), "{suffix} twice");
                let path = Path::new("a").with_extension(suffix.to_uppercase());
                assert_eq!(unread_by_suffix(&path), Some(name));
                assert_eq!(Format::from_extension(&path), None, "{suffix} is read");
            }
            for (at, bytes) in starts {
                let start = [&vec![0; *at], *bytes].concat();
                assert_eq!(by_start(&start), Some(name), "{start:?}");
                assert_eq!(Format::of_start(&start), None, "{start:?} is read");
            }
        }
    }
}
