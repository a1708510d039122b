use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use wdsr_image::{Colour, Format, Image, Limits, Samples, decode, encode};

use super::select::sha256_of;
use super::{FetchReport, FetchRequest, MANIFEST, Sources, fetch};
use crate::kept_out::{list_entry, scene};

const SIZE: (usize, usize) = (160, 120);

fn write(path: &Path, rgb: Vec<u8>, (width, height): (usize, usize)) {
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    let image = Image::new(width, height, Colour::Rgb, Samples::U8(rgb));
    encode(&image, path, Format::Png).expect("written");
}

/// A folder `set` of four listed images, the last of which is reduced by 2, and the lists.
struct Set {
    folder: tempfile::TempDir,
    list: String,
    kept_out: String,
}

impl Set {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut list = String::new();
        for seed in 0..4 {
            let path = folder.path().join(format!("set/deep/{seed}.png"));
            write(&path, scene(seed, SIZE), SIZE);
            let sha256 = sha256_of(&std::fs::read(&path).expect("read"));
            let reduce = if seed == 3 { 2 } else { 1 };
            list += &format!("set\tdeep/{seed}.png\t{sha256}\t{reduce}\tCC0-1.0\n");
        }
        let kept_out = list_entry("Set9/a.png", &scene(99, SIZE), SIZE.0, SIZE.1).expect("a line");
        Self {
            folder,
            list,
            kept_out,
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Fetches into the folder `out`, from `set` and from `own` if it exists.
    fn fetch(&self) -> Result<FetchReport, crate::Error> {
        let sources = "[[source]]\nname = \"set\"\nabout = \"a set\"";
        let sources = Sources::parse(sources, &self.list, &self.kept_out).expect("lists");
        let own = self.at("own");
        let folders: Vec<_> = own
            .is_dir()
            .then(|| ("own".to_owned(), own))
            .into_iter()
            .collect();
        let request = FetchRequest {
            out: &self.at("out"),
            shared: Some(self.folder.path()),
            folders: &folders,
            without: &[],
        };
        fetch(&sources, &request, &|_| {})
    }

    /// Content of all files of `out`, including hidden ones.
    fn built(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        let mut folders = vec![self.at("out")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let bytes = std::fs::read(&path).expect("read");
                    files.insert(path, bytes);
                }
            }
        }
        files
    }
}

#[test]
fn checks_reduces_and_records_images_once() {
    let set = Set::new();
    let report = set.fetch().expect("built");
    assert_eq!((report.sources[0].images, report.prepared), (4, 4));
    let same = |name: &str| {
        let [a, b] =
            ["set/deep/1.png", name].map(|name| std::fs::read(set.at(name)).expect("read"));
        a == b
    };
    assert!(
        same("out/set/deep_1.png"),
        "an image at its own size is copied"
    );
    let limits = Limits::default();
    let reduced = decode(&set.at("out/set/deep_3.png"), &limits).expect("an image");
    let original = decode(&set.at("set/deep/3.png"), &limits).expect("an image");
    assert_eq!(reduced.samples, original.imresize(0.5).samples);
    let manifest = std::fs::read_to_string(set.at("out").join(MANIFEST)).expect("a manifest");
    assert_eq!(manifest.lines().count(), 4);
    let last = manifest.lines().last().expect("a line");
    for part in [
        r#""source":"set""#,
        r#""licence":"CC0-1.0""#,
        r#""done":"reduced by 2""#,
        r#""width_px":80"#,
        r#""file":"set/deep_3.png""#,
    ] {
        assert!(last.contains(part), "{part} in {last}");
    }
    let sheet = std::fs::read_to_string(set.at("out/contact-sheet.html")).expect("a sheet");
    assert_eq!(sheet.matches("data:image/jpeg;base64,/9j/").count(), 4);
    // A second run does not read the source.
    std::fs::remove_dir_all(set.at("set")).expect("removed");
    let before = set.built();
    let times = || {
        before
            .keys()
            .map(|path| path.metadata().expect("a file").modified().ok())
    };
    let written: Vec<_> = times().collect();
    assert_eq!(set.fetch().expect("built").prepared, 0);
    assert!(set.built() == before && times().collect::<Vec<_>>() == written);
}

#[test]
fn refuses_a_source_with_changed_or_missing_images() {
    let set = Set::new();
    write(&set.at("set/deep/2.png"), scene(50, SIZE), SIZE);
    let error = set.fetch().expect_err("another content").to_string();
    for part in ["1 of 4 images of set", "2.png has SHA-256", "--without set"] {
        assert!(error.contains(part), "{part} in {error}");
    }
    assert!(
        !set.at("out/set").exists(),
        "images of a set that is not the known one"
    );
    std::fs::remove_file(set.at("set/deep/2.png")).expect("removed");
    let error = set.fetch().expect_err("an image is missing").to_string();
    assert!(error.contains("deep/2.png is missing"), "{error}");
}

