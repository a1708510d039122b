//! The shape of workgroups, measured once for each adapter and network.
//!
//! It changes which threads run side by side and not what a thread computes. Drivers differ in which is fast, by
//! their caches and by the threads that they run in step.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use etcetera::BaseStrategy;
use serde::{Deserialize, Serialize};
use wdsr_model::{DeviceError, DeviceNetwork, DevicePrecision, DeviceTile, Model};

use crate::adapter::AdapterSummary;
use crate::gpu::{Open, lock};
use crate::matrices::Matrices;
use crate::network::GpuNetwork;
use crate::wgsl::{Kernel, Work, default_workgroup};

/// What is tried beside [`WORKGROUP`](crate::wgsl::WORKGROUP), along columns and rows: 64 to 256 threads, which every device allows.
const SHAPES: [[u32; 2]; 6] = [[8, 8], [16, 8], [16, 16], [32, 2], [32, 8], [64, 1]];

/// Subgroups that are tried beside [`SUBGROUPS`](crate::matrices::SUBGROUPS) with matrices.
const FEWER_SUBGROUPS: [u32; 2] = [1, 2];

/// Most that results with and without matrices may differ, of the largest value or of 1: twice what either may differ from
/// exact ones.
const F16_DIFFERENCE: f32 = 4e-3;

/// A shape is chosen if it takes at most this share of the time. Less is noise.
const WORTHWHILE: f64 = 0.95;

/// A tile is so large that its work takes this time: long beside that of a submission, short beside that of an image.
const TILE_TIME: Duration = Duration::from_millis(5);
const LEAST_SIDE_PX: usize = 64;
const LARGEST_SIDE_PX: usize = 1024;

/// Runs of a shape; the least time counts.
const RUNS: usize = 4;

/// Workgroups of the kernels that compute most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Workgroups {
    conv: [u32; 2],
    pair: [u32; 2],
    /// Whether these are kernels with matrices.
    pub(crate) are_of_matrices: bool,
}

impl Workgroups {
    /// The defaults, with or without matrices.
    pub(crate) fn of_matrices(matrices: Option<Matrices>) -> Self {
        Self {
            conv: default_workgroup(matrices),
            pair: default_workgroup(matrices),
            are_of_matrices: matrices.is_some(),
        }
    }

    /// That of a kernel.
    pub(crate) fn of(self, kernel: &Kernel) -> [u32; 2] {
        match kernel.work {
            _ if kernel.matrices.is_some() != self.are_of_matrices => kernel.workgroup,
            Work::Conv { .. } => self.conv,
            Work::Pair { .. } => self.pair,
            _ => kernel.workgroup,
        }
    }

    /// Whether each is one that is tried: what a file says may be anything.
    fn are_known(self, matrices: Option<Matrices>) -> bool {
        if self.are_of_matrices && matrices.is_none() {
            return false;
        }
        let matrices = matrices.filter(|_| self.are_of_matrices);
        let known = [shapes(matrices), vec![default_workgroup(matrices)]].concat();
        known.contains(&self.conv) && known.contains(&self.pair)
    }
}

/// What is tried beside the default.
fn shapes(matrices: Option<Matrices>) -> Vec<[u32; 2]> {
    match matrices {
        Some(matrices) => FEWER_SUBGROUPS
            .map(|count| [matrices.threads as u32, count])
            .to_vec(),
        None => SHAPES.to_vec(),
    }
}

/// The shapes that were chosen.
#[derive(Default)]
pub(crate) struct Tuning {
    /// The file that keeps them beyond this process.
    file: Option<PathBuf>,
    /// By adapter, driver, precision and network.
    chosen: Mutex<BTreeMap<String, Workgroups>>,
}

impl Tuning {
    /// Shapes that are kept in a folder.
    pub(crate) fn kept_in(folder: &Path) -> Self {
        Self {
            file: Some(folder.join("workgroups.json")),
            chosen: Mutex::default(),
        }
    }

    /// Shapes that are kept in the user's cache, or in this process alone if there is none.
    pub(crate) fn of_user() -> Self {
        match etcetera::base_strategy::choose_base_strategy() {
            Ok(folders) => Self::kept_in(&folders.cache_dir().join("wdsr")),
            Err(_) => Self::default(),
        }
    }

    /// The shapes for a model: those of an earlier call, or measured.
    pub(crate) fn workgroups(
        &self,
        open: &Arc<Open>,
        summary: &AdapterSummary,
        model: &Model,
        precision: DevicePrecision,
    ) -> Result<Workgroups, DeviceError> {
        let matrices = open.matrices_in(precision);
        let key = format!(
            "{} {}, {}{}, {}",
            env!("CARGO_PKG_VERSION"),
            summary.driver_text(),
            precision.name(),
            matrices.map_or("", |_| " by matrices"),
            model.config().label()
        );
        // Held while they are measured, so that measurements do not disturb each other.
        let mut chosen = lock(&self.chosen);
        if let Some(workgroups) = chosen.get(&key) {
            return Ok(*workgroups);
        }
        let kept = self.read();
        let known = kept.get(&key).filter(|kept| kept.are_known(matrices));
        let workgroups = match known {
            Some(workgroups) => *workgroups,
            None => {
                let matrices = match matrices {
                    Some(matrices) => agrees(open, model, matrices)?.then_some(matrices),
                    None => None,
                };
                let measured = measure(open, model, precision, matrices)?;
                self.keep(kept, key.clone(), measured);
                measured
            }
        };
        chosen.insert(key, workgroups);
        Ok(workgroups)
    }

