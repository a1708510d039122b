//! Metadata goes from any format to any other that holds it, true of the written image, and what
//! is asked to be stripped is nowhere in the file. EXIF is written and read back by another crate.

use std::io::Cursor;
use std::path::Path;

use exif::experimental::Writer;
use exif::{Context, Field, In, Rational, Reader, Tag, Value};
use wdsr_image::{
    Colour, Format, Image, Limits, Metadata, MetadataPolicy, Resolution, Samples, decode_bytes,
    encode_bytes,
};

const MAKER_NOTE: &[u8] = b"the maker's own, which points into the block";
const LATITUDE: &[u32] = &[51, 28, 38];
/// A word that stands in each block that tells the place.
const PLACE: &str = "Greenwich";
/// Bytes of the thumbnail.
const THUMBNAIL: &[u8] = b"\xff\xd8 a small image of it \xff\xd9";

fn text(text: &str) -> Value {
    Value::Ascii(vec![text.as_bytes().to_vec()])
}

fn rationals(numbers: &[u32], denominator: u32) -> Value {
    let rational = |&num: &u32| Rational {
        num,
        denom: denominator,
    };
    Value::Rational(numbers.iter().map(rational).collect())
}

/// What a camera writes: `orientation`, 300 dpi, a size, a place, a note, a thumbnail.
fn exif_block(orientation: u16, little_endian: bool) -> Vec<u8> {
    let fields = [
        (Tag::Make, text("Maker")),
        (Tag::Model, text("Model of an odd length")),
        (Tag::Orientation, Value::Short(vec![orientation])),
        (Tag::XResolution, rationals(&[300], 1)),
        (Tag::YResolution, rationals(&[300], 1)),
        (Tag::ResolutionUnit, Value::Short(vec![2])),
        (Tag::Copyright, text("Somebody")),
        (Tag::ExposureTime, rationals(&[1], 250)),
        (Tag::DateTimeOriginal, text("2026:11:24 13:51:49")),
        (Tag::MakerNote, Value::Undefined(MAKER_NOTE.to_vec(), 0)),
        (Tag::PixelXDimension, Value::Short(vec![13])),
        (Tag::PixelYDimension, Value::Long(vec![7])),
        (Tag::SubjectArea, Value::Short(vec![6, 3])),
        (Tag::GPSLatitude, rationals(LATITUDE, 1)),
        (Tag::GPSAreaInformation, Value::Undefined(PLACE.into(), 0)),
        (Tag::InteroperabilityIndex, text("R98")),
        (Tag(Context::Interop, 0x1001), Value::Short(vec![13])),
    ];
    let fields = fields.map(|(tag, value)| Field {
        tag,
        ifd_num: In::PRIMARY,
        value,
    });
    let mut writer = Writer::new();
    fields.iter().for_each(|field| writer.push_field(field));
    writer.set_jpeg(THUMBNAIL, In::THUMBNAIL);
    let mut block = Cursor::new(Vec::new());
    writer.write(&mut block, little_endian).expect("a block");
    block.into_inner()
}

const XMP: &str = r#"<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:t="http://ns.adobe.com/tiff/1.0/" xmlns:e='http://ns.adobe.com/exif/1.0/'
  xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/"
  xmlns:drone="http://www.dji.com/drone-dji/1.0/"
  t:Orientation="6" e:PixelXDimension="13" e:GPSLatitude="51,28.6N" drone:GpsLatitude="Greenwich" xmp:Rating="4"
  dc:source='he said "Greenwitch"'>
 <t:ImageWidth>13</t:ImageWidth><e:PixelYDimension>7</e:PixelYDimension>
 <xmp:Thumbnails><rdf:Alt><rdf:li>base64</rdf:li></rdf:Alt></xmp:Thumbnails>
 <e:GPSAreaInformation>Greenwich</e:GPSAreaInformation>
 <dc:title>a &lt;title&gt; é</dc:title>
</rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>"#;

const IPTC: &[u8] = b"\x1c\x02\x78\x00\x09a caption";

fn icc_profile() -> Vec<u8> {
    let mut profile: Vec<u8> = (0..3000).map(|i| (i * 7) as u8).collect();
    profile[16..20].copy_from_slice(b"RGB ");
    profile
}

