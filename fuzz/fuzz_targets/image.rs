//! Image files: any bytes are images or an error. An image is the same read whole, read by rows, and
//! written and read again. Animations are read frame by frame, TIFF files page by page.
#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use wdsr_image::{
    Deadline, Depth, Format, Frame, Image, Limits, Reader, RowSample, Samples, decode_bytes,
    encode_bytes,
};
use wdsr_model::{Model, NetworkConfig, Upscaler};
use wdsr_upscale::{ImageUpscaler, Plan, Size, SizeRequest};

const LIMITS: Limits = Limits {
    max_pixels: 1 << 16,
    max_bytes: 64 << 20,
    deadline: Deadline::NONE,
};

/// Removes the fuzzer's panic hook, which ends the process on caught panics too: those of the JPEG XL
/// decoder. Other panics unwind out of the target, which is a find.
static HOOK: LazyLock<()> = LazyLock::new(|| drop(std::panic::take_hook()));

static NETWORK: LazyLock<Upscaler> = LazyLock::new(|| {
    let config = NetworkConfig::wdsr_b(4, 1, 2);
    Upscaler::new(&Model::random(&config, 1)).expect("a network")
});

fuzz_target!(|bytes: &[u8]| {
    LazyLock::force(&HOOK);
    // The suffix of the one format whose content has no mark.
    let name = Path::new("fuzzed.tga");
    let Ok(reader) = Reader::from_bytes(bytes, name, &LIMITS) else {
        return;
    };
    if reader.animation().is_some() {
        let size_px = (reader.outline().width_px, reader.outline().height_px);
        for frame in reader.into_frames().into_iter().flatten().take(16) {
            let Ok(Frame { image, .. }) = frame else {
                return;
            };
            assert_eq!((image.width_px, image.height_px), size_px, "of a frame");
        }
        return;
    }
    let mut next = reader.next_page();
    for _ in 0..16 {
        let Ok(Some(page)) = next else { break };
        next = page.next_page();
        drop(page.read_all());
    }
    let (outline, metadata) = (reader.outline(), reader.metadata().clone());
    let by_rows = read_by_rows(bytes);
    let Ok(image) = reader.read_all() else {
        // What cannot be read whole ends in an error by rows too.
        assert_eq!(by_rows, None, "read by rows alone");
        return;
    };
    assert_eq!(image.outline(), outline, "of the header and of the image");
    assert_eq!(image.metadata, metadata, "of the header and of the image");
    if let Some(by_rows) = by_rows {
        assert_eq!(by_rows, bits(&image.samples), "read whole and by rows");
    }
    let tiff = encode_bytes(&image, Format::Tiff).expect("TIFF holds every image");
    let again = decode_bytes(&tiff, name, &LIMITS).expect("our own TIFF is read");
    assert_eq!(again.colour, image.colour);
    assert_eq!(
        bits(&again.samples),
        bits(&image.samples),
        "written and read again"
    );
    if image.width_px * image.height_px <= 256 {
        upscale(image);
    }
});

/// The samples' bits, for values that are not a number to be equal to themselves.
fn bits(samples: &Samples) -> Vec<u32> {
    match samples {
        Samples::U8(samples) => samples.iter().map(|&v| v.into()).collect(),
        Samples::U16(samples) => samples.iter().map(|&v| v.into()).collect(),
        Samples::F32(samples) => samples.iter().map(|v| v.to_bits()).collect(),
    }
}

/// The bits of the samples read row by row; `None` where that is not possible or fails.
fn read_by_rows(bytes: &[u8]) -> Option<Vec<u32>> {
    fn rows<T: RowSample>(reader: &mut Reader) -> Option<Vec<T>> {
        let outline = reader.outline();
        let mut samples = vec![T::default(); outline.row_len() * outline.height_px];
        for row in samples.chunks_exact_mut(outline.row_len()) {
            reader.read_rows(row).ok()?;
        }
        Some(samples)
    }
    let name = Path::new("fuzzed.tga");
    let mut reader = Reader::from_bytes(bytes, name, &LIMITS).ok()?;
    if !reader.streams_rows() {
        return None;
    }
    Some(bits(&match reader.outline().depth {
        Depth::U8 => Samples::U8(rows(&mut reader)?),
        Depth::U16 => Samples::U16(rows(&mut reader)?),
        Depth::F32 => Samples::F32(rows(&mut reader)?),
    }))
}

/// To twice the size, which samples that are not finite alone may prevent.
fn upscale(image: Image) {
    let finite = match &image.samples {
        Samples::F32(samples) => samples.iter().all(|v| v.is_finite()),
        _ => true,
    };
    let size_px = (2 * image.width_px, 2 * image.height_px);
    let plan = Plan::new(Size::of(&image), SizeRequest::Factor(2.0), &[2]).expect("a plan");
    match ImageUpscaler::new(plan, &[&NETWORK]).upscale(image) {
        Ok(large) => assert_eq!((large.width_px, large.height_px), size_px),
        Err(error) => assert!(!finite, "{error}"),
    }
}
