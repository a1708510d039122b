//! What files contain beside their image is named, what can be adapted is adapted, and no small file takes
//! long.

use std::path::Path;
use std::time::{Duration, Instant};

use wdsr_image::{
    Colour, Error, Format, Image, Limits, Metadata, MetadataPolicy, Reader, Samples, decode_bytes,
    encode_bytes, images_by_content,
};
use wdsr_testing::containers::{
    ASCII, DOUBLE, LONG, SHORT, TiffBuilder, TiffDirectory, with_jpeg_segments, with_png_chunks,
};

fn grey(width_px: usize, height_px: usize) -> Image {
    let samples = (0..width_px * height_px).map(|i| (i * 37 % 251) as u8);
    Image::new(
        width_px,
        height_px,
        Colour::Grey,
        Samples::U8(samples.collect()),
    )
}

fn file(format: Format) -> Vec<u8> {
    encode_bytes(&grey(16, 12), format).expect("a file")
}

fn open(bytes: &[u8]) -> Reader {
    Reader::from_bytes(bytes, Path::new("x"), &Limits::default()).expect("an image")
}

fn error(bytes: &[u8]) -> Error {
    let read = decode_bytes(bytes, Path::new("x"), &Limits::default());
    read.map(drop).expect_err("no image")
}

/// Everything that a reader says is not in the image.
fn said(bytes: &[u8]) -> String {
    let reader = open(bytes);
    let said = [reader.omitted(), &reader.metadata().dropped].concat();
    reader.read_all().expect("an image");
    said.join("; ")
}

/// A file of `format` that is written with the metadata of another, scaled to twice the size.
fn doubled(bytes: &[u8], format: Format) -> Metadata {
    let mut image = decode_bytes(bytes, Path::new("x"), &Limits::default()).expect("an image");
    let size = (image.width_px, image.height_px);
    image.metadata.scale(size, (2 * size.0, 2 * size.1));
    let large = Image {
        metadata: image.metadata,
        ..grey(2 * size.0, 2 * size.1)
    };
    let bytes = encode_bytes(&large, format).expect("a file");
    open(&bytes).metadata().clone()
}

const VIDEO: &[u8] = b"\0\0\0\x18ftypmp42\0\0\0\0isommp42\0\0\0\x08mdat";

#[test]
fn further_images_behind_the_first_are_counted() {
    for format in Format::WRITTEN {
        let one = file(format);
        assert_eq!(said(&one), "", "{format}");
        assert_eq!(said(&[&one[..], &[0; 7]].concat()), "", "{format}, padded");
        let two = said(&[&one[..], &one].concat());
        assert!(two.starts_with("1 further image"), "{format}: {two}");
    }
    for format in [Format::Png, Format::Jpeg, Format::Tiff] {
        let one = file(format);
        let three = said(&[&one[..], &one, &one].concat());
        assert!(three.starts_with("2 further images"), "{format}: {three}");
    }
    // Directories before and after the samples, an odd length, both orders of bytes, several pages.
    for big_endian in [false, true] {
        let builder = TiffBuilder::new(big_endian);
        let page = builder.grey(5, 1, vec![7; 5]);
        let pages = builder.file(&[page.clone(), page]);
        let one = file(Format::Tiff);
        for (first, second) in [(&pages, &one), (&one, &pages)] {
            let both = said(&[&first[..], second].concat());
            assert!(both.contains("1 further image"), "{both}");
        }
        assert_eq!(
            said(&[&one[..], b"\0", &one].concat()),
            said(&one.repeat(2))
        );
        assert_eq!(said(&[&one[..], b"II*\0", &[0xff; 40]].concat()), "");
    }
    let jpeg = file(Format::Jpeg);
    let motion = said(&[&jpeg[..], VIDEO].concat());
    assert!(motion.starts_with("video of a motion photo"), "{motion}");
    let other = said(&[&jpeg[..], b"SEFT"].concat());
    assert!(
        other.starts_with("data after the end of the image"),
        "{other}"
    );
    let iso: &[u8] = b"urn:iso:std:iso:ts:21496:-1\0\0\0\0\0";
    let announcing = with_jpeg_segments(&jpeg, &[(0xe2, iso)]);
    let ultra = said(&[&announcing[..], &jpeg].concat());
    assert!(ultra.starts_with("gain map"), "{ultra}");
}

