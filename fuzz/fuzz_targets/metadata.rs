//! Metadata in files that are otherwise whole: any block is read, stripped, scaled and written in every format,
//! in little time and memory. The first byte chooses the block, the others are its content.
#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use wdsr_image::{
    Colour, Format, Image, Limits, MetadataPolicy, Samples, decode_bytes, encode_bytes,
};
use wdsr_testing::containers::{TiffBuilder, with_jpeg_segments, with_png_chunks};

fn file(format: Format) -> Vec<u8> {
    let image = Image::new(4, 3, Colour::Grey, Samples::U8(vec![7; 12]));
    encode_bytes(&image, format).expect("a file")
}

/// The signature and the type of a JPEG XL file with boxes.
const JXL_START: &[u8] = b"\0\0\0\x0cJXL \r\n\x87\n\0\0\0\x14ftypjxl \0\0\0\0jxl ";
const JXL_CODESTREAM: &[u8] = include_bytes!("../../crates/image/tests/jxl/grey8.jxl");

static JPEG: LazyLock<Vec<u8>> = LazyLock::new(|| file(Format::Jpeg));
static PNG: LazyLock<Vec<u8>> = LazyLock::new(|| file(Format::Png));

/// A JPEG file with a segment; longer content is cut.
fn jpeg(marker: u8, prefix: &[u8], content: &[u8]) -> Vec<u8> {
    let mut segment = [prefix, content].concat();
    segment.truncate(65_000);
    with_jpeg_segments(&JPEG, &[(marker, &segment)])
}

fn tiff(tag: u16, kind: u16, content: &[u8]) -> Vec<u8> {
    let builder = TiffBuilder::new(content.len() % 2 == 1);
    let mut page = builder.grey(4, 3, vec![7; 12]);
    page.fields.push((tag, kind, content.to_vec()));
    builder.file(&[page])
}

/// A JPEG XL file with boxes before its codestream.
fn jxl(boxes: &[u8]) -> Vec<u8> {
    [JXL_START, boxes, b"\0\0\0\0jxlc", JXL_CODESTREAM].concat()
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&block, content)) = bytes.split_first() else {
        return;
    };
    let file = match block % 13 {
        0 => jpeg(0xe1, b"Exif\0\0", content),
        1 => jpeg(0xe1, b"http://ns.adobe.com/xap/1.0/\0", content),
        2 => jpeg(0xed, b"Photoshop 3.0\0", content),
        3 => with_png_chunks(&PNG, &[(b"eXIf", content)]),
        4 => with_png_chunks(
            &PNG,
            &[(b"iTXt", &[b"XML:com.adobe.xmp\0\0\0\0\0", content].concat())],
        ),
        5 => with_png_chunks(
            &PNG,
            &[(b"zTXt", content), (b"zTXt", content), (b"iCCP", content)],
        ),
        6 => tiff(700, 1, content),
        7 => tiff(33_723, 4, content),
        8 => tiff(34_735, 3, content),
        // What follows the image.
        9 => [&JPEG[..], content].concat(),
        10 => jpeg(0xe2, b"MPF\0", content),
        11 => jpeg(0xe1, b"http://ns.adobe.com/xmp/extension/\0", content),
        _ => jxl(content),
    };
    let name = Path::new("fuzzed");
    let Ok(mut image) = decode_bytes(&file, name, &Limits::default()) else {
        return;
    };
    image.metadata.apply(MetadataPolicy::StripGps);
    let mut again = image.metadata.clone();
    again.apply(MetadataPolicy::StripGps);
    assert_eq!(again, image.metadata, "stripped twice");
    image.metadata.scale((4, 3), (9, 5));
    for format in Format::WRITTEN {
        let bytes = encode_bytes(&image, format).expect("metadata refuses no image");
        decode_bytes(&bytes, name, &Limits::default()).expect("our own file is read");
    }
});
