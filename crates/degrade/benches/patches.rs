//! Degraded patches per second on one thread, by the recipes' stages: `cargo bench -p wdsr-degrade`.

use std::path::Path;

use divan::Bencher;
use divan::counter::ItemsCount;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use wdsr_degrade::{Degradation, Origin, Region};

fn main() {
    divan::main();
}

const PATCH_PX: usize = 48;
const PATCHES: usize = 64;

/// Scale, degradation and range of strengths of a recipe.
fn recipe(name: &str) -> (usize, Degradation, Option<[f64; 2]>) {
    #[derive(serde::Deserialize)]
    struct Recipe {
        network: Network,
        degradation: Degradation,
        strength: Option<Strength>,
    }
    #[derive(serde::Deserialize)]
    struct Network {
        scale: usize,
    }
    #[derive(serde::Deserialize)]
    struct Strength {
        range: [f64; 2],
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes");
    let text = std::fs::read_to_string(folder.join(name)).expect("a recipe");
    let recipe: Recipe = toml::from_str(&text).expect("a degradation");
    let strength = recipe.strength.map(|strength| strength.range);
    (recipe.network.scale, recipe.degradation, strength)
}

/// Patches of 48 low-resolution pixels with their margins, from a high-resolution image of noise.
#[divan::bench(threads = [1, 2], args = ["photo-x1.toml", "photo-x2.toml", "photo-x4.toml", "ntire2018-mild.toml", "ntire2018-difficult.toml", "ntire2018-wild-x4.toml"])]
fn patches(bencher: Bencher<'_, '_>, name: &str) {
    let (scale, degradation, strength) = recipe(name);
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
        for image in 0..PATCHES {
            let origin = Origin {
                seed: 7,
                image: image as u64,
            };
            let draw = match strength {
                Some([min, max]) => {
                    let strength = rng.random_range(min..=max);
                    degradation.draw_at(scale, strength, origin, &mut rng)
                }
                None => degradation.draw(scale, origin, &mut rng),
            };
            let side_px = (PATCH_PX + 2 * draw.margin_px()) * scale;
            let region = Region::new(side_px, side_px, &high[..3 * side_px * side_px]);
            divan::black_box(draw.apply(&region));
        }
    });
}