#[test]
fn xmp_does_not_announce_what_the_file_contained() {
    let packet = r#"http://ns.adobe.com/xap/1.0/ <x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF
        xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description
        xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0"
        xmlns:Cam="http://ns.google.com/photos/1.0/camera/" Cam:MotionPhoto="1" Cam:MicroVideoOffset="9"
        Cam:BurstID="kept" xmlns:C="http://ns.google.com/photos/1.0/container/"
        xmlns:Item="http://ns.google.com/photos/1.0/container/item/"><C:Directory><rdf:Seq>
        <rdf:li><C:Item Item:Semantic="GainMap" Item:Length="290"/></rdf:li></rdf:Seq></C:Directory>
        </rdf:Description></rdf:RDF></x:xmpmeta>"#
        .replacen("1.0/ ", "1.0/\0", 1);
    let jpeg = with_jpeg_segments(&file(Format::Jpeg), &[(0xe1, packet.as_bytes())]);
    let packet = open(&jpeg).metadata().xmp.clone().expect("a packet");
    let packet = String::from_utf8(packet).expect("text");
    for gone in [
        "Version",
        "MotionPhoto",
        "MicroVideoOffset",
        "GainMap",
        "Directory",
    ] {
        assert!(!packet.contains(gone), "{gone} in {packet}");
    }
    assert!(packet.contains("kept"), "{packet}");
}

fn tiff(directories: impl FnOnce(&TiffBuilder) -> Vec<TiffDirectory>) -> Vec<u8> {
    let builder = TiffBuilder::new(false);
    let directories = directories(&builder);
    builder.file(&directories)
}

fn of_kind(builder: &TiffBuilder, mut directory: TiffDirectory, kind: u32) -> TiffDirectory {
    directory.fields.push((254, LONG, builder.longs(&[kind])));
    directory
}

#[test]
fn the_pages_of_a_tiff_are_its_images_of_full_size() {
    let pages = |kinds: &[u32]| {
        tiff(|builder| {
            let page = |(i, &kind): (usize, &u32)| {
                let side = if kind & 1 == 1 { 4 } else { 8 };
                of_kind(
                    builder,
                    builder.grey(side, side, vec![i as u8; side * side]),
                    kind,
                )
            };
            kinds.iter().enumerate().map(page).collect()
        })
    };
    for (kinds, images, expected) in [
        (&[0][..], &[0][..], ""),
        (&[0, 0, 0], &[0, 1, 2], ""),
        (&[1, 0], &[1], ""),
        (&[1, 0, 1, 2], &[1, 3], ""),
        (
            &[0, 4, 0],
            &[0, 2],
            "transparency mask: masks of TIFF are not read",
        ),
        (&[1], &[0], ""),
    ] {
        let bytes = pages(kinds);
        assert_eq!(said(&bytes), expected, "{kinds:?}");
        let mut next = Some(open(&bytes));
        for image in images {
            let reader = next.take().expect("a page");
            assert_eq!(reader.pages(), images.len(), "{kinds:?}");
            next = reader.next_page().expect("a page");
            let read = reader.read_all().expect("an image");
            let Samples::U8(samples) = &read.samples else {
                panic!("{:?}", read.depth());
            };
            assert_eq!(samples[0], *image, "{kinds:?}");
        }
        assert!(next.is_none(), "{kinds:?}");
    }
    let nested = tiff(|builder| {
        let mut preview = of_kind(builder, builder.grey(2, 2, vec![7; 4]), 1);
        preview.below.push(builder.grey(6, 5, vec![9; 30]));
        vec![preview]
    });
    let outline = open(&nested).outline();
    assert_eq!((outline.width_px, outline.height_px), (6, 5));
}

