//! Degraded patches per second on one thread: `cargo bench -p wdsr-degrade`.

use divan::Bencher;
use divan::counter::ItemsCount;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use wdsr_degrade::{Degradation, Origin, Region};

fn main() {
    divan::main();
}

/// The stages and ranges of photographs from cameras and the web.
const PHOTOGRAPHS: &str = r#"
    untouched = 0.3
    [[stages]]
    kind = "blur"
    probability = 0.5
    shapes = ["isotropic", "anisotropic"]
    sigma_px = [0.2, 1.5]
    [[stages]]
    kind = "downsample"
    methods = ["bicubic", "bilinear", "area"]
    [[stages]]
    kind = "noise"
    probability = 0.5
    sigma_levels = [0.0, 10.0]
    grey = 0.5
    bayer = 0.25
    [[stages]]
    kind = "jpeg"
    probability = 0.8
    quality = [30, 98]
    subsampling = ["4:2:0", "4:4:4"]
    twice = 0.25
"#;

const PATCH_PX: usize = 48;
const PATCHES: usize = 64;

/// Patches of 48 low-resolution pixels with their margins, from a high-resolution image of noise.
#[divan::bench(args = [2, 3, 4])]
fn photographs(bencher: Bencher<'_, '_>, scale: usize) {
    let degradation: Degradation = toml::from_str(PHOTOGRAPHS).expect("a degradation");
    let largest_px = (PATCH_PX + 128) * scale;
    let mut state = 1_u32;
    let high: Vec<u8> = (0..3 * largest_px * largest_px)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect();
    bencher.counter(ItemsCount::new(PATCHES)).bench(|| {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        for _ in 0..PATCHES {
            let draw = degradation.draw(scale, Origin { seed: 7, image: 0 }, &mut rng);
            let side_px = (PATCH_PX + 2 * draw.margin_px()) * scale;
            let region = Region::new(side_px, side_px, &high[..3 * side_px * side_px]);
            divan::black_box(draw.apply(&region));
        }
    });
}