    /// What the file has; nothing if it is damaged, so that it is written again.
    fn read(&self) -> BTreeMap<String, Workgroups> {
        let text = self.file.as_ref().and_then(|f| std::fs::read(f).ok());
        let kept = text.and_then(|text| serde_json::from_slice(&text).ok());
        kept.unwrap_or_default()
    }

    /// Keeps a choice. Without a place that can be written, the next process measures again.
    fn keep(&self, mut kept: BTreeMap<String, Workgroups>, key: String, workgroups: Workgroups) {
        kept.insert(key, workgroups);
        let Some(file) = &self.file else { return };
        if let (Some(folder), Ok(text)) = (file.parent(), serde_json::to_vec_pretty(&kept)) {
            let _ =
                std::fs::create_dir_all(folder).and_then(|()| wdsr_atomic_file::write(file, &text));
        }
    }
}

/// A tile with a halo whose sides are no multiples of a workgroup's.
fn small_tile() -> DeviceTile {
    let value = |at: usize| [at % 7, at % 11, at % 5, 0].map(|v| v as f32 / 11.0 - 0.3);
    DeviceTile {
        pixels: (0..61 * 37).map(value).collect(),
        width_px: 61,
        columns: 3..60,
        rows: 2..30,
    }
}

/// Whether kernels with matrices make what those without make of a tile. What a driver does not compile, it does not make.
pub(crate) fn agrees(
    open: &Arc<Open>,
    model: &Model,
    matrices: Matrices,
) -> Result<bool, DeviceError> {
    let tile = small_tile();
    let result = |workgroups| -> Result<Vec<f32>, DeviceError> {
        GpuNetwork::new(Arc::clone(open), model, DevicePrecision::F16, workgroups)?.compute(&tile)
    };
    let expected = result(Workgroups::of_matrices(None))?;
    match result(Workgroups::of_matrices(Some(matrices))) {
        Ok(found) => Ok(is_close(&found, &expected)),
        Err(_) => open.check_lost().map(|()| false),
    }
}

fn is_close(found: &[f32], expected: &[f32]) -> bool {
    let largest = expected
        .iter()
        .fold(1.0_f32, |most, value| most.max(value.abs()));
    let is_near = |(a, b): (&f32, &f32)| (a - b).abs() <= F16_DIFFERENCE * largest;
    found.iter().zip(expected).all(is_near)
}

/// Tries the shapes for convolutions, then those for pairs.
fn measure(
    open: &Arc<Open>,
    model: &Model,
    precision: DevicePrecision,
    matrices: Option<Matrices>,
) -> Result<Workgroups, DeviceError> {
    let network = |workgroups| GpuNetwork::new(Arc::clone(open), model, precision, workgroups);
    let mut best = Workgroups::of_matrices(matrices);
    let default = network(best)?;
    let mut side_px = LEAST_SIDE_PX;
    // The first run allocates.
    run(&default, side_px)?;
    while side_px < LARGEST_SIDE_PX
        && 4 * side_px * side_px <= default.max_tile_pixels()
        && run(&default, side_px)? < TILE_TIME
    {
        side_px *= 2;
        run(&default, side_px)?;
    }
    let mut least = least_time(&default, side_px)?;
    let has = |is: fn(&Work) -> bool| {
        let mut tried = default
            .kernels()
            .filter(|kernel| kernel.matrices.is_some() == matrices.is_some());
        tried.any(|kernel| is(&kernel.work))
    };
    let has_convs = has(|work| matches!(work, Work::Conv { .. }));
    let has_pairs = has(|work| matches!(work, Work::Pair { .. }));
    let shapes = shapes(matrices);
    let convs = shapes.iter().map(|&shape| (has_convs, shape, true));
    let pairs = shapes.iter().map(|&shape| (has_pairs, shape, false));
    for (is_used, shape, is_conv) in convs.chain(pairs) {
        if !is_used {
            continue;
        }
        let tried = match is_conv {
            true => Workgroups {
                conv: shape,
                ..best
            },
            false => Workgroups {
                pair: shape,
                ..best
            },
        };
        // A shape that a driver does not compile is none to choose.
        let Ok(time) = network(tried).and_then(|network| least_time(&network, side_px)) else {
            open.check_lost()?;
            continue;
        };
        if time.as_secs_f64() < WORTHWHILE * least.as_secs_f64() {
            (best, least) = (tried, time);
        }
    }
    Ok(best)
}

/// The least time of some runs, after one that allocates.
fn least_time(network: &GpuNetwork, side_px: usize) -> Result<Duration, DeviceError> {
    let mut least = Duration::MAX;
    for _ in 0..=RUNS {
        least = least.min(run(network, side_px)?);
    }
    Ok(least)
}