#[test]
fn camera_raw_files_are_refused() {
    let dng = tiff(|builder| {
        let mut preview = of_kind(builder, builder.grey(4, 3, vec![7; 12]), 1);
        preview.fields.push((50_706, 1, vec![1, 4, 0, 0]));
        vec![preview]
    });
    let nef = tiff(|builder| {
        let mut preview = of_kind(builder, builder.grey(4, 3, vec![7; 12]), 1);
        let mut raw = builder.grey(40, 30, vec![7; 1200]);
        raw.fields.retain(|(tag, ..)| *tag != 262);
        raw.fields.push((262, SHORT, builder.shorts(&[32_803])));
        preview.below.push(raw);
        vec![preview]
    });
    // Phase One's signature behind the header.
    let mut iiq = tiff(|builder| vec![builder.grey(4, 2, b"IIIITwaR".to_vec())]);
    assert_eq!(&iiq[8..12], b"IIII");
    for (name, bytes) in [
        ("dng", dng),
        ("nef", nef),
        ("iiq", std::mem::take(&mut iiq)),
    ] {
        let error = error(&bytes);
        assert!(
            matches!(error, Error::UnreadFormat { .. }),
            "{name}: {error}"
        );
        assert!(error.to_string().contains("camera raw"), "{error}");
    }
    let tiff = tiff(|builder| vec![builder.grey(4, 3, vec![7; 12])]);
    let by_name = Reader::from_bytes(tiff, Path::new("photo.ARW"), &Limits::default());
    assert!(matches!(by_name.map(drop), Err(Error::UnreadFormat { .. })));
}

#[test]
fn descriptions_of_the_structure_of_a_file_are_dropped() {
    for (text, program, images) in [
        (
            "ImageJ=1.53t\nimages=5\nslices=5\n",
            "ImageJ",
            "4 further images",
        ),
        ("{\"shape\": [5, 12, 16]}", "tifffile", ""),
        (
            "<?xml version=\"1.0\"?><OME><Image SizeX=\"16\"/></OME>",
            "OME",
            "",
        ),
    ] {
        let bytes = tiff(|builder| {
            let mut page = builder.grey(2, 2, vec![1, 2, 3, 4]);
            page.fields
                .push((270, ASCII, [text.as_bytes(), b"\0"].concat()));
            vec![page]
        });
        let said = said(&bytes);
        assert!(
            said.contains(&format!("description by {program}")),
            "{said}"
        );
        assert!(said.starts_with(images), "{said}");
        let block = open(&bytes).metadata().exif.clone().unwrap_or_default();
        assert!(
            !block.windows(8).any(|w| w == &text.as_bytes()[..8]),
            "{program}"
        );
    }
}

#[test]
fn the_georeference_is_scaled_and_unknown_tags_are_named() {
    let bytes = tiff(|builder| {
        let mut page = builder.grey(4, 3, vec![7; 12]);
        page.fields.extend([
            (33_550, DOUBLE, builder.doubles(&[10.0, 10.0, 0.0])),
            (
                33_922,
                DOUBLE,
                builder.doubles(&[2.0, 1.0, 0.0, 5e5, 4.6e6, 0.0]),
            ),
            (34_735, SHORT, builder.shorts(&[1, 1, 0, 1, 1025, 0, 1, 1])),
            (42_113, ASCII, b"-9999\0".to_vec()),
            (37_724, 7, vec![1; 8]),
            (40_001, LONG, builder.longs(&[3])),
        ]);
        vec![page]
    });
    assert_eq!(
        said(&bytes),
        "Photoshop layers, tag 40001 of TIFF: not copied"
    );
    let large = doubled(&bytes, Format::Tiff);
    assert_eq!(large.geo.no_data(), Some(-9999.0));
    let image = decode_bytes(&bytes, Path::new("x"), &Limits::default()).expect("an image");
    let mut expected = image.metadata.geo.clone();
    assert!(!expected.is_empty());
    let mut scaled = Metadata::default();
    std::mem::swap(&mut scaled.geo, &mut expected);
    scaled.scale((4, 3), (8, 6));
    assert_eq!(large.geo, scaled.geo);
    let lost = image.metadata.lost_in(Format::Png, Colour::Grey);
    assert!(
        lost.iter().any(|line| line.starts_with("GeoTIFF tags")),
        "{lost:?}"
    );
    let mut stripped = image.metadata.clone();
    stripped.apply(MetadataPolicy::StripGps);
    assert_eq!(stripped.geo.no_data(), Some(-9999.0));
    assert_ne!(stripped.geo, image.metadata.geo);
}

