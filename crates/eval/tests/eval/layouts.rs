//! Folder layouts and pairing, on small generated images.

use std::path::Path;

use wdsr_eval::{Pair, Track, find_pairs};
use wdsr_image::{Colour, Format, Image, Samples, encode};

fn save(path: &Path, image: &Image) {
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    encode(image, path, Format::Png).expect("an image");
}

/// Pixel (x, y) is R = x, G = y, B = 9, so that a wrong cut shows.
fn image(path: &Path, width_px: usize, height_px: usize) {
    let pixels =
        (0..height_px).flat_map(|y| (0..width_px).flat_map(move |x| [x as u8, y as u8, 9]));
    let samples = Samples::U8(pixels.collect());
    save(path, &Image::new(width_px, height_px, Colour::Rgb, samples));
}

fn images(root: &Path, files: &[&str]) {
    for file in files {
        image(&root.join(file), 16, 16);
    }
}

/// Name, and both files below `root`.
fn found(root: &Path, pairs: &[Pair]) -> Vec<[String; 3]> {
    let below = |path: &Path| {
        let path = path.strip_prefix(root).expect("a file of the set");
        path.to_string_lossy().into_owned()
    };
    pairs
        .iter()
        .map(|pair| {
            let low = pair.low.as_deref().map_or_else(String::new, below);
            [pair.name.clone(), below(&pair.high), low]
        })
        .collect()
}

fn refusal(folder: &Path, scale: usize, track: Track) -> String {
    let error = find_pairs(folder, scale, track).expect_err("an error");
    let message = error.to_string();
    assert!(!message.contains('\n'), "one line: {message}");
    message
}

#[test]
fn images_in_other_folders_are_high_resolution() {
    let root = tempfile::tempdir().expect("a folder");
    images(root.path(), &["b.png", "sub/c.png", "a.png"]);
    let pairs = find_pairs(root.path(), 2, Track::Bicubic).expect("pairs");
    assert_eq!(
        found(root.path(), &pairs),
        [
            ["a", "a.png", ""],
            ["b", "b.png", ""],
            ["sub/c", "sub/c.png", ""]
        ]
    );
}

#[test]
fn set5_layout_is_found_with_and_without_markers() {
    let root = tempfile::tempdir().expect("a folder");
    let root = root.path();
    images(root, &["HR/baby.png", "HR/bird.png", "HR/linux2.png"]);
    images(
        root,
        &[
            "LR_bicubic/X2/babyx2.png",
            "LR_bicubic/X2/bird.png",
            "LR_bicubic/X2/linux2.png",
        ],
    );
    let at = |scale| {
        let pairs = find_pairs(root, scale, Track::Bicubic).expect("pairs");
        found(root, &pairs)
    };
    assert_eq!(
        at(2),
        [
            ["baby", "HR/baby.png", "LR_bicubic/X2/babyx2.png"],
            ["bird", "HR/bird.png", "LR_bicubic/X2/bird.png"],
            ["linux2", "HR/linux2.png", "LR_bicubic/X2/linux2.png"],
        ]
    );
    // No X3: made by imresize.
    assert_eq!(
        at(3),
        [
            ["baby", "HR/baby.png", ""],
            ["bird", "HR/bird.png", ""],
            ["linux2", "HR/linux2.png", ""]
        ]
    );
    let message = refusal(root, 4, Track::Mild);
    assert!(message.contains("bicubic images only"), "{message}");
}

