//! Scores of a model, and images that cannot be scored.

use std::collections::BTreeMap;
use std::path::Path;

use wdsr_eval::{
    Channel, Error, Pair, Protocol, Track, find_pairs, psnr_db, score_set, score_set_with, ssim,
};
use wdsr_image::{Colour, Format, Image, Samples, encode};
use wdsr_model::{ConvWeights, Model, Network, NetworkConfig, Upscaler};

fn set(sizes_px: &[(usize, usize)], colour: Colour) -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("a folder");
    for (i, &(w, h)) in sizes_px.iter().enumerate() {
        let samples = (0..w * h * colour.channels()).map(|i| (i * 37 % 256) as u8);
        let image = Image::new(w, h, colour, Samples::U8(samples.collect()));
        let path = root.path().join(format!("{i}.png"));
        encode(&image, &path, Format::Png).expect("an image");
    }
    root
}

fn pairs(folder: &Path, scale: usize) -> Vec<Pair> {
    find_pairs(folder, scale, Track::Bicubic).expect("pairs")
}

/// A network that repeats each pixel `scale` times each way: only the middle of its skip
/// convolution is not 0.
fn nearest_model(scale: usize) -> Upscaler {
    let config = NetworkConfig::wdsr_b(4, 1, scale);
    let convs = Network::new(&config).convs;
    let weights = convs.iter().map(|conv| {
        let mut weight = vec![0.0; conv.weights()];
        if conv.name.starts_with("skip") {
            let taps = conv.kernel * conv.kernel;
            for o in 0..conv.out_channels {
                let channel = o / (scale * scale);
                weight[(o * conv.in_channels + channel) * taps + taps / 2] = 1.0;
            }
        }
        let bias = vec![0.0; conv.out_channels];
        ConvWeights {
            weight,
            bias,
            slopes: Vec::new(),
        }
    });
    Upscaler::new(&Model::new(&config, weights.collect(), BTreeMap::new())).expect("an upscaler")
}

/// Each pixel of R G B rows of `width_px`, `scale` times each way.
fn repeated(low: &[u8], width_px: usize, scale: usize) -> Vec<u8> {
    let rows = low.chunks_exact(width_px * 3).map(|row| {
        let pixels = row.chunks_exact(3).map(|pixel| pixel.repeat(scale));
        pixels.collect::<Vec<_>>().concat()
    });
    let rows = rows.flat_map(|row| std::iter::repeat_n(row, scale));
    rows.collect::<Vec<_>>().concat()
}

#[test]
fn models_are_scored_by_their_output() {
    let root = set(&[(33, 40), (28, 29)], Colour::Rgb);
    let pairs = pairs(root.path(), 2);
    for (protocol, channel, shave_px) in [
        (Protocol::Benchmark, Channel::Y, 2),
        (Protocol::Ntire, Channel::Rgb, 2),
        (Protocol::Div2k, Channel::Rgb, 8),
    ] {
        let mut scored = Vec::new();
        let scores = score_set(&pairs, &nearest_model(2), protocol, |score| {
            scored.push(score.name.clone());
        })
        .expect("scores");
        assert_eq!(scored, ["0", "1"]);
        for (pair, score) in pairs.iter().zip(&scores) {
            let high = pair.load().expect("a pair");
            let (w, h) = high.high_size_px();
            let made = repeated(&high.low, high.low_width_px, 2);
            let psnr = psnr_db(&made, &high.high, w, h, channel, shave_px);
            let similarity = ssim(&made, &high.high, w, h, channel, shave_px);
            assert_eq!(
                (score.psnr_db, score.ssim),
                (psnr, similarity),
                "{protocol}"
            );
            assert_ne!(score.psnr_db, score.bicubic_psnr_db, "{protocol}");
        }
    }
}

#[test]
fn grey_images_are_scored_by_the_mean_of_the_channels() {
    let root = set(&[(30, 30)], Colour::Grey);
    let pairs = pairs(root.path(), 2);
    let high = pairs[0].load().expect("a pair").high;
    // The channels err in opposite directions: as grey the image is the original.
    let tinted = |low: &[u8], w: usize, h: usize| -> Result<Vec<u8>, Error> {
        assert_eq!((low.len(), w, h), (15 * 15 * 3, 15, 15));
        let pixels = high.chunks_exact(3).flat_map(|p| {
            let d = p[0].min(255 - p[0]).min(4);
            [p[0] - d, p[1], p[2] + d]
        });
        Ok(pixels.collect())
    };
    let score = |protocol| {
        let scores = score_set_with(&pairs, protocol, tinted, |_| ()).expect("scores");
        scores[0].psnr_db
    };
    assert_eq!(score(Protocol::Benchmark), f64::INFINITY);
    assert!(score(Protocol::Ntire) < 40.0, "{}", score(Protocol::Ntire));
}

#[test]
fn too_small_images_are_named_before_they_are_upscaled() {
    // 14 px cropped by 2 * 2 leave 10, one less than SSIM's window; 16 leave 12.
    let root = set(&[(40, 15), (40, 16)], Colour::Rgb);
    let pairs = pairs(root.path(), 2);
    let untouched = |_: &[u8], _, _| -> Result<Vec<u8>, Error> { panic!("upscaled") };
    let error = score_set_with(&pairs, Protocol::Benchmark, untouched, |_| ())
        .expect_err("too small")
        .to_string();
    assert!(
        error.contains(
            "0.png: 40 x 14 pixels at a multiple of the scale, expected at least 15 x 15"
        ),
        "{error}"
    );
    score_set(&pairs[1..], &nearest_model(2), Protocol::Benchmark, |_| ()).expect("large enough");
}

#[test]
fn an_error_of_the_upscaler_is_returned() {
    #[derive(Debug)]
    enum Failure {
        Scoring,
        Upscaling,
    }
    impl From<Error> for Failure {
        fn from(_: Error) -> Self {
            Self::Scoring
        }
    }
    let root = set(&[(40, 40), (40, 40)], Colour::Rgb);
    let mut calls = 0;
    let result = score_set_with(
        &pairs(root.path(), 2),
        Protocol::Benchmark,
        |_, _, _| {
            calls += 1;
            Err(Failure::Upscaling)
        },
        |_| panic!("nothing was scored"),
    );
    assert!(matches!(result, Err(Failure::Upscaling)), "{result:?}");
    assert_eq!(calls, 1);
    std::fs::write(root.path().join("0.png"), "no image").expect("a file");
    let result = score_set_with(
        &pairs(root.path(), 2),
        Protocol::Benchmark,
        |_, _, _| Err(Failure::Upscaling),
        |_| (),
    );
    assert!(matches!(result, Err(Failure::Scoring)), "{result:?}");
}

#[test]
#[should_panic(expected = "scale of the pair and of the model")]
fn models_of_another_scale_panic() {
    let root = set(&[(40, 40)], Colour::Rgb);
    let _ = score_set(
        &pairs(root.path(), 3),
        &nearest_model(2),
        Protocol::Ntire,
        |_| (),
    );
}