#[test]
fn iptc_records_have_the_order_of_bytes_whatever_the_file_has() {
    let records = b"\x1c\x02\x78\x00\x09a caption\0\0";
    for big_endian in [false, true] {
        for (kind, swapped) in [(1, false), (7, false), (LONG, false), (LONG, true)] {
            let builder = TiffBuilder::new(big_endian);
            let mut page = builder.grey(2, 2, vec![1, 2, 3, 4]);
            let mut value = records.to_vec();
            if swapped {
                value
                    .as_chunks_mut::<4>()
                    .0
                    .iter_mut()
                    .for_each(|v| v.reverse());
            }
            page.fields.push((33_723, kind, value));
            let bytes = builder.file(&[page]);
            let found = open(&bytes).metadata().iptc.clone().expect("records");
            assert_eq!(found, records, "{big_endian} {kind} {swapped}");
        }
    }
}

#[test]
fn chunks_of_png_are_copied_or_named() {
    let light: &[u8] = &[0, 0, 3, 232, 0, 0, 0, 90];
    let display: &[u8] = &[5; 24];
    let png = with_png_chunks(
        &file(Format::Png),
        &[
            (b"cICP", &[9, 16, 0, 1]),
            (b"mDCV", display),
            (b"cLLI", light),
            (b"bKGD", &[0, 200]),
            (b"tIME", &[7, 234, 11, 27, 1, 2, 3]),
            (b"sBIT", &[5]),
            (b"sTER", &[1]),
            (b"iDOT", &[0; 28]),
        ],
    );
    let said = said(&png);
    assert!(said.contains("sBIT") && said.contains("sTER"), "{said}");
    assert!(!said.contains("iDOT"), "{said}");
    let large = doubled(&png, Format::Png);
    let colour = large.png_colour.expect("colour chunks");
    assert_eq!(
        colour.mastering_display.as_ref().map(|d| &d[..]),
        Some(display)
    );
    assert_eq!(colour.content_light.as_ref().map(|l| &l[..]), Some(light));
    let kinds: Vec<&[u8; 4]> = large.png_chunks.iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, [b"tIME", b"bKGD"]);
    let lost = large.lost_in(Format::Jpeg, Colour::Grey).join("; ");
    assert!(
        lost.contains("colour space chunks") && lost.contains("background"),
        "{lost}"
    );
}

#[test]
fn comments_of_jpeg_are_copied_and_other_segments_named() {
    let jpeg = with_jpeg_segments(
        &file(Format::Jpeg),
        &[
            (0xfe, b"a comment"),
            (0xeb, b"JP\0\x01"),
            (0xec, b"Ducky\0\x01"),
        ],
    );
    let said = said(&jpeg);
    assert!(
        said.contains("content credentials") && said.contains("APP12 \"Ducky\""),
        "{said}"
    );
    let large = doubled(&jpeg, Format::Jpeg);
    assert_eq!(large.jpeg_comments, [b"a comment"]);
    let lost = large.lost_in(Format::Png, Colour::Grey).join("; ");
    assert!(lost.contains("comment of JPEG"), "{lost}");
}

#[test]
fn sizes_of_panoramas_and_regions_are_scaled() {
    let packet = r#"http://ns.adobe.com/xap/1.0/ <x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF
        xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description
        xmlns:P="http://ns.google.com/photos/1.0/panorama/" P:FullPanoWidthPixels="32"
        xmlns:R="http://www.metadataworkinggroup.com/schemas/regions/"
        xmlns:D="http://ns.adobe.com/xap/1.0/sType/Dimensions#"
        xmlns:T="http://ns.adobe.com/xap/1.0/t/pg/">
        <P:CroppedAreaTopPixels>3</P:CroppedAreaTopPixels><P:ProjectionType>equirectangular</P:ProjectionType>
        <R:Regions rdf:parseType="Resource"><R:AppliedToDimensions D:w="16" D:unit="pixel"><D:h>12</D:h>
        </R:AppliedToDimensions></R:Regions><T:MaxPageSize D:w="21" D:h="30" D:unit="cm"/>
        </rdf:Description></rdf:RDF></x:xmpmeta>"#
        .replacen("1.0/ ", "1.0/\0", 1);
    let jpeg = with_jpeg_segments(&file(Format::Jpeg), &[(0xe1, packet.as_bytes())]);
    let packet = String::from_utf8(doubled(&jpeg, Format::Jpeg).xmp.expect("XMP")).expect("text");
    for expected in [
        "P:FullPanoWidthPixels=\"64\"",
        "<P:CroppedAreaTopPixels>6<",
        ">equirectangular<",
        "<R:AppliedToDimensions D:w=\"32\" D:unit=\"pixel\"><D:h>24<",
        "<T:MaxPageSize D:w=\"21\" D:h=\"30\"",
    ] {
        assert!(packet.contains(expected), "{expected} in {packet}");
    }
    // Regions are those of the stored pixels.
    let mut exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0".to_vec();
    exif.splice(..0, *b"Exif\0\0");
    let turned = with_jpeg_segments(&jpeg, &[(0xe1, &exif)]);
    let said = said(&turned);
    assert!(said.contains("regions in XMP"), "{said}");
    let packet = open(&turned).metadata().xmp.clone().expect("XMP");
    assert!(!String::from_utf8_lossy(&packet).contains("Regions"));
}

