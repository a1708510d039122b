//! Upscaling on a device: tiles of any size give the image, and what fails is an error or computed elsewhere. The
//! device is this processor, with limits and failures as a test sets them.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use wdsr_model::{
    Device, DeviceError, DeviceNetwork, DevicePrecision, DeviceTile, Isa, Model, NetworkConfig,
    PendingTile, UpscaleError, Upscaler,
};
use wdsr_testing::floats::assert_close;
use wdsr_testing::random;

const TOLERANCE: f64 = 1e-5;

/// A device with limits.
struct TestDevice {
    max_tile_pixels: usize,
    /// Larger tiles are out of memory.
    memory_pixels: usize,
    /// The tile, counted from 0, at which the device is lost.
    lost_at: usize,
    /// Whether it prepares nothing.
    refuses: bool,
    is_optional: bool,
    /// Whether results are NaN.
    is_broken: bool,
    /// The number of processors, if it is several of these.
    processors: Option<usize>,
    isa: Isa,
    started: AtomicUsize,
    prepared: AtomicUsize,
    warnings: Mutex<Vec<String>>,
}

impl TestDevice {
    fn new(max_tile_pixels: usize) -> Self {
        Self {
            max_tile_pixels,
            memory_pixels: usize::MAX,
            lost_at: usize::MAX,
            refuses: false,
            is_optional: false,
            is_broken: false,
            processors: None,
            isa: Isa::REFERENCE,
            started: AtomicUsize::new(0),
            prepared: AtomicUsize::new(0),
            warnings: Mutex::default(),
        }
    }

    fn warnings(&self) -> Vec<String> {
        self.warnings.lock().expect("no panic").clone()
    }
}

/// A device that tests keep a handle of.
struct Shared(Arc<TestDevice>);

impl Device for Shared {
    fn name(&self) -> &str {
        "test device"
    }

    fn prepare(
        &self,
        model: &Model,
        _: DevicePrecision,
    ) -> Result<Box<dyn DeviceNetwork>, DeviceError> {
        self.0.prepared.fetch_add(1, Ordering::Relaxed);
        if self.0.refuses {
            return Err(DeviceError::Failed {
                device: self.name().to_owned(),
                reason: "a kernel does not compile".to_owned(),
            });
        }
        Ok(Box::new(TestNetwork {
            device: Arc::clone(&self.0),
            model: model.clone(),
        }))
    }

    fn is_optional(&self) -> bool {
        self.0.is_optional
    }

    fn warn(&self, message: String) {
        self.0.warnings.lock().expect("no panic").push(message);
    }

    fn take_warnings(&self) -> Vec<String> {
        std::mem::take(&mut self.0.warnings.lock().expect("no panic"))
    }
}

struct TestNetwork {
    device: Arc<TestDevice>,
    model: Model,
}

struct Done {
    values: Vec<f32>,
    pixels: usize,
}

impl PendingTile for Done {
    fn finish(
        self: Box<Self>,
        progress: &dyn Fn(usize),
        read: &mut dyn FnMut(&[f32]),
    ) -> Result<(), DeviceError> {
        progress(self.pixels / 2);
        read(&self.values);
        Ok(())
    }
}

impl DeviceNetwork for TestNetwork {
    fn max_tile_pixels(&self) -> usize {
        self.device.max_tile_pixels
    }

    fn processors(&self) -> Option<usize> {
        self.device.processors
    }

    fn start(&self, tile: &DeviceTile) -> Result<Box<dyn PendingTile + '_>, DeviceError> {
        let device = || "test device".to_owned();
        if tile.pixels.len() > self.device.memory_pixels {
            return Err(DeviceError::OutOfMemory { device: device() });
        }
        if self.device.started.fetch_add(1, Ordering::Relaxed) == self.device.lost_at {
            return Err(DeviceError::Lost {
                device: device(),
                reason: "a test".to_owned(),
            });
        }
        let pixels = tile.columns.len() * tile.rows.len();
        if self.device.processors.is_some() {
            let upscaler = Upscaler::with_isa(&self.model, self.device.isa);
            let values = upscaler.compute_tile(tile, &|_, _| ControlFlow::Continue(()));
            let values = values.expect("finite values");
            return Ok(Box::new(Done { values, pixels }));
        }
        let mean = self.model.config().mean;
        let units = tile.pixels.iter().flat_map(|[r, g, b, _]| [r, g, b]);
        let units: Vec<f32> = units.zip(mean.iter().cycle()).map(|(v, m)| v + m).collect();
        let upscaler = Upscaler::with_isa(&self.model, isa());
        let large = upscaler.upscale(&units, tile.width_px, tile.height_px());
        let large = large.expect("an image");
        let scale = upscaler.scale();
        let row_len = tile.width_px * scale * 3;
        let mut wanted = Vec::new();
        for y in tile.rows.start * scale..tile.rows.end * scale {
            let columns = tile.columns.start * scale * 3..tile.columns.end * scale * 3;
            let row = &large[y * row_len..][columns];
            wanted.extend(row.iter().zip(mean.iter().cycle()).map(|(v, m)| v - m));
        }
        if self.device.is_broken {
            wanted[0] = f32::NAN;
        }
        Ok(Box::new(Done {
            values: wanted,
            pixels,
        }))
    }
}