/// An image with everything, as a file of any format. Blocks are put in as they are, so that
/// reading is what turns them upright.
fn image() -> Image {
    let samples = (0..13 * 7 * 3).map(|i| (i * 5) as u8).collect();
    let mut image = Image::new(13, 7, Colour::Rgb, Samples::U8(samples));
    let metadata = &mut image.metadata;
    metadata.icc_profile = Some(icc_profile());
    metadata.exif = Some(exif_block(1, false));
    metadata.xmp = Some(XMP.as_bytes().to_vec());
    metadata.iptc = Some(IPTC.to_vec());
    metadata.resolution = Some(Resolution::PerInch { x: 300.0, y: 300.0 });
    metadata.texts = vec![
        ("parameters".to_owned(), "a cat\nSteps: 20".to_owned()),
        ("Author".to_owned(), "Ж".to_owned()),
    ];
    image
}

fn file(image: &Image, format: Format) -> Vec<u8> {
    encode_bytes(image, format).expect("metadata refuses no image")
}

fn read(bytes: &[u8]) -> Image {
    decode_bytes(bytes, Path::new("x"), &Limits::default()).expect("just written")
}

/// The fields as another crate reads them out of the file.
fn fields_of(bytes: &[u8]) -> exif::Exif {
    Reader::new()
        .read_from_container(&mut Cursor::new(bytes))
        .expect("EXIF in the file")
}