#[test]
fn regions_turn_with_the_image() {
    let packet = r#"http://ns.adobe.com/xap/1.0/ <x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF
        xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description
        xmlns:R="http://www.metadataworkinggroup.com/schemas/regions/"
        xmlns:D="http://ns.adobe.com/xap/1.0/sType/Dimensions#"
        xmlns:A="http://ns.adobe.com/xmp/sType/Area#"><R:Regions rdf:parseType="Resource">
        <R:AppliedToDimensions D:w="16" D:h="12" D:unit="pixel"/><R:RegionList><rdf:Bag>
        <rdf:li><rdf:Description R:Name="Ann"><R:Area A:x="0.3" A:y="0.1" A:w="0.2" A:h="0.05" A:unit="normalized"/>
        </rdf:Description></rdf:li><rdf:li rdf:parseType="Resource"><R:Area rdf:parseType="Resource">
        <A:x>0.3</A:x><A:y>0.1</A:y><A:w>0.2</A:w><A:h>0.05</A:h></R:Area></rdf:li></rdf:Bag>
        </R:RegionList></R:Regions></rdf:Description></rdf:RDF></x:xmpmeta>"#
        .replacen("1.0/ ", "1.0/\0", 1);
    let jpeg = with_jpeg_segments(&file(Format::Jpeg), &[(0xe1, packet.as_bytes())]);
    // The middle of the region in the upright image: JEITA CP-3451, tag 0x0112.
    for (orientation, x, y) in [
        (1, 0.3, 0.1),
        (2, 0.7, 0.1),
        (3, 0.7, 0.9),
        (4, 0.3, 0.9),
        (5, 0.1, 0.3),
        (6, 0.9, 0.3),
        (7, 0.9, 0.7),
        (8, 0.1, 0.7),
    ] {
        let mut exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\0\0\0\0\0\0\0".to_vec();
        exif[19] = orientation;
        exif.splice(..0, *b"Exif\0\0");
        let turned = with_jpeg_segments(&jpeg, &[(0xe1, &exif)]);
        let reader = open(&turned);
        assert_eq!(reader.metadata().dropped, [""; 0], "{orientation}");
        let packet = reader.metadata().xmp.clone().expect("XMP");
        let packet = String::from_utf8(packet).expect("text");
        let (width, height) = if orientation > 4 { (12, 16) } else { (16, 12) };
        let (w, h) = if orientation > 4 {
            (0.05, 0.2)
        } else {
            (0.2, 0.05)
        };
        for (name, value) in [("x", x), ("y", y), ("w", w), ("h", h)] {
            for expected in [
                format!("A:{name}=\"{value}\""),
                format!("<A:{name}>{value}</A:{name}>"),
                format!("D:w=\"{width}\""),
                format!("D:h=\"{height}\""),
            ] {
                assert_eq!(
                    packet.matches(&expected).count(),
                    1,
                    "{orientation}: {expected} in {packet}"
                );
            }
        }
    }
}