#[test]
fn div2k_layout_and_tracks_are_found() {
    let root = tempfile::tempdir().expect("a folder");
    let root = root.path();
    images(
        root,
        &[
            "DIV2K_train_HR/0001.png",
            "DIV2K_train_LR_bicubic/X2/0001x2.png",
            "DIV2K_train_LR_x8/0001x8.png",
            "DIV2K_train_LR_unknown/X2/0001x2.png",
            "DIV2K_train_LR_unknown/X4/0001x4.png",
            "DIV2K_train_LR_mild/0001x4m.png",
            "DIV2K_train_LR_difficult/0001x4d.png",
            "DIV2K_train_LR_wild/0001x4w1.png",
            "DIV2K_train_LR_wild/0001x4w4.png",
        ],
    );
    let at = |folder: &Path, scale, track| {
        let pairs = find_pairs(folder, scale, track).expect("pairs");
        assert!(pairs.iter().all(|pair| pair.scale == scale), "{pairs:?}");
        found(root, &pairs)
    };
    for (scale, track, low) in [
        (2, Track::Bicubic, "DIV2K_train_LR_bicubic/X2/0001x2.png"),
        (3, Track::Bicubic, ""),
        (8, Track::Bicubic, "DIV2K_train_LR_x8/0001x8.png"),
        (2, Track::Unknown, "DIV2K_train_LR_unknown/X2/0001x2.png"),
        (4, Track::Unknown, "DIV2K_train_LR_unknown/X4/0001x4.png"),
        (4, Track::Mild, "DIV2K_train_LR_mild/0001x4m.png"),
        (4, Track::Difficult, "DIV2K_train_LR_difficult/0001x4d.png"),
    ] {
        let expected = [["0001", "DIV2K_train_HR/0001.png", low]];
        assert_eq!(at(root, scale, track), expected, "x{scale} {track}");
        // The folder of the originals names the set as well.
        let named = root.join("DIV2K_train_HR");
        assert_eq!(at(&named, scale, track), expected, "x{scale} {track}");
    }
    let high = "DIV2K_train_HR/0001.png";
    assert_eq!(
        at(root, 4, Track::Wild),
        [
            ["0001x4w1", high, "DIV2K_train_LR_wild/0001x4w1.png"],
            ["0001x4w4", high, "DIV2K_train_LR_wild/0001x4w4.png"],
        ]
    );
    let message = refusal(root, 2, Track::Mild);
    assert!(
        message.contains("x4 images only, expected x4, found x2"),
        "{message}"
    );
}

#[test]
fn folders_of_several_sets_are_refused() {
    let root = tempfile::tempdir().expect("a folder");
    let root = root.path();
    images(
        root,
        &["DIV2K_train_HR/0001.png", "DIV2K_valid_HR/0801.png"],
    );
    images(root, &["DIV2K_valid_LR_wild/0801x4w.png"]);
    let message = refusal(root, 2, Track::Bicubic);
    assert!(
        message.contains("contains several sets, such as")
            && message.contains("DIV2K_train_HR")
            && message.contains("DIV2K_valid_HR"),
        "{message}"
    );
    let valid = find_pairs(&root.join("DIV2K_valid_HR"), 4, Track::Wild).expect("pairs");
    assert_eq!(
        found(root, &valid),
        [[
            "0801x4w",
            "DIV2K_valid_HR/0801.png",
            "DIV2K_valid_LR_wild/0801x4w.png"
        ]]
    );
    // Low-resolution images further down do not pass for originals.
    let above = tempfile::tempdir().expect("a folder");
    images(
        above.path(),
        &["Set5/HR/a.png", "Set5/LR_bicubic/X2/ax2.png"],
    );
    let message = refusal(above.path(), 2, Track::Bicubic);
    assert!(
        message.contains("contains low-resolution images in Set5/LR_bicubic"),
        "{message}"
    );
}

#[test]
fn images_without_their_counterpart_are_named() {
    let cases: [(&[&str], Track, &[&str]); 6] = [
        (
            &["HR/a.png", "HR/b.png", "LR_bicubic/X4/ax4.png"],
            Track::Bicubic,
            &[
                "HR/b.png: no low-resolution image for it in",
                "LR_bicubic/X4",
            ],
        ),
        (
            &["HR/a.png", "LR_bicubic/X4/ax4.png", "LR_bicubic/X4/cx4.png"],
            Track::Bicubic,
            &["X4/cx4.png: no high-resolution image for it in"],
        ),
        (
            // The marker of another scale.
            &["HR/a.png", "LR_bicubic/X4/ax2.png"],
            Track::Bicubic,
            &["X4/ax2.png: no high-resolution image for it in"],
        ),
        (
            &["HR/a.png", "LR_bicubic/X4/ax4.png", "LR_bicubic/X4/a.png"],
            Track::Bicubic,
            &[
                "ax4.png",
                "a.png is also a low-resolution image of",
                "remove one",
            ],
        ),
        (
            &["D_HR/0001.png", "D_LR_wild/0001x4m.png"],
            Track::Wild,
            &["D_LR_wild/0001x4m.png: no high-resolution image for it in"],
        ),
        (
            &["D_HR/0001.png"],
            Track::Difficult,
            &["D_LR_difficult: no such folder"],
        ),
    ];
    for (files, track, expected) in cases {
        let root = tempfile::tempdir().expect("a folder");
        images(root.path(), files);
        let message = refusal(root.path(), 4, track);
        for part in expected {
            assert!(message.contains(part), "{files:?}: {message}");
        }
    }
}

