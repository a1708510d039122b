//! Which files of a folder are its images.

use std::fs;
use std::path::{Path, PathBuf};

use wdsr_image::{Error, images_in};

fn folder_of(names: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("temporary folder");
    for name in names {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("folder");
        fs::write(path, "").expect("file");
    }
    folder
}

fn names(folder: &Path, recursive: bool) -> Vec<PathBuf> {
    let images = images_in(folder, recursive).expect("there are images");
    let relative = images
        .iter()
        .map(|path| path.strip_prefix(folder).expect("below"));
    relative.map(Path::to_owned).collect()
}

#[test]
fn known_suffixes_in_any_case_sorted() {
    let folder = folder_of(&[
        "b.PNG",
        "a.jpeg",
        "c.webp",
        "d.Tif",
        "e.tiff",
        "f.bmp",
        "g.jpg",
        "h.txt",
        "png",
        ".i.png",
        "sub/k.png",
        ".hidden/l.png",
        "z.png/m.psd",
    ]);
    let top = [
        "a.jpeg", "b.PNG", "c.webp", "d.Tif", "e.tiff", "f.bmp", "g.jpg",
    ]
    .map(PathBuf::from);
    assert_eq!(names(folder.path(), false), top);
    let all: Vec<PathBuf> = top
        .into_iter()
        .chain([PathBuf::from("sub/k.png")])
        .collect();
    assert_eq!(names(folder.path(), true), all);
}

#[test]
fn a_folder_without_images_is_an_error() {
    let folder = folder_of(&["a.txt", "sub/b.png"]);
    let error = images_in(folder.path(), false)
        .expect_err("none")
        .to_string();
    let expected = format!(
        "no images (png, apng, jpg, jpeg, webp, tif, tiff, bmp, gif, jxl, ppm, pgm, pbm, pnm, dds, qoi, tga) in {}",
        folder.path().display()
    );
    assert_eq!(error.replace("avif, ", ""), expected);
    assert_eq!(names(folder.path(), true), [PathBuf::from("sub/b.png")]);
}

#[test]
fn a_file_in_place_of_a_folder_is_an_error() {
    let folder = folder_of(&["a.png"]);
    for path in [folder.path().join("a.png"), folder.path().join("missing")] {
        let error = images_in(&path, false).expect_err("no folder");
        assert!(matches!(error, Error::Folder { .. }), "{error:?}");
        let start = format!("cannot read the folder {}: ", path.display());
        let message = error.to_string();
        assert!(message.starts_with(&start), "{message}");
        assert_eq!(
            message.matches(&*path.to_string_lossy()).count(),
            1,
            "{message}"
        );
    }
}

#[cfg(unix)]
#[test]
fn links_are_followed_and_dangling_ones_named() {
    use std::os::unix::fs::symlink;
    let folder = folder_of(&["sub/a.png"]);
    symlink(
        folder.path().join("sub/a.png"),
        folder.path().join("link.png"),
    )
    .expect("link");
    symlink("nowhere", folder.path().join(".#lock.png")).expect("link");
    assert_eq!(names(folder.path(), false), [PathBuf::from("link.png")]);
    symlink("nowhere", folder.path().join("gone.png")).expect("link");
    let error = images_in(folder.path(), false).expect_err("dangling");
    assert_eq!(error.path(), folder.path().join("gone.png"));
}