fn model() -> Model {
    Model::random(&NetworkConfig::wdsr_b(6, 2, 2), 1)
}

fn image(width: usize, height: usize) -> Vec<f32> {
    random::units(width * height * 3, 7)
}

/// That of this processor.
fn isa() -> Isa {
    Isa::detect().expect("an instruction set")
}

fn on(device: &Arc<TestDevice>) -> Upscaler {
    Upscaler::with_isa(&model(), isa())
        .on_device(Arc::new(Shared(Arc::clone(device))), DevicePrecision::F32)
}

fn check(device: &Arc<TestDevice>, (width, height): (usize, usize), what: &str) {
    let pixels = image(width, height);
    let processor = Upscaler::with_isa(&model(), isa());
    let expected = processor.upscale(&pixels, width, height).expect("an image");
    let found = on(device)
        .upscale(&pixels, width, height)
        .expect("an image");
    assert_close(&found, &expected, TOLERANCE, what);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn tiles_give_the_image(
        width in 1_usize..90,
        height in 1_usize..90,
        max_tile_pixels in 1_usize..9000,
        memory_pixels in 300_usize..9000,
        rows in 1_usize..60,
    ) {
        let device = Arc::new(TestDevice {
            memory_pixels,
            ..TestDevice::new(max_tile_pixels)
        });
        check(&device, (width, height), "in memory");
        let pixels = image(width, height);
        let (mut rest, mut large) = (&pixels[..], Vec::new());
        let streamed = on(&device).upscale_rows::<f32, UpscaleError>(
            (width, height),
            rows,
            |to| {
                let (next, others) = rest.split_at(to.len());
                to.copy_from_slice(next);
                rest = others;
                Ok(())
            },
            |from| {
                large.extend_from_slice(from);
                Ok(())
            },
            &|_, _| ControlFlow::Continue(()),
        );
        streamed.expect("an image");
        let whole = on(&device).upscale(&pixels, width, height).expect("an image");
        assert_close(&large, &whole, TOLERANCE, "row by row");
    }
}

#[test]
fn several_processors_give_the_bits_of_one() {
    let isa = Isa::detect().expect("an instruction set");
    let model = Model::random(&NetworkConfig::wdsr_b(32, 2, 2), 1);
    for (processors, max_tile_pixels, (width, height)) in [
        (1, 4000, (50, 203)),
        (2, 1 << 20, (61, 40)),
        (2, 3000, (61, 150)),
        (3, 5000, (111, 99)),
        (8, 9000, (200, 130)),
    ] {
        let device = Arc::new(TestDevice {
            processors: Some(processors),
            isa,
            ..TestDevice::new(max_tile_pixels)
        });
        let one = Upscaler::with_isa(&model, isa);
        let several = Upscaler::with_isa(&model, isa)
            .on_device(Arc::new(Shared(Arc::clone(&device))), DevicePrecision::F32);
        let pixels = image(width, height);
        let expected = one.upscale(&pixels, width, height).expect("an image");
        let found = several.upscale(&pixels, width, height).expect("an image");
        let what = format!("{processors} processors, {width} x {height}");
        assert!(found == expected, "{what}: other bits");
        let tiles = device.started.load(Ordering::Relaxed);
        assert!(tiles >= processors.min(2), "{what}: {tiles} tiles");
    }
}

#[test]
fn progress_rises_to_the_whole_image() {
    let device = Arc::new(TestDevice::new(1200));
    let pixels = image(30, 90);
    let shares = Mutex::new(Vec::new());
    let progress = |done: usize, all: usize| {
        shares
            .lock()
            .expect("no panic")
            .push(done as f64 / all as f64);
        ControlFlow::Continue(())
    };
    let large = on(&device).upscale_with_progress(&pixels, 30, 90, &progress);
    large.expect("an image");
    let shares = shares.into_inner().expect("no panic");
    assert!(shares.is_sorted(), "{shares:?}");
    assert_eq!(shares.last(), Some(&1.0), "{shares:?}");
}

#[test]
fn a_device_with_little_memory_gets_smaller_tiles_and_no_warning() {
    let device = Arc::new(TestDevice {
        memory_pixels: 1500,
        ..TestDevice::new(1 << 20)
    });
    check(&device, (80, 70), "in small tiles");
    assert_eq!(device.warnings(), [""; 0]);
}