#[test]
fn excludes_flat_drawn_and_kept_out_images() {
    let set = Set::new();
    let (width, height) = SIZE;
    let own = |name: &str| set.at("own").join(name);
    let slope = |i: usize| (60 + i / 3 % width / 2) as u8;
    write(
        &own("flat.png"),
        (0..3 * width * height).map(slope).collect(),
        SIZE,
    );
    let stripes = |i: usize| {
        if (i / 3 % width / 20).is_multiple_of(2) {
            30
        } else {
            220
        }
    };
    write(
        &own("drawn.png"),
        (0..3 * width * height).map(stripes).collect(),
        SIZE,
    );
    let kept_out = Image::new(width, height, Colour::Rgb, Samples::U8(scene(99, SIZE)));
    let small = kept_out.imresize(0.7);
    write(
        &own("rescaled.png"),
        small.to_rgb8(),
        (small.width_px, small.height_px),
    );
    // As part of a larger image.
    let mut around = scene(7, (320, 260));
    for y in 0..height {
        let row = &kept_out.to_rgb8()[3 * y * width..][..3 * width];
        around[3 * ((y + 85) * 320 + 111)..][..3 * width].copy_from_slice(row);
    }
    write(&own("around.png"), around, (320, 260));
    write(&own("good.png"), scene(8, SIZE), SIZE);
    let report = set.fetch().expect("built");
    let of_own = &report.sources[0];
    assert_eq!(
        (of_own.name.as_str(), of_own.images, of_own.without_licence),
        ("own", 1, 1)
    );
    let why: Vec<String> = of_own
        .excluded
        .iter()
        .map(|(name, reason)| format!("{name} {}", &reason[..reason.find(':').expect("a kind")]))
        .collect();
    let expected = [
        "around.png kept out",
        "drawn.png drawn",
        "flat.png flat",
        "rescaled.png kept out",
    ];
    assert_eq!(why, expected);
    assert!(
        of_own.excluded[3].1.contains("Set9/a.png"),
        "{:?}",
        of_own.excluded
    );
    let files = std::fs::read_dir(set.at("out/own")).expect("a folder");
    assert_eq!(files.count(), 1, "only good.png is there to train on");
}

#[test]
fn completes_an_interrupted_run() {
    let set = Set::new();
    set.fetch().expect("built");
    let whole = set.built();
    // Killed within a line of the manifest; one image is missing, another is corrupt.
    let path = set.at("out").join(MANIFEST);
    let manifest = std::fs::read_to_string(&path).expect("a manifest");
    std::fs::write(&path, &manifest[..manifest.len() - 40]).expect("written");
    std::fs::remove_file(set.at("out/set/deep_0.png")).expect("removed");
    std::fs::write(set.at("out/set/deep_1.png"), b"half").expect("written");
    assert_eq!(set.fetch().expect("built").prepared, 3);
    assert!(set.built() == whole, "differs from a complete run");
    // An invalid line is refused.
    std::fs::write(&path, format!("{{}}\n{manifest}")).expect("written");
    let error = set.fetch().expect_err("an invalid line").to_string();
    assert!(
        error.contains("line 1") && error.contains("remove this file"),
        "{error}"
    );
}

#[test]
fn removes_an_image_that_was_added_to_the_list() {
    let mut set = Set::new();
    set.fetch().expect("built");
    assert!(set.at("out/set/deep_2.png").exists());
    let line = list_entry("Set9/b.png", &scene(2, SIZE), SIZE.0, SIZE.1).expect("a line");
    set.kept_out += &format!("\n{line}");
    let report = set.fetch().expect("built");
    assert_eq!((report.sources[0].images, report.prepared), (3, 4));
    assert!(!set.at("out/set/deep_2.png").exists());
}

#[test]
fn reports_images_that_are_not_in_the_manifest() {
    let set = Set::new();
    write(&set.at("out/set/mine.png"), scene(9, SIZE), SIZE);
    let report = set.fetch().expect("built");
    assert_eq!(report.unknown, [set.at("out/set/mine.png")]);
}

#[test]
fn built_in_lists_are_valid() {
    let sources = Sources::built_in();
    let images = sources.sources.iter().flat_map(|source| &source.images);
    let images: Vec<_> = images.collect();
    assert_eq!(images.len(), 994);
    for image in images {
        assert!(
            image.sha256.len() == 64 && !image.licence.is_empty(),
            "{image:?}"
        );
    }
}
