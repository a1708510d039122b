//! `wdsr upscale --rows` and `wdsr join`: one image by several runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use predicates::prelude::*;
use predicates::str::contains;
use wdsr_image::{Colour, Limits, decode};
use wdsr_testing::containers::{ASCII, DOUBLE, TiffBuilder};
use wdsr_testing::images::texture;

use super::rows::small_network;
use super::upscale::names;
use super::{image, wdsr, write};

/// A map with a georeference, a date and XMP.
fn write_map(path: &Path) {
    let builder = TiffBuilder::new(false);
    let mut page = builder.grey(40, 90, texture(40, 90, 1));
    let xmp = br#"<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:ImageLength="90"/></rdf:RDF></x:xmpmeta>"#;
    page.fields.extend([
        (306, ASCII, b"2026:11:27 10:00:00\0".to_vec()),
        (700, 1, xmp.to_vec()),
        (33_550, DOUBLE, builder.doubles(&[10.0, 10.0, 0.0])),
        (
            33_922,
            DOUBLE,
            builder.doubles(&[0.0, 0.0, 0.0, 5e5, 4.6e6, 0.0]),
        ),
    ]);
    fs::write(path, builder.file(&[page])).expect("written");
}

/// `wdsr upscale IMAGE -m MODEL`.
fn upscale(image: &Path, model: &Path) -> assert_cmd::Command {
    let mut command = wdsr();
    command.arg("upscale").arg(image).arg("-m").arg(model);
    command
}

#[test]
fn runs_of_an_array_make_one_image() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let model = small_network(folder.path());
    write_map(&path("map.tif"));
    let run = |output: &Path, extra: &[&str]| {
        upscale(&path("map.tif"), &model)
            .args([Path::new("-o"), output])
            .args(extra)
            .output()
            .expect("it runs")
    };
    assert!(run(&path("whole.tif"), &[]).status.success());
    // At the same time, into one folder, as a scheduler runs them; counted from 0.
    let bands = path("bands");
    thread::scope(|scope| {
        for index in 0..4 {
            let (run, bands) = (&run, &bands);
            scope.spawn(move || {
                let run = run(bands, &["--rows", &format!("{index}/4")]);
                let text = String::from_utf8(run.stderr).expect("text");
                assert!(run.status.success(), "{text}");
                assert!(!text.contains("waiting"), "{text}");
                let part = if index == 0 { 4 } else { index };
                let rows = format!("rows {}:{}:", 45 * (part - 1), 45 * part);
                assert!(text.contains(&rows), "{text}");
            });
        }
    });
    let mut files = Vec::from_iter((1..=4).map(|i| format!("map-rows-{i}-of-4.tif")));
    files.extend((1..=4).map(|i| format!(".wdsr-manifest-rows-{i}-of-4.jsonl")));
    files.sort();
    assert_eq!(names(&bands), files);
    let again = run(&bands, &["--rows", "2/4"]);
    let text = String::from_utf8(again.stderr).expect("text");
    assert!(text.contains("is up to date"), "{text}");

    let band = |i: usize| bands.join(format!("map-rows-{i}-of-4.tif"));
    let joined = path("joined.tif");
    wdsr()
        .arg("join")
        .args([3, 1, 4, 2].map(band))
        .args([Path::new("-o"), &joined])
        .assert()
        .success()
        .stderr(contains("joined.tif (80 x 180: 4 bands)"));
    let read = |path: &Path| fs::read(path).expect("read");
    assert!(read(&joined) == read(&path("whole.tif")));
    // The first band is where the image is, others where their rows are.
    let geo = |path: &Path| {
        let image = decode(path, &Limits::default()).expect("an image");
        image.metadata.geo
    };
    assert!(!geo(&joined).is_empty() && geo(&joined) == geo(&band(1)));
    assert_ne!(geo(&joined), geo(&band(2)));
}

