//! DDS, QOI and TGA: what games and their tools hold images in.

use std::path::Path;

use image::codecs::{qoi::QoiEncoder, tga::TgaEncoder};
use image::{ExtendedColorType, ImageEncoder};
use wdsr_image::{Colour, Error, Format, Image, Limits, Reader, Samples};
use wdsr_testing::images::texture;

const SIZE: (usize, usize) = (7, 5);

fn open(bytes: &[u8], name: &str) -> Result<Reader, Error> {
    Reader::from_bytes(bytes, Path::new(name), &Limits::default())
}

fn image(colour: Colour) -> Image {
    let samples = texture(SIZE.0, SIZE.1, colour.channels());
    Image::new(SIZE.0, SIZE.1, colour, Samples::U8(samples))
}

fn encoded(image: &Image, encoder: impl ImageEncoder) {
    let kind = match image.colour {
        Colour::Rgb => ExtendedColorType::Rgb8,
        Colour::RgbAlpha => ExtendedColorType::Rgba8,
        _ => ExtendedColorType::L8,
    };
    let Samples::U8(bytes) = &image.samples else {
        panic!("{:?}", image.outline());
    };
    let size = (SIZE.0 as u32, SIZE.1 as u32);
    let written = encoder.write_image(bytes, size.0, size.1, kind);
    written.expect("a file");
}

#[test]
fn qoi_and_tga_are_read_exactly() {
    for colour in [Colour::Rgb, Colour::RgbAlpha, Colour::Grey] {
        let image = image(colour);
        let (mut qoi, mut tga, mut plain_tga) = (Vec::new(), Vec::new(), Vec::new());
        if colour != Colour::Grey {
            encoded(&image, QoiEncoder::new(&mut qoi));
            let reader = open(&qoi, "x").expect("a QOI file");
            assert_eq!(reader.format(), Format::Qoi);
            assert_eq!(reader.read_all().expect("an image"), image);
        }
        encoded(&image, TgaEncoder::new(&mut tga));
        encoded(&image, TgaEncoder::new(&mut plain_tga).disable_rle());
        for file in [tga, plain_tga] {
            let reader = open(&file, "x.TGA").expect("a TGA file");
            assert_eq!(reader.format(), Format::Tga);
            assert_eq!(reader.format().of_result(), Format::Png);
            assert_eq!(reader.read_all().expect("an image"), image);
            // Nothing in it says what it is.
            assert!(matches!(open(&file, "x"), Err(Error::NotAnImage { .. })));
            let cut = &file[..file.len() - 9];
            let error = open(cut, "x.tga").and_then(Reader::read_all);
            let error = error.expect_err("a part");
            assert!(matches!(error, Error::Truncated { .. }), "{error}");
        }
    }
    let text = open(b"hello, this is no texture", "x.tga").err();
    assert!(matches!(text, Some(Error::NotAnImage { .. })), "{text:?}");
}

/// A DXT1 texture of 8 x 4 pixels: a red and a blue block.
fn dds(mipmaps: u32, caps: u32) -> Vec<u8> {
    let mut header = vec![0_u32; 32];
    header[0] = u32::from_le_bytes(*b"DDS ");
    (header[1], header[2], header[3], header[4]) = (124, 0x1007, 4, 8);
    (header[7], header[19], header[20]) = (mipmaps, 32, 4);
    header[21] = u32::from_le_bytes(*b"DXT1");
    (header[27], header[28]) = (0x1000, caps);
    let mut file: Vec<u8> = header.into_iter().flat_map(u32::to_le_bytes).collect();
    for colour in [0xf800_u16, 0x001f] {
        file.extend(colour.to_le_bytes());
        file.extend([0; 6]);
    }
    file
}

#[test]
fn dds_textures_are_read_and_what_is_beside_the_image_is_said() {
    let reader = open(&dds(1, 0), "x").expect("a DDS file");
    assert_eq!(reader.format(), Format::Dds);
    assert!(reader.omitted().is_empty());
    let read = reader.read_all().expect("an image");
    let Samples::U8(samples) = &read.samples else {
        panic!("{:?}", read.outline());
    };
    assert_eq!((read.width_px, read.height_px), (8, 4));
    assert_eq!(samples[..3], [255, 0, 0]);
    assert_eq!(samples[3 * 7..][..3], [0, 0, 255]);
    for (file, expected) in [
        (dds(3, 0), "mipmaps"),
        (dds(1, 0x200), "further faces of a cube map"),
        (dds(1, 0x20_0000), "further slices of a volume"),
    ] {
        let reader = open(&file, "x").expect("a DDS file");
        let [omitted] = reader.omitted() else {
            panic!("{:?}", reader.omitted());
        };
        assert!(omitted.starts_with(expected), "{omitted}");
    }
    let file = dds(1, 0);
    let cut = open(&file[..file.len() - 4], "x").and_then(Reader::read_all);
    assert!(matches!(cut, Err(Error::Truncated { .. })), "{cut:?}");
}