fn value(exif: &exif::Exif, tag: Tag) -> Option<String> {
    let field = exif.get_field(tag, In::PRIMARY)?;
    Some(field.display_value().to_string())
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

const WITH_EXIF: [Format; 4] = [Format::Png, Format::Jpeg, Format::WebP, Format::Tiff];

#[test]
fn metadata_is_copied_between_all_formats_that_hold_it() {
    for from in WITH_EXIF {
        let source = read(&file(&image(), from));
        for to in WITH_EXIF {
            let bytes = file(&source, to);
            let result = read(&bytes);
            let Metadata {
                icc_profile: profile,
                xmp,
                iptc,
                resolution,
                texts,
                dropped,
                ..
            } = &result.metadata;
            assert_eq!(*profile, Some(icc_profile()), "{from} to {to}");
            let xmp = String::from_utf8(xmp.clone().expect("XMP")).expect("text");
            assert!(xmp.contains("a &lt;title&gt; é"), "{from} to {to}: {xmp}");
            assert_eq!(*dropped, [""; 0], "{from} to {to}");
            let Some(Resolution::PerInch { x, y }) = *resolution else {
                panic!("{from} to {to}: {resolution:?}");
            };
            // PNG counts whole pixels per metre.
            assert!(
                (x - 300.0).abs() < 0.01 && x == y,
                "{from} to {to}: {x} {y}"
            );
            if from.holds_iptc() && to.holds_iptc() {
                assert_eq!(iptc.as_deref(), Some(IPTC), "{from} to {to}");
            }
            if (from, to) == (Format::Png, Format::Png) {
                assert_eq!(*texts, image().metadata.texts);
            }

            let exif = fields_of(&bytes);
            for (tag, expected) in [
                (Tag::Make, "\"Maker\""),
                (Tag::Model, "\"Model of an odd length\""),
                (Tag::Copyright, "\"Somebody\""),
                (Tag::ExposureTime, "1/250"),
                (Tag::DateTimeOriginal, "2026-11-24 13:51:49"),
                (Tag::PixelXDimension, "13"),
                (Tag::PixelYDimension, "7"),
                (Tag::GPSLatitude, "51 deg 28 min 38 sec"),
                (Tag::InteroperabilityIndex, "\"R98\""),
            ] {
                let found = value(&exif, tag);
                assert_eq!(found.as_deref(), Some(expected), "{from} to {to}: {tag}");
            }
            let note = exif
                .get_field(Tag::MakerNote, In::PRIMARY)
                .map(|f| &f.value);
            assert!(
                matches!(note, Some(Value::Undefined(note, _)) if note == MAKER_NOTE),
                "{from} to {to}"
            );
        }
    }
}

#[test]
fn sizes_are_replaced_and_thumbnails_and_areas_of_turned_images_removed() {
    for format in WITH_EXIF {
        for little_endian in [false, true] {
            let mut small = image();
            // Upside down, but in TIFF, whose writer leaves the orientation of upright pixels out.
            small.metadata.exif = Some(exif_block(3, little_endian));
            let orientation = if format == Format::Tiff { 6 } else { 1 };
            let source = read(&file(&small, format));
            // Wider than the 16 bits that the source's own entry has.
            let (width_px, height_px) = if matches!(format, Format::Png | Format::Tiff) {
                (70_000, 2)
            } else {
                (52, 28)
            };
            let samples = vec![9; width_px * height_px * 3];
            let mut large = Image::new(width_px, height_px, Colour::Rgb, Samples::U8(samples));
            large.metadata = source.metadata;
            let bytes = file(&large, format);
            let exif = fields_of(&bytes);
            let (width, height) = (width_px.to_string(), height_px.to_string());
            assert_eq!(value(&exif, Tag::PixelXDimension), Some(width.clone()));
            assert_eq!(value(&exif, Tag::PixelYDimension), Some(height.clone()));
            // It belongs to the image before it was turned; that in TIFF was not.
            let area = (format == Format::Tiff).then(|| "point (x=6, y=3)".to_owned());
            assert_eq!(value(&exif, Tag::SubjectArea), area, "{format}");
            let related = exif.get_field(Tag(Context::Interop, 0x1001), In::PRIMARY);
            let related = related.and_then(|field| field.value.get_uint(0));
            assert_eq!(related, Some(width_px as u32), "{format}");
            assert!(
                exif.fields().all(|field| field.ifd_num == In::PRIMARY),
                "{format}: a second directory"
            );
            assert!(!contains(&bytes, &THUMBNAIL[2..20]), "{format}: thumbnail");
            let xmp = read(&bytes).metadata.xmp.expect("XMP");
            let xmp = String::from_utf8(xmp).expect("text");
            for part in [
                format!("e:PixelXDimension=\"{width}\""),
                format!("<t:ImageWidth>{width}</t:ImageWidth>"),
                format!("<e:PixelYDimension>{height}</e:PixelYDimension>"),
                format!("t:Orientation=\"{orientation}\""),
                "dc:source='he said \"Greenwitch\"'".to_owned(),
            ] {
                assert!(xmp.contains(&part), "{format}: {part} in {xmp}");
            }
            assert!(!xmp.contains("Thumbnails"), "{format}: {xmp}");
        }
    }
}

#[test]
fn the_makers_note_keeps_its_offset_in_the_block() {
    for little_endian in [false, true] {
        let block = exif_block(6, little_endian);
        let place = |block: &[u8]| {
            let mut windows = block.windows(MAKER_NOTE.len());
            windows.position(|window| window == MAKER_NOTE)
        };
        let mut source = image();
        source.metadata.exif = Some(block.clone());
        let mut read = read(&file(&source, Format::Jpeg));
        read.metadata.apply(MetadataPolicy::StripGps);
        let kept = read.metadata.exif.expect("EXIF");
        assert!(place(&block).is_some());
        assert_eq!(place(&kept), place(&block));
    }
}

#[test]
fn strip_gps_removes_every_trace_of_the_location_only() {
    for format in WITH_EXIF {
        let whole = file(&image(), format);
        let compressed = format == Format::Png;
        assert!(compressed || contains(&whole, PLACE.as_bytes()), "{format}");
        let mut source = read(&whole);
        source
            .metadata
            .texts
            .push(("exif:GPSInfo".into(), PLACE.into()));
        source.metadata.apply(MetadataPolicy::StripGps);
        let bytes = file(&source, format);
        assert!(!contains(&bytes, PLACE.as_bytes()), "{format}");
        let exif = fields_of(&bytes);
        assert!(
            exif.fields()
                .all(|field| field.tag.context() != Context::Gps),
            "{format}"
        );
        assert_eq!(value(&exif, Tag::Make).as_deref(), Some("\"Maker\""));
        let read = read(&bytes);
        let xmp = String::from_utf8(read.metadata.xmp.expect("XMP")).expect("text");
        assert!(!xmp.to_lowercase().contains("gps"), "{xmp}");
        assert!(xmp.contains("xmp:Rating=\"4\""), "{xmp}");
        assert_eq!(read.metadata.icc_profile, Some(icc_profile()));
    }
}

#[test]
fn strip_keeps_only_what_defines_the_colours() {
    for format in WITH_EXIF {
        let mut source = read(&file(&image(), format));
        source.metadata.apply(MetadataPolicy::Strip);
        let stripped = read(&file(&source, format));
        let mut expected = Metadata::default();
        expected.icc_profile = Some(icc_profile());
        assert_eq!(stripped.metadata, expected, "{format}");
    }
}

#[test]
fn lost_metadata_is_named_exactly() {
    let all = image().metadata;
    let lost = |metadata: &Metadata, format, colour| metadata.lost_in(format, colour);
    let words = |lost: Vec<String>| -> Vec<String> {
        let what = lost.iter().map(|line| line.split(':').next().unwrap_or(""));
        what.map(str::to_owned).collect()
    };
    let texts = "text chunks of PNG";
    for (format, expected) in [
        (Format::Png, &["IPTC"][..]),
        (Format::Jpeg, &[texts]),
        (Format::WebP, &["IPTC", texts]),
        (Format::Tiff, &[texts]),
        (Format::Bmp, &["ICC profile", "EXIF", "XMP", "IPTC", texts]),
    ] {
        assert_eq!(words(lost(&all, format, Colour::Rgb)), expected, "{format}");
        let none = lost(&Metadata::default(), format, Colour::Rgb);
        assert_eq!(none, [""; 0], "{format}");
    }
    // WebP has no place for the resolution but EXIF.
    let mut resolution = Metadata::default();
    resolution.resolution = all.resolution;
    let said = words(lost(&resolution, Format::WebP, Colour::Rgb));
    assert_eq!(said, ["resolution"]);

    // A grey profile says nothing about the RGB pixels that WebP stores.
    let mut grey = Metadata::default();
    grey.icc_profile = Some(b"0123456789abcdefGRAY".to_vec());
    assert_eq!(lost(&grey, Format::Png, Colour::Grey), [""; 0]);
    assert_eq!(
        lost(&grey, Format::WebP, Colour::Grey),
        ["ICC profile: it does not describe the pixels that webp holds"]
    );

    let mut long = image();
    long.metadata.exif = Some([exif_block(1, true), vec![7; 66_000]].concat());
    assert_eq!(lost(&long.metadata, Format::Jpeg, Colour::Rgb).len(), 2);
    let bytes = file(&long, Format::Jpeg);
    assert_eq!(read(&bytes).metadata.exif, None);
    assert!(read(&file(&long, Format::Png)).metadata.exif.is_some());
}

#[test]
fn resolutions_survive_in_the_units_of_each_format() {
    let cases = [
        Resolution::PerInch { x: 72.0, y: 72.0 },
        Resolution::PerInch {
            x: 299.9994,
            y: 150.0,
        },
        // 118 per centimetre.
        Resolution::PerInch {
            x: 299.72,
            y: 299.72,
        },
        Resolution::PerInch {
            x: 96.5,
            y: 1200.25,
        },
        Resolution::Ratio { x: 4.0, y: 3.0 },
    ];
    for format in [Format::Png, Format::Jpeg, Format::Tiff, Format::Bmp] {
        for resolution in cases {
            let mut image = image();
            image.metadata = Metadata::default();
            image.metadata.resolution = Some(resolution);
            let found = read(&file(&image, format)).metadata.resolution;
            // Half of the unit: whole pixels per metre; per inch or centimetre; fractions.
            let step = match format {
                Format::Png | Format::Bmp => 0.0127,
                Format::Jpeg => 1.27,
                _ => 1e-6,
            };
            match (resolution, found) {
                (Resolution::PerInch { x, y }, Some(Resolution::PerInch { x: a, y: b })) => {
                    let near = (x - a).abs() <= step + 1e-9 && (y - b).abs() <= step + 1e-9;
                    assert!(near, "{format}: {resolution:?} is {found:?}");
                }
                (Resolution::Ratio { .. }, None) => assert_eq!(format, Format::Bmp),
                _ => assert_eq!(found, Some(resolution), "{format}"),
            }
        }
    }
}

#[test]
fn damaged_blocks_are_dropped_with_a_reason() {
    let mut source = image();
    source.metadata.exif = Some(b"II*\0\xff\xff\xff\0 no directory there".to_vec());
    source.metadata.xmp = Some(b"<x:xmpmeta>not closed</rdf:RDF>".to_vec());
    for format in [Format::Png, Format::Jpeg, Format::WebP] {
        let read = read(&file(&source, format));
        assert_eq!((read.metadata.exif, read.metadata.xmp), (None, None));
        assert_eq!(
            read.metadata.dropped,
            ["EXIF: it is damaged", "XMP: it is damaged"],
            "{format}"
        );
    }
}

#[test]
fn areas_are_scaled_and_removed_where_they_do_not_fit() {
    let mut small = image();
    small.metadata.exif = Some(exif_block(1, false));
    for format in WITH_EXIF {
        for (factor, expected) in [(4, Some("point (x=24, y=12)")), (20_000, None)] {
            let mut source = read(&file(&small, format));
            source.metadata.scale((13, 7), (13 * factor, 7 * factor));
            let area = value(&fields_of(&file(&source, format)), Tag::SubjectArea);
            assert_eq!(area.as_deref(), expected, "{format}");
            assert_eq!(
                source.metadata.dropped.is_empty(),
                expected.is_some(),
                "{format}"
            );
        }
    }
}