#[test]
fn a_band_stands_beside_its_image_and_is_reported() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let model = small_network(folder.path());
    write(&path("a.png"), &image(8, 20, Colour::Rgb));
    upscale(&path("a.png"), &model)
        .args(["--rows", "30:", "--report"])
        .arg(path("report"))
        .assert()
        .success()
        .stderr(contains("a-x2-rows-30-end.tif (16 x 40, rows 30:40: x2"));
    let result = path("a-x2-rows-30-end.tif");
    let band = decode(&result, &Limits::default()).expect("an image");
    assert_eq!(band.height_px, 10);
    let report = fs::read_to_string(path("report")).expect("read");
    assert!(report.contains("\"rows\":[30,40]"), "{report}");
}

#[test]
fn what_cannot_be_a_band_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let model = small_network(folder.path());
    write(&path("a.png"), &image(8, 20, Colour::Rgb));
    write(&path("a.jpg"), &image(8, 20, Colour::Rgb));
    let upscale = |extra: &[&str]| {
        let mut run = wdsr();
        run.current_dir(folder.path()).arg("upscale").args(extra);
        run.arg("-m").arg(&model).assert()
    };
    for (extra, code, expected) in [
        (
            &["a.png", "--rows", "1/2", "-o", "b.png"][..],
            2,
            "b.png: --rows makes bands in TIFF",
        ),
        (
            &["a.png", "--rows", "1/2", "-f", "png"],
            2,
            "-f: --rows makes bands in TIFF",
        ),
        (&["a.png", "--rows", "3/2"], 2, "expected rows A:B"),
        (&["-", "--rows", "1/2"], 2, "--rows are for files"),
        (
            &["a.png", "--rows", "30:41"],
            3,
            "a.png: rows 30:41 are not within its result of 40",
        ),
        (
            &["a.png", "--rows", "1/41"],
            3,
            "its result of 40 rows has no 41 bands",
        ),
        (
            &["a.jpg", "--rows", "1/2"],
            3,
            "a.jpg: a jpeg image of its kind is read as a whole",
        ),
        (
            &["a.png", "--rows", "1/2", "-s", "4"],
            3,
            "its result is made by x2, x2",
        ),
    ] {
        upscale(extra).code(code).stderr(contains(expected));
    }
    assert_eq!(
        names(folder.path()),
        ["a.jpg", "a.png", "small.safetensors"]
    );
}

#[test]
fn what_is_no_whole_image_is_not_joined() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let model = small_network(folder.path());
    write(&path("a.png"), &image(8, 20, Colour::Rgb));
    let band = |rows: &str, extra: &[&str]| -> PathBuf {
        let band = path(&format!("{}{}.tif", rows.replace(':', "-"), extra.len()));
        upscale(&path("a.png"), &model)
            .args([Path::new("-o"), &band])
            .args(["--rows", rows])
            .args(extra)
            .assert()
            .success();
        band
    };
    let [first, second] = ["0:15", "15:40"].map(|rows| band(rows, &[]));
    let other = band("15:40", &["--self-ensemble"]);
    let join = |bands: &[&Path], output: &Path| {
        let mut run = wdsr();
        run.arg("join").args(bands).arg("-o").arg(output);
        run.assert()
    };
    let joined = path("joined.tif");
    join(&[&first], &joined).code(1).stderr(contains(
        "rows 15:40 of 40 are in none of the 1 bands; make them by",
    ));
    join(&[&first, &other], &joined)
        .code(1)
        .stderr(contains("its origin is").and(contains("self-ensemble true")));
    join(&[&first, &path("a.png")], &joined)
        .code(1)
        .stderr(contains("a.png: expected a band of an image"));
    join(&[&first, &second], &path("joined.png"))
        .code(2)
        .stderr(contains("joined.png: expected a name that ends with .tif"));
    let before = fs::read(&first).expect("read");
    join(&[&first, &second], &first)
        .code(2)
        .stderr(contains("would replace the band"));
    assert!(before == fs::read(&first).expect("read"));
    assert!(!joined.exists());
    join(&[&first, &second], &joined).success();
}