#[test]
fn positions_are_stripped_wherever_they_are() {
    // Main directory with two pointers to GPS, EXIF with one, a SubIFD with one, and IFD1 with one.
    let mut block = b"MM\0*\0\0\0\x08".to_vec();
    let entry = |tag: u16, value: u32| {
        let head = [tag.to_be_bytes(), 4_u16.to_be_bytes()].concat();
        [
            head,
            1_u32.to_be_bytes().to_vec(),
            value.to_be_bytes().to_vec(),
        ]
        .concat()
    };
    let directory = |entries: &[Vec<u8>], next: u32| {
        let count = (entries.len() as u16).to_be_bytes().to_vec();
        [count, entries.concat(), next.to_be_bytes().to_vec()].concat()
    };
    // Sizes: main 2 + 4 * 12 + 4 = 54, the others 18, GPS directories 18 each.
    let (main, exif, sub, thumbnail) = (8, 62, 80, 98);
    let gps = |i: u32| 116 + 18 * i;
    assert_eq!(main, block.len());
    let pointers = [
        entry(0x14a, sub),
        entry(0x8769, exif),
        entry(0x8825, gps(0)),
        entry(0x8825, gps(1)),
    ];
    block.extend(directory(&pointers, thumbnail));
    block.extend(directory(&[entry(0x8825, gps(2))], 0));
    block.extend(directory(&[entry(0x8825, gps(3))], 0));
    block.extend(directory(&[entry(0x8825, gps(4))], 0));
    for i in 0..5 {
        // An altitude of 1111 and so on.
        block.extend(directory(&[entry(6, 0x1111 * (i + 1))], 0));
    }
    let exif = [&b"Exif\0\0"[..], &block].concat();
    let xmp = b"http://ns.adobe.com/xap/1.0/\0<a xmlns:d='urn:drone'><!-- GPSLatitude 51.47 -->\
        <d:GpsLongtitude>0.0003</d:GpsLongtitude><d:AbsoluteAltitude>47</d:AbsoluteAltitude><d:kept/></a>";
    let jpeg = file(Format::Jpeg);
    let place: &[u8] = b"GPS 51.47 0.0003";
    let jpeg = with_jpeg_segments(&jpeg, &[(0xe1, &exif), (0xe1, xmp), (0xfe, place)]);
    let mut metadata = open(&jpeg).metadata().clone();
    metadata.apply(MetadataPolicy::StripGps);
    let block = metadata.exif.expect("EXIF");
    for i in 0..5_u32 {
        let altitude = (0x1111 * (i + 1)).to_be_bytes();
        assert!(
            !block.windows(4).any(|w| w == altitude),
            "altitude {i} in {block:x?}"
        );
    }
    assert!(!block.windows(2).any(|w| w == [0x88, 0x25]), "{block:x?}");
    let packet = String::from_utf8(metadata.xmp.expect("XMP")).expect("text");
    assert_eq!(packet, "<a xmlns:d='urn:drone'><d:kept/></a>");
    assert!(metadata.jpeg_comments.is_empty());

    let entity = b"http://ns.adobe.com/xap/1.0/\0<!DOCTYPE a [<!ENTITY p 'GPS'>]><a>&p;</a>";
    let jpeg = with_jpeg_segments(&file(Format::Jpeg), &[(0xe1, entity)]);
    let mut metadata = open(&jpeg).metadata().clone();
    metadata.apply(MetadataPolicy::StripGps);
    assert_eq!(metadata.xmp, None);
}

#[test]
fn a_jpeg_without_its_last_marker_is_read_if_it_is_complete() {
    let whole = file(Format::Jpeg);
    let expected = decode_bytes(&whole, Path::new("x"), &Limits::default()).expect("an image");
    let unmarked = &whole[..whole.len() - 2];
    for rest in [&b""[..], b"\xff", VIDEO, b"\0\0\0\0"] {
        let bytes = [unmarked, rest].concat();
        let read = decode_bytes(&bytes, Path::new("x"), &Limits::default()).expect("an image");
        assert_eq!(read.samples, expected.samples, "{rest:?}");
        assert!(
            said(&bytes).contains("the file has none"),
            "{}",
            said(&bytes)
        );
    }
    for cut in [3, 5, 20] {
        let error = error(&whole[..whole.len() - cut]);
        assert!(matches!(error, Error::Truncated { .. }), "{cut}: {error}");
    }
}