/// The time of a tile of grey, of which a row is wanted.
fn run(network: &GpuNetwork, side_px: usize) -> Result<Duration, DeviceError> {
    let tile = DeviceTile {
        pixels: vec![[0.1, 0.1, 0.1, 0.0]; side_px * side_px],
        width_px: side_px,
        columns: 0..side_px,
        rows: 0..1,
    };
    let started = Instant::now();
    network.start(&tile)?.finish(&|_| (), &mut |_| ())?;
    Ok(started.elapsed())
}

#[cfg(test)]
mod tests {
    use wdsr_model::NetworkConfig;

    use super::*;
    use crate::{Choice, Gpu};

    #[test]
    #[ignore = "needs a driver of a GPU: .ci/run gpu"]
    fn results_have_the_same_bits_in_every_shape() {
        let gpu = Gpu::open(Choice::Index(0)).unwrap_or_else(|error| panic!("{error}"));
        let open = gpu.current().expect("a device");
        let config = NetworkConfig::wdsr_b(13, 1, 2);
        let model = Model::random(&config, 1);
        let tile = small_tile();
        let bits = |workgroups: Workgroups| -> Vec<u32> {
            let precision = match workgroups.are_of_matrices {
                true => DevicePrecision::F16,
                false => DevicePrecision::F32,
            };
            let network = GpuNetwork::new(Arc::clone(&open), &model, precision, workgroups);
            let network = network.unwrap_or_else(|error| panic!("{error}"));
            let result = network.compute(&tile);
            let result = result.unwrap_or_else(|error| panic!("{error}"));
            result.iter().map(|value| value.to_bits()).collect()
        };
        for matrices in [None, open.matrices] {
            let default = Workgroups::of_matrices(matrices);
            let expected = bits(default);
            for shape in shapes(matrices) {
                let tried = Workgroups {
                    conv: shape,
                    pair: shape,
                    ..default
                };
                assert!(bits(tried) == expected, "{matrices:?} {shape:?}");
            }
        }
    }

    #[test]
    #[ignore = "needs a driver of a GPU: .ci/run gpu"]
    fn shapes_are_measured_once_and_kept() {
        let gpu = Gpu::open(Choice::Index(0)).unwrap_or_else(|error| panic!("{error}"));
        let open = gpu.current().expect("a device");
        let model = Model::random(&NetworkConfig::wdsr_b(8, 1, 2), 1);
        let folder = tempfile::tempdir().expect("a folder");
        let chosen = || {
            let tuning = Tuning::kept_in(folder.path());
            let chosen = tuning.workgroups(&open, gpu.summary(), &model, DevicePrecision::F32);
            chosen.unwrap_or_else(|error| panic!("{error}"))
        };
        let first = chosen();
        assert!(first.are_known(None), "{first:?}");
        let mut kept = Tuning::kept_in(folder.path()).read();
        assert_eq!(kept.values().collect::<Vec<_>>(), [&first]);
        // Read, not measured.
        let other = Workgroups {
            conv: [64, 1],
            pair: [16, 8],
            are_of_matrices: false,
        };
        let key = kept.pop_first().expect("a key").0;
        assert!(
            key.contains(&gpu.summary().name) && key.contains("f32"),
            "{key}"
        );
        Tuning::kept_in(folder.path()).keep(kept, key, other);
        assert_eq!(chosen(), other);
    }

    #[test]
    fn results_that_differ_are_not_close() {
        let expected = [0.5, -3.0, 0.0];
        assert!(is_close(&[0.51, -3.01, 0.01], &expected));
        for wrong in [[0.52, -3.0, 0.0], [f32::NAN, -3.0, 0.0], [0.0; 3]] {
            assert!(!is_close(&wrong, &expected), "{wrong:?}");
        }
    }

    #[test]
    fn what_a_file_says_is_used_only_if_it_is_tried() {
        let folder = tempfile::tempdir().expect("a folder");
        let tuning = Tuning::kept_in(&folder.path().join("new"));
        assert_eq!(tuning.read(), BTreeMap::new());
        let chosen = Workgroups {
            conv: [8, 8],
            pair: [64, 1],
            are_of_matrices: false,
        };
        tuning.keep(BTreeMap::new(), "a card".to_owned(), chosen);
        assert_eq!(tuning.read()["a card"], chosen);
        let matrices = Some(Matrices {
            side: 16,
            threads: 32,
        });
        assert!(chosen.are_known(None) && chosen.are_known(matrices));
        let on_matrices = Workgroups::of_matrices(matrices);
        assert!(on_matrices.are_known(matrices));
        // A driver without matrices, of another subgroup, and shapes that are not tried.
        assert!(!on_matrices.are_known(None));
        let threads = 64;
        assert!(!on_matrices.are_known(Some(Matrices { side: 16, threads })));
        let huge = Workgroups {
            conv: [1024, 1024],
            ..chosen
        };
        assert!(!huge.are_known(matrices), "{huge:?}");
        let file = folder.path().join("new/workgroups.json");
        std::fs::write(file, "{").expect("written");
        assert_eq!(tuning.read(), BTreeMap::new());
    }
}