#[test]
fn two_originals_of_one_name_are_refused() {
    let root = tempfile::tempdir().expect("a folder");
    let root = root.path();
    images(root, &["HR/a.png"]);
    std::fs::copy(root.join("HR/a.png"), root.join("HR/a.jpg")).expect("a copy");
    let message = refusal(root, 2, Track::Bicubic);
    assert!(
        message.contains("a.png: ") && message.contains("a.jpg has the same name"),
        "{message}"
    );
}

#[test]
fn originals_are_cropped_to_a_multiple_of_the_scale_at_the_right_and_bottom() {
    let root = tempfile::tempdir().expect("a folder");
    image(&root.path().join("a.png"), 14, 11);
    for (scale, low_size) in [(2, (7, 5)), (3, (4, 3)), (4, (3, 2)), (7, (2, 1))] {
        let pairs = find_pairs(root.path(), scale, Track::Bicubic).expect("pairs");
        let pair = pairs[0].load().expect("a pair");
        assert_eq!(
            (pair.low_width_px, pair.low_height_px),
            low_size,
            "x{scale}"
        );
        let (w, h) = (low_size.0 * scale, low_size.1 * scale);
        assert_eq!(pair.high_size_px(), (w, h), "x{scale}");
        let expected = (0..h).flat_map(|y| (0..w).flat_map(move |x| [x as u8, y as u8, 9]));
        assert_eq!(pair.high, expected.collect::<Vec<u8>>(), "x{scale}");
        assert_eq!(pair.low.len(), low_size.0 * low_size.1 * 3, "x{scale}");
        assert!(!pair.grey, "x{scale}");
    }
}

#[test]
fn grey_images_are_replicated() {
    let root = tempfile::tempdir().expect("a folder");
    let grey = Samples::U8(vec![10, 20, 30, 40]);
    let path = root.path().join("a.png");
    save(&path, &Image::new(2, 2, Colour::Grey, grey));
    let pairs = find_pairs(root.path(), 1, Track::Bicubic).expect("pairs");
    let pair = pairs[0].load().expect("a pair");
    assert!(pair.grey, "stored as grey");
    assert_eq!(pair.high, [10, 10, 10, 20, 20, 20, 30, 30, 30, 40, 40, 40]);
}