#[test]
fn an_animation_of_one_frame_is_an_image() {
    let frame = |number: u8| {
        let mut control = vec![0, 0, 0, number];
        control.extend([0, 0, 0, 16, 0, 0, 0, 12]);
        control.extend([0; 14]);
        control
    };
    let png = file(Format::Png);
    let animated = |frames: u8| {
        let controls: Vec<Vec<u8>> = (0..frames).map(frame).collect();
        let mut chunks: Vec<(&[u8; 4], &[u8])> = vec![(b"acTL", &[0, 0, 0, 1, 0, 0, 0, 0])];
        chunks.extend(controls.iter().map(|c| (b"fcTL", &c[..])));
        with_png_chunks(&png, &chunks)
    };
    let still = decode_bytes(&png, Path::new("x"), &Limits::default()).expect("an image");
    let read = decode_bytes(&animated(1), Path::new("x"), &Limits::default()).expect("an image");
    assert_eq!(read.samples, still.samples);
    assert!(matches!(error(&animated(2)), Error::Unsupported { .. }));
}

#[test]
fn an_image_beside_an_animation_is_the_image() {
    let png = file(Format::Png);
    let end = png.len() - 12;
    let mut control = vec![0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 12];
    control.extend([0; 14]);
    // The chunk of the frame is put before the end, by way of a file of nothing but a header.
    let frame = with_png_chunks(&png[..33], &[(b"fcTL", &control)]);
    let bytes = [&png[..end], &frame[33..], &png[end..]].concat();
    let bytes = with_png_chunks(&bytes, &[(b"acTL", &[0, 0, 0, 1, 0, 0, 0, 0])]);
    assert_eq!(said(&bytes), "1 further image: only the first is upscaled");
}

#[test]
fn an_animated_webp_of_one_frame_is_an_image() {
    let still = file(Format::WebP);
    let pixels = &still[12..];
    assert_eq!(&pixels[..4], b"VP8L");
    let chunk = |kind: &[u8; 4], content: &[u8]| {
        let length = (content.len() as u32).to_le_bytes();
        [&kind[..], &length, content, &[0][..content.len() % 2]].concat()
    };
    let size = [15, 0, 0, 11, 0, 0];
    let frame = [&[0; 6][..], &size, &[100, 0, 0, 0], pixels].concat();
    let animated = |frames: usize| {
        let chunks = [
            chunk(b"VP8X", &[&[2, 0, 0, 0][..], &size].concat()),
            chunk(b"ANIM", &[0; 6]),
            chunk(b"ANMF", &frame).repeat(frames),
        ]
        .concat();
        let length = (4 + chunks.len() as u32).to_le_bytes();
        [&b"RIFF"[..], &length, b"WEBP", &chunks].concat()
    };
    let expected = decode_bytes(&still, Path::new("x"), &Limits::default()).expect("an image");
    let read = decode_bytes(&animated(1), Path::new("x"), &Limits::default()).expect("an image");
    assert_eq!(read.grey_to_rgb().samples, expected.grey_to_rgb().samples);
    assert!(matches!(error(&animated(2)), Error::Unsupported { .. }));
}

#[test]
fn images_of_all_formats_in_a_folder_are_listed() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let png = file(Format::Png);
    let files: [(&str, &[u8]); 10] = [
        ("a.heic", b"\0\0\0\x18ftypheic"),
        ("b.GIF", b"GIF89a"),
        ("c.psd", b"8BPS"),
        ("d.jp2", b""),
        ("e.tga", b"\0\0\x02"),
        ("f.ppm", b"P6\n1 1\n255\n"),
        ("g", b"GIF89a\x01\0\x01\0"),
        ("h.dat", &png),
        ("notes.txt", b"GIF images are nice"),
        ("movie.mp4", b"\0\0\0\x18ftypmp42\0\0\0\0isommp42"),
    ];
    for (name, bytes) in files {
        std::fs::write(path(name), bytes).expect("a file");
    }
    let (found, errors) = images_by_content(folder.path(), false);
    assert!(errors.is_empty(), "{errors:?}");
    let names: Vec<_> = found
        .iter()
        .map(|p| p.file_name().expect("a name"))
        .collect();
    assert_eq!(
        names,
        [
            "a.heic", "b.GIF", "c.psd", "d.jp2", "e.tga", "f.ppm", "g", "h.dat"
        ]
    );
}

