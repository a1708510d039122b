use std::path::Path;

use predicates::str::contains;
use wdsr_image::{Colour, Format, Image, Samples, encode_bytes};

use super::upscale::names;
use super::{image, wdsr, write};

fn compare(folder: &Path, arguments: &[&str]) -> assert_cmd::assert::Assert {
    wdsr()
        .current_dir(folder)
        .arg("compare")
        .args(arguments)
        .assert()
}

fn page(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("compare.html")).expect("a page")
}

/// An image with every sample raised by `levels`.
fn brighter(image: &Image, levels: u8) -> Image {
    let Samples::U8(samples) = &image.samples else {
        panic!("8 bit")
    };
    let samples = samples.iter().map(|v| v.saturating_add(levels)).collect();
    Image::new(
        image.width_px,
        image.height_px,
        image.colour,
        Samples::U8(samples),
    )
}

/// Base64 of a file as the page has it.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for piece in bytes.chunks(3) {
        let mut three = [0; 3];
        three[..piece.len()].copy_from_slice(piece);
        let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        for at in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * at)) as usize & 63] as char;
            text.push(if at <= piece.len() { digit } else { '=' });
        }
    }
    text
}

#[test]
fn the_page_holds_the_files_and_their_figures() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let original = image(40, 30, Colour::Rgb);
    write(&at.join("a.png"), &brighter(&original, 1));
    write(&at.join("b.jpg"), &brighter(&original, 9));
    write(&at.join("c.png"), &original);
    compare(at, &["a.png", "b.jpg", "--original", "c.png", "-s", "2"])
        .success()
        .stderr(contains("compare.html: 1 comparison"));
    let page = page(at);
    for name in ["a.png", "b.jpg", "c.png"] {
        let file = std::fs::read(at.join(name)).expect("read");
        assert!(page.contains(&base64(&file)), "{name}");
    }
    // The figures of `wdsr eval`.
    let [a, c] = [brighter(&original, 1), original].map(|image| image.to_rgb8());
    let psnr = wdsr_eval::psnr_db(&a, &c, 40, 30, wdsr_eval::Channel::Y, 2);
    let ssim = wdsr_eval::ssim(&a, &c, 40, 30, wdsr_eval::Channel::Y, 2);
    for figure in [format!(">{psnr:.3}<"), format!(">{ssim:.4}<")] {
        assert!(page.contains(&figure), "{figure}");
    }
    assert!(page.contains("2 px cropped"), "the protocol");
    assert!(page.contains("c.png (original)"), "the original");
    // Nothing is loaded from elsewhere.
    for outside in ["http:", "https:", "src=\"", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn other_formats_depths_and_metadata_become_png() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let samples = (0..20 * 12 * 3).map(|v| v * 91).collect();
    let deep = Image::new(20, 12, Colour::Rgb, Samples::U16(samples));
    write(&at.join("deep.tif"), &deep);
    let mut placed = image(20, 12, Colour::Rgb);
    placed.metadata.xmp = Some(b"<x:xmpmeta>secret place</x:xmpmeta>".to_vec());
    write(&at.join("placed.png"), &placed);
    compare(at, &["deep.tif", "placed.png"]).success();
    let page = page(at);
    assert!(
        page.contains("16-bit, shown and compared in 8 bits"),
        "said"
    );
    let shown = Image::new(20, 12, Colour::Rgb, Samples::U8(deep.to_rgb8()));
    let shown = encode_bytes(&shown, Format::Png).expect("a PNG");
    assert!(page.contains(&base64(&shown)), "the image in 8 bits");
    let file = std::fs::read(at.join("placed.png")).expect("read");
    assert!(!page.contains(&base64(&file)), "its metadata is private");
}

#[test]
fn an_input_is_shown_beside_its_results_without_figures() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    write(&at.join("a.png"), &image(20, 15, Colour::Rgb));
    write(&at.join("x2.png"), &image(40, 30, Colour::Rgb));
    compare(at, &["a.png", "x2.png"]).success();
    assert!(!page(at).contains("PSNR"), "sizes differ");
    write(&at.join("other.png"), &image(40, 29, Colour::Rgb));
    compare(at, &["x2.png", "other.png", "-o", "p.html"])
        .code(3)
        .stderr(contains("other.png is 40 x 29"))
        .stderr(contains("expected images of the same size"));
    assert_eq!(
        names(at),
        ["a.png", "compare.html", "other.png", "x2.png"],
        "no half page"
    );
}

#[test]
fn folders_are_compared_by_names() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    for (name, size) in [
        ("a/1.png", 20),
        ("a/2.png", 24),
        ("a/3.png", 20),
        ("a/only.png", 20),
        ("b/1.jpg", 20),
        ("b/2.png", 24),
        ("b/3.png", 21),
    ] {
        std::fs::create_dir_all(at.join(name).parent().expect("a parent")).expect("a folder");
        write(&at.join(name), &image(size, 20, Colour::Rgb));
    }
    compare(at, &["a", "b"])
        .code(1)
        .stderr(contains("only.png: skipped, b has no image of this name"))
        .stderr(contains("expected images of the same size"))
        .stderr(contains("2 comparisons"));
    let page = page(at);
    assert!(page.contains("<td>2</td><td>b</td><td>a</td>"), "{page}");
    assert!(page.contains("equal"), "2.png is the same in both");
    compare(at, &["a", "b/1.jpg", "-o", "p.html"])
        .code(2)
        .stderr(contains("b/1.jpg: expected a folder"));
}

#[test]
fn a_page_replaces_no_image_and_no_unnamed_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    write(&at.join("a.png"), &image(20, 15, Colour::Rgb));
    write(&at.join("b.png"), &image(20, 15, Colour::Rgb));
    let before = std::fs::read(at.join("a.png")).expect("read");
    compare(at, &["a.png", "b.png", "-o", "a.png"])
        .code(2)
        .stderr(contains("a.png: the page would replace the input a.png"));
    assert_eq!(std::fs::read(at.join("a.png")).expect("read"), before);
    std::fs::write(at.join("compare.html"), "mine").expect("written");
    compare(at, &["a.png", "b.png"])
        .code(2)
        .stderr(contains("compare.html already exists"));
    compare(at, &["a.png", "b.png", "-o", "compare.html"]).success();
    compare(at, &["a.png"])
        .code(2)
        .stderr(contains("expected two or more images"));
    compare(at, &["a.png", "missing.png", "-o", "p.html"])
        .code(3)
        .stderr(contains("missing.png"));
}

#[test]
fn names_cannot_end_the_script() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    for name in ["<b>&.png", "b.png"] {
        write(&at.join(name), &image(20, 15, Colour::Rgb));
    }
    compare(at, &["<b>&.png", "b.png"]).success();
    let page = page(at);
    assert!(page.contains("&lt;b&gt;&amp;.png"), "escaped");
    assert!(!page.contains("<b>"), "markup of a name");
}