#[test]
fn size_mismatches_name_both_files() {
    let root = tempfile::tempdir().expect("a folder");
    image(&root.path().join("HR/a.png"), 17, 16);
    image(&root.path().join("LR_bicubic/X2/ax2.png"), 8, 7);
    let pairs = find_pairs(root.path(), 2, Track::Bicubic).expect("pairs");
    let error = pairs[0].load().expect_err("sizes differ").to_string();
    for part in [
        "ax2.png: 8 x 7 pixels, expected 8 x 8 (1/2 of",
        "HR/a.png, 17 x 16)",
    ] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn images_smaller_than_the_scale_are_named() {
    let root = tempfile::tempdir().expect("a folder");
    image(&root.path().join("thin.png"), 3, 40);
    let pairs = find_pairs(root.path(), 4, Track::Bicubic).expect("pairs");
    let error = pairs[0].load().expect_err("too small").to_string();
    assert!(
        error.contains("thin.png: 3 x 40 pixels, expected at least 4 x 4 at x4"),
        "{error}"
    );
}

#[test]
fn names_of_tracks_are_parsed_back() {
    for track in [Track::Bicubic, Track::Mild, Track::Difficult, Track::Wild] {
        assert_eq!(track.to_string().parse(), Ok(track));
    }
    let track = "x8".parse::<Track>().expect_err("no such track");
    assert!(track.to_string().contains("found `x8`"), "{track}");
}

/// The pairs of a set of files at x2: original and low-resolution image, or "" if it is computed.
fn pairs_of(files: &[&str], folder: &str) -> Result<Vec<[String; 2]>, String> {
    let root = tempfile::tempdir().expect("a folder");
    images(root.path(), files);
    let pairs = find_pairs(&root.path().join(folder), 2, Track::Bicubic);
    let pairs = pairs.map_err(|error| error.to_string())?;
    let found = found(root.path(), &pairs);
    Ok(found
        .into_iter()
        .map(|[_, high, low]| [high, low])
        .collect())
}

#[test]
fn layouts_of_other_projects_are_recognised() {
    let cases: [(&[&str], &str, &str); 22] = [
        // BasicSR; its originals are not cropped to the low-resolution images.
        (
            &[
                "original/a.png",
                "GTmod12/a.png",
                "LRbicx2/a.png",
                "LRbicx3/a.png",
                "LRbicx4/a.png",
            ],
            "GTmod12/a.png",
            "LRbicx2/a.png",
        ),
        (&["GTmod12/a.png", "LRbicx4/a.png"], "GTmod12/a.png", ""),
        (
            &["original/a.png", "LRbicx2/a.png"],
            "original/a.png",
            "LRbicx2/a.png",
        ),
        // RealSR, in folders and in files.
        (&["HR/a.png", "LR/a.png"], "HR/a.png", "LR/a.png"),
        (
            &["HR/a_HR.png", "LR/a_LR2.png"],
            "HR/a_HR.png",
            "LR/a_LR2.png",
        ),
        (
            &["C_001_HR.png", "C_001_LR2.png"],
            "C_001_HR.png",
            "C_001_LR2.png",
        ),
        (
            &["C_1_HR.png", "C_1_LR2.png", "C_1_LR4.png"],
            "C_1_HR.png",
            "C_1_LR2.png",
        ),
        // SelfExSR, with the results of methods.
        (
            &[
                "image_SRF_2/i_1_SRF_2_HR.png",
                "image_SRF_2/i_1_SRF_2_LR.png",
                "image_SRF_2/i_1_SRF_2_bicubic.png",
                "image_SRF_4/i_1_SRF_4_HR.png",
                "image_SRF_4/i_1_SRF_4_LR.png",
            ],
            "image_SRF_2/i_1_SRF_2_HR.png",
            "image_SRF_2/i_1_SRF_2_LR.png",
        ),
        (&["GT/a.png", "LQ/a.png"], "GT/a.png", "LQ/a.png"),
        (&["gt/a.png", "lq/a.png"], "gt/a.png", "lq/a.png"),
        (
            &["target/a.png", "input/a.png"],
            "target/a.png",
            "input/a.png",
        ),
        (
            &["hr/a.png", "lr_bicubic/x2/ax2.png"],
            "hr/a.png",
            "lr_bicubic/x2/ax2.png",
        ),
        (
            &["HR/a.png", "LR_x2/a.png", "LR_x4/a.png"],
            "HR/a.png",
            "LR_x2/a.png",
        ),
        (
            &["HR/a.png", "LR/X2/a.png", "LR/X4/a.png"],
            "HR/a.png",
            "LR/X2/a.png",
        ),
        (
            &["HR/a.png", "X2/a.png", "X3/a.png"],
            "HR/a.png",
            "X2/a.png",
        ),
        (
            &["D_HR/a.png", "D_LR_bicubic_X2/ax2.png"],
            "D_HR/a.png",
            "D_LR_bicubic_X2/ax2.png",
        ),
        (
            &["D_HR/a.png", "D_LR_bicubic/x2/ax2.png"],
            "D_HR/a.png",
            "D_LR_bicubic/x2/ax2.png",
        ),
        (
            &["Test_HR/a.png", "Test_LR/a.png"],
            "Test_HR/a.png",
            "Test_LR/a.png",
        ),
        // The bicubic ones are preferred to others.
        (
            &[
                "D_HR/a.png",
                "D_LR_bicubic/X2/ax2.png",
                "D_LR_unknown/X2/ax2.png",
                "D_LR_mild/ax4m.png",
            ],
            "D_HR/a.png",
            "D_LR_bicubic/X2/ax2.png",
        ),
        (&["D_HR/a.png", "D_LR_mild/ax4m.png"], "D_HR/a.png", ""),
        (&["HR/a.png", "masks/other.png"], "HR/a.png", ""),
        (&["linux2.png"], "linux2.png", ""),
    ];
    for (files, high, low) in cases {
        let expected = vec![[high.to_owned(), low.to_owned()]];
        assert_eq!(pairs_of(files, ""), Ok(expected), "{files:?}");
    }
}

#[test]
fn low_resolution_images_never_pass_for_originals() {
    let cases: [(&[&str], &str, &str); 14] = [
        // Folders of an unknown kind.
        (&["HR/a.png", "LR_blur/a.png"], "", "an unknown kind"),
        (
            &["D_HR/a.png", "D_LR_unknown/X2/ax2.png"],
            "",
            "an unknown kind",
        ),
        (&["HR/a.png", "small/a.png"], "", "the same names"),
        (&["HR/a.png", "small/ax2.png"], "", "the same names"),
        (
            &["HR/a.png", "LR/a.png", "LR_x2/a.png"],
            "",
            "move one of the folders away",
        ),
        // A set in a subfolder.
        (
            &["Set5/original/a.png", "Set5/LRbicx2/a.png"],
            "",
            "in Set5/LRbicx2",
        ),
        (
            &["Set5/hr/a.png", "Set5/lr_bicubic/x2/a.png"],
            "",
            "in Set5/lr_bicubic",
        ),
        (&["s/GT/a.png", "s/LQ/a.png"], "", "in s/LQ"),
        (
            &["Test/2/C_HR.png", "Test/2/C_LR2.png"],
            "",
            "beside their originals",
        ),
        (&["s/a.png", "s/ax2.png"], "", "beside their originals"),
        // Another scale.
        (
            &["C_HR.png", "C_LR4.png"],
            "",
            "expected low-resolution images of x2, found x4",
        ),
        // The folder of the low-resolution images itself.
        (&["HR/a.png", "LR/a.png"], "LR", "whose originals are in"),
        (
            &["GTmod12/a.png", "LRbicx2/a.png"],
            "LRbicx2",
            "whose originals are in",
        ),
        (
            &["D_HR/a.png", "D_LR_bicubic/X2/ax2.png"],
            "D_LR_bicubic/X2",
            "whose originals are in",
        ),
    ];
    for (files, folder, expected) in cases {
        let message = pairs_of(files, folder).expect_err(&files.join(" "));
        assert!(message.contains(expected), "{files:?}: {message}");
        assert!(!message.contains('\n'), "one line: {message}");
    }
}

#[test]
fn the_folder_of_originals_names_its_set() {
    for (files, folder) in [
        (["HR/a.png", "LR_bicubic/X2/ax2.png"], "HR"),
        (["GT/a.png", "LQ/a.png"], "GT"),
        (["GTmod12/a.png", "LRbicx2/a.png"], "GTmod12"),
        (["D_HR/a.png", "D_LR_bicubic/X2/ax2.png"], "D_HR"),
    ] {
        let expected = vec![files.map(str::to_owned)];
        assert_eq!(pairs_of(&files, folder), Ok(expected), "{files:?}");
    }
    // Named alone, an unknown folder beside it does not matter.
    let expected = vec![["HR/a.png".to_owned(), String::new()]];
    assert_eq!(pairs_of(&["HR/a.png", "small/a.png"], "HR"), Ok(expected));
}

#[test]
fn files_without_their_counterpart_are_named() {
    for (files, expected) in [
        (
            &["a_HR.png", "a_LR2.png", "b_HR.png"][..],
            "b_HR.png: no low-resolution image b_LR2",
        ),
        (
            &["a_HR.png", "a_LR2.png", "b_LR2.png"],
            "b_LR2.png: no high-resolution image",
        ),
        (&["a_HR.png", "a_LR2.png", "a_LR.png"], "of the same image"),
        (
            &["a_HR.png", "a_LR2.png", "notes.png"],
            "notes.png: expected NAME_HR",
        ),
    ] {
        let message = pairs_of(files, "").expect_err(&files.join(" "));
        assert!(message.contains(expected), "{files:?}: {message}");
    }
}