#[cfg(unix)]
#[test]
fn links_out_of_a_folder_are_errors_and_those_within_are_skipped() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    for name in ["album/sub", "private"] {
        std::fs::create_dir_all(path(name)).expect("a folder");
    }
    std::fs::write(path("album/sub/a.png"), file(Format::Png)).expect("a file");
    std::fs::write(path("private/b.png"), file(Format::Png)).expect("a file");
    symlink(path("private"), path("album/out")).expect("a link");
    symlink(path("album"), path("album/sub/loop")).expect("a link");
    symlink(path("private/b.png"), path("album/file.png")).expect("a link");
    let (found, errors) = images_by_content(&path("album"), true);
    assert_eq!(found, [path("album/file.png"), path("album/sub/a.png")]);
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!(errors[0].path(), path("album/out"));
}

/// The time that reading takes, whatever comes of it.
fn seconds(bytes: &[u8]) -> Duration {
    let started = Instant::now();
    if let Ok(reader) = Reader::from_bytes(bytes, Path::new("x"), &Limits::default()) {
        let mut metadata = reader.metadata().clone();
        metadata.apply(MetadataPolicy::StripGps);
        metadata.scale((1, 1), (2, 2));
        let _image = reader.read_all();
        let image = Image {
            metadata,
            ..grey(2, 2)
        };
        for format in [Format::Tiff, Format::Jpeg] {
            let _file = encode_bytes(&image, format).expect("a file");
        }
    }
    started.elapsed()
}

#[test]
fn hostile_files_below_a_megabyte_take_no_time() {
    let jpeg = file(Format::Jpeg);
    let png = file(Format::Png);
    let frame: &[u8] = &[8, 0x3e, 0x80, 0x3e, 0x80, 1, 1, 0x11, 0];
    let frames = with_jpeg_segments(&jpeg, &vec![(0xc2, frame); 50_000]);
    let table: Vec<u8> = [&[0, 1][..], &[0; 16]].concat();
    let tables = with_jpeg_segments(&jpeg, &vec![(0xc4, &table[..]); 40_000]);
    // Entries that all claim the whole block, in IFD1.
    let count: u16 = 60_000;
    let mut exif = b"MM\0*\0\0\0\x08\0\0\0\0\0\x0e".to_vec();
    exif.extend(count.to_be_bytes());
    let size = 14 + 2 + 12 * u32::from(count) + 4;
    for tag in 0..count {
        exif.extend([tag.to_be_bytes(), 7_u16.to_be_bytes()].concat());
        exif.extend([(size - 100).to_be_bytes(), 50_u32.to_be_bytes()].concat());
    }
    exif.extend([0; 4]);
    let overlapping = with_png_chunks(&png, &[(b"eXIf", &exif)]);
    exif[4..8].copy_from_slice(&14_u32.to_be_bytes());
    let all_main = with_png_chunks(&png, &[(b"eXIf", &exif)]);
    // XMP of many attributes, of many namespaces, and of elements within elements.
    let packet = |text: String| [b"XML:com.adobe.xmp\0\0\0\0\0", text.as_bytes()].concat();
    let names = |of: &dyn Fn(usize) -> String, count| (0..count).map(of).collect::<String>();
    let attributes = packet(format!("<a {}/>", names(&|i| format!("a{i}='' "), 100_000)));
    let spaces = names(&|i| format!("xmlns:n{i}='u{i}' "), 20_000);
    let namespaces = packet(format!("<a {spaces}>{}</a>", "<b/>".repeat(100_000)));
    let depth = packet(format!(
        "{}{}",
        "<a xmlns='u'>".repeat(40_000),
        "</a>".repeat(40_000)
    ));
    let packets = [attributes, namespaces, depth].map(|p| with_png_chunks(&png, &[(b"iTXt", &p)]));
    // A TIFF whose directories overlap.
    let mut chain = b"II*\0\x08\0\0\0".to_vec();
    chain.resize(900_000, 1);
    let files = [frames, tables, overlapping, all_main, chain];
    for (i, bytes) in files.iter().chain(&packets).enumerate() {
        assert!(
            bytes.len() < 1_100_000,
            "file {i} has {} bytes",
            bytes.len()
        );
        let taken = seconds(bytes);
        assert!(taken < Duration::from_secs(5), "file {i}: {taken:?}");
    }
}