#[test]
fn a_device_without_memory_leaves_the_work_to_the_processor_with_a_warning() {
    let device = Arc::new(TestDevice {
        memory_pixels: 10,
        ..TestDevice::new(1 << 20)
    });
    let upscaler = on(&device);
    assert_eq!(upscaler.device_name(), Some("test device"));
    let pixels = image(40, 30);
    let found = upscaler.upscale(&pixels, 40, 30).expect("an image");
    let processor = Upscaler::with_isa(&model(), isa());
    let expected = processor.upscale(&pixels, 40, 30).expect("an image");
    assert_close(&found, &expected, TOLERANCE, "on the processor");
    let warning = "test device has not enough memory; computing on the processor";
    assert_eq!(device.warnings(), [warning]);
    assert_eq!(upscaler.device_name(), None);
    // Bit for bit, as the device is not tried again.
    assert_eq!(
        upscaler.upscale(&pixels, 40, 30).expect("an image"),
        expected
    );
    assert_eq!(device.warnings(), [warning]);
}

#[test]
fn what_a_device_cannot_prepare_is_an_error_unless_the_device_is_optional() {
    let device = |is_optional| {
        Arc::new(TestDevice {
            refuses: true,
            is_optional,
            ..TestDevice::new(1 << 20)
        })
    };
    let demanded = on(&device(false)).upscale(&image(9, 8), 9, 8);
    assert!(
        matches!(
            demanded,
            Err(UpscaleError::Device(DeviceError::Failed { .. }))
        ),
        "{demanded:?}"
    );
    let optional = device(true);
    check(&optional, (9, 8), "on the processor");
    let warning = "test device failed: a kernel does not compile; update its driver or use --device cpu; computing on the \
                   processor";
    assert_eq!(optional.warnings(), [warning]);
}

#[test]
fn rrdb_is_an_error_unless_the_device_is_optional() {
    let model = Model::random(&NetworkConfig::rrdb(4, 1, 2), 1);
    let run = |is_optional| {
        let device = Arc::new(TestDevice {
            is_optional,
            ..TestDevice::new(1 << 20)
        });
        let upscaler = Upscaler::with_isa(&model, Isa::REFERENCE);
        let upscaler =
            upscaler.on_device(Arc::new(Shared(Arc::clone(&device))), DevicePrecision::F32);
        (upscaler.upscale(&image(9, 8), 9, 8), device)
    };
    let (demanded, _) = run(false);
    let reason = demanded.expect_err("no kernels").to_string();
    assert!(
        reason.contains("does not compute networks of kind rrdb"),
        "{reason}"
    );
    let (optional, device) = run(true);
    assert_eq!(optional.expect("an image").len(), 4 * 3 * 9 * 8);
    assert_eq!(device.warnings().len(), 1, "{:?}", device.warnings());
}

#[test]
fn a_lost_device_fails_the_image_and_is_prepared_again() {
    let device = Arc::new(TestDevice {
        lost_at: 1,
        ..TestDevice::new(1200)
    });
    let upscaler = on(&device);
    let pixels = image(30, 90);
    let lost = upscaler.upscale(&pixels, 30, 90);
    assert!(
        matches!(lost, Err(UpscaleError::Device(DeviceError::Lost { .. }))),
        "{lost:?}"
    );
    upscaler.upscale(&pixels, 30, 90).expect("an image");
    assert_eq!(device.prepared.load(Ordering::Relaxed), 2);
}

#[test]
fn results_that_are_not_finite_are_errors() {
    let device = Arc::new(TestDevice {
        is_broken: true,
        ..TestDevice::new(1 << 20)
    });
    match on(&device).upscale(&image(9, 8), 9, 8) {
        Err(UpscaleError::NotFinite { x: 0, y: 0, .. }) => {}
        other => panic!("expected an error at (0, 0), found {other:?}"),
    }
}

#[test]
fn progress_stops_the_work() {
    let device = Arc::new(TestDevice::new(1200));
    let pixels = image(30, 90);
    let stopped =
        on(&device).upscale_with_progress(&pixels, 30, 90, &|_, _| ControlFlow::Break(()));
    assert_eq!(stopped.err(), Some(UpscaleError::Stopped));
}

#[test]
fn rows_fit_the_memory() {
    let upscaler = on(&Arc::new(TestDevice::new(1 << 20)));
    let most = upscaler.rows_within(1000, 1, u64::MAX).expect("no limit");
    let limit = upscaler.memory_bytes(1000, most, 1) / 2;
    let rows = upscaler
        .rows_within(1000, 1, limit)
        .expect("half of the memory");
    assert!(
        rows < most && upscaler.memory_bytes(1000, rows, 1) <= limit,
        "{rows} of {most} rows"
    );
    let least = upscaler.rows_within(1000, 1, 0).expect_err("no memory");
    assert!(least > 0, "{least} bytes");
}
