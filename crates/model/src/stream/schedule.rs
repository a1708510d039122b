//! Strip scheduling: which thread computes which strip, and when.
//!
//! A wave is four rows of the image and what is computed from them: a strip of each map. A thread
//! takes the next wave and computes all its strips, tile by tile, while they are in its cache. The rows
//! that a stage reads above its wave were left by the wave before, when it had computed that strip. So
//! a wave follows the one before at a distance of one strip, and all threads work one behind the
//! other. A strip depends on its inputs alone: neither the number nor the pace of threads changes a
//! bit.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use wdsr_kernels::{
    Epilogue, Scratch, Strip, StripLayout, convert_strip, enlarge_bilinear, quantize_strip,
};

use super::plan::{Kernel, Plan, Stage};
use super::tiles::{LeftMargins, Tile, Tiles};
use crate::error::UpscaleError;
use crate::network::Activation;

/// Fills a strip of the input.
pub(crate) type StripReader<'a> = dyn Fn(&mut Strip) -> Result<(), UpscaleError> + Sync + 'a;

/// Takes a strip of the result.
pub(crate) type StripWriter<'a> = dyn Fn(&Strip) -> Result<(), UpscaleError> + Sync + 'a;

/// Buffers that are kept from image to image as long as they fit.
#[derive(Default)]
pub(super) struct Buffers {
    /// The layout of each map's strips.
    layouts: Vec<StripLayout>,
    /// Of each thread.
    workers: Vec<WorkerBuffers>,
    /// For each tile and map, the rows above the next wave.
    rows_above: Vec<Vec<Mutex<Vec<f32>>>>,
}

impl Buffers {
    /// These buffers, or new ones if the image's strips do not fit.
    pub(super) fn for_image(mut self, plan: &Plan, tiles: &Tiles) -> Self {
        let layouts = tiles.layouts(plan);
        if self.layouts != layouts {
            self = Self {
                layouts,
                ..Self::default()
            };
        }
        let maps = || plan.maps.iter().map(|_| Mutex::default()).collect();
        self.rows_above.resize_with(tiles.count(), maps);
        self
    }

    /// Size in bytes for the given number of threads.
    pub(super) fn memory_bytes(plan: &Plan, tiles: &Tiles, threads: usize) -> u64 {
        let layouts = tiles.layouts(plan);
        // Strips in use now and at most, by channels and layout.
        let mut in_use: HashMap<(usize, StripLayout), (usize, usize)> = HashMap::new();
        let mut above_bytes = 0;
        let key = |map: usize| (plan.maps[map].shape.channels, layouts[map]);
        for (index, stage) in plan.stages.iter().enumerate() {
            let (channels, layout) = key(stage.output);
            above_bytes += Strip::memory_bytes(channels, StripLayout { rows: 0, ..layout });
            let (now, most) = in_use.entry((channels, layout)).or_default();
            *now += 1;
            *most = (*most).max(*now);
            for map in plan.read_last_by(index) {
                let (now, _) = in_use.entry(key(map)).or_default();
                *now -= 1;
            }
        }
        let strips = in_use
            .iter()
            .map(|((channels, layout), (_, most))| most * Strip::memory_bytes(*channels, *layout));
        let worker_bytes = strips.sum::<usize>() + LeftMargins::memory_bytes(plan, tiles);
        (threads * worker_bytes + tiles.count() * above_bytes) as u64
    }
}

/// Buffers of one thread.
#[derive(Default)]
struct WorkerBuffers {
    /// Strips that are not in use, by channels and layout; the last one was used last.
    strips: HashMap<(usize, StripLayout), Vec<Strip>>,
    scratch: Scratch,
    margins: LeftMargins,
}

impl WorkerBuffers {
    /// A strip with arbitrary content.
    fn take_strip(&mut self, channels: usize, layout: StripLayout) -> Strip {
        let spare = self.strips.get_mut(&(channels, layout)).and_then(Vec::pop);
        spare.unwrap_or_else(|| Strip::new(channels, layout))
    }

    fn return_strip(&mut self, strip: Strip) {
        let key = (strip.channels(), strip.layout());
        self.strips.entry(key).or_default().push(strip);
    }
}

/// Time of each stage, summed over all threads.
pub(super) struct StageTimes {
    pub(super) stages: Vec<Duration>,
    /// Time of the [`StripWriter`].
    pub(super) write: Duration,
}

impl StageTimes {
    pub(super) fn new(stages: usize) -> Self {
        Self {
            stages: vec![Duration::ZERO; stages],
            write: Duration::ZERO,
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.write += other.write;
        for (sum, time) in self.stages.iter_mut().zip(&other.stages) {
            *sum += *time;
        }
    }
}

/// Consecutive waves of an image.
pub(super) struct Waves<'a> {
    pub(super) plan: &'a Plan,
    pub(super) tiles: &'a Tiles,
    pub(super) height_px: usize,
    /// Their indices, from the top of the image.
    pub(super) indices: Range<usize>,
    pub(super) read: &'a StripReader<'a>,
    pub(super) write: &'a StripWriter<'a>,
}

impl Waves<'_> {
    /// Computes the waves. The buffers must be those of the waves before.
    pub(super) fn run(&self, buffers: &mut Buffers) -> Result<StageTimes, UpscaleError> {
        let schedule = Schedule {
            waves: self,
            layouts: &buffers.layouts,
            rows_above: &buffers.rows_above,
            next_wave: AtomicUsize::new(self.indices.start),
            state: Mutex::new(State {
                strips_done: vec![0; self.indices.len()],
                times: StageTimes::new(self.plan.stages.len()),
                workers: std::mem::take(&mut buffers.workers),
                failed: false,
                error: None,
            }),
            changed: Condvar::new(),
        };
        rayon::scope(|scope| {
            for _ in 1..rayon::current_num_threads() {
                scope.spawn(|_| schedule.work());
            }
            schedule.work();
        });
        let state = schedule
            .state
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        buffers.workers = state.workers;
        match state.error {
            None => Ok(state.times),
            Some(error) => Err(error),
        }
    }
}

/// Waves, shared out among the threads.
struct Schedule<'a> {
    waves: &'a Waves<'a>,
    layouts: &'a [StripLayout],
    rows_above: &'a [Vec<Mutex<Vec<f32>>>],
    /// The wave that a thread takes next.
    next_wave: AtomicUsize,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// Strips that are computed of each wave.
    strips_done: Vec<usize>,
    times: StageTimes,
    workers: Vec<WorkerBuffers>,
    /// A thread has failed or panicked: the others stop.
    failed: bool,
    /// The error, unless the thread panicked.
    error: Option<UpscaleError>,
}

/// A tile of a wave.
#[derive(Clone, Copy)]
struct WaveTile<'a> {
    wave: usize,
    tile: Tile<'a>,
}

impl Schedule<'_> {
    /// Takes waves until there are no more.
    fn work(&self) {
        let _stop_others = StopOnPanic(self);
        let mut worker = lock(&self.state).workers.pop().unwrap_or_default();
        let mut times = StageTimes::new(self.waves.plan.stages.len());
        loop {
            let wave = self.next_wave.fetch_add(1, Ordering::Relaxed);
            if wave >= self.waves.indices.end {
                break;
            }
            for tile in self.waves.tiles.iter() {
                let at = WaveTile { wave, tile };
                match self.run_tile(at, &mut worker, &mut times) {
                    Ok(true) => {}
                    Ok(false) => return,
                    Err(error) => return self.fail(error),
                }
            }
        }
        let mut state = lock(&self.state);
        state.times.add(&times);
        state.workers.push(worker);
    }

    /// Stops all threads. The first error is kept.
    fn fail(&self, error: UpscaleError) {
        let mut state = lock(&self.state);
        state.failed = true;
        state.error.get_or_insert(error);
        self.changed.notify_all();
    }

    /// Computes the strips of a tile. Returns false if another thread has failed.
    fn run_tile(
        &self,
        at: WaveTile<'_>,
        worker: &mut WorkerBuffers,
        times: &mut StageTimes,
    ) -> Result<bool, UpscaleError> {
        let plan = self.waves.plan;
        let mut strips: Vec<Option<Strip>> = plan.maps.iter().map(|_| None).collect();
        for (index, stage) in plan.stages.iter().enumerate() {
            if !self.wait_for_turn(at.wave) {
                return Ok(false);
            }
            let started = Instant::now();
            let map = stage.output;
            let channels = plan.maps[map].shape.channels;
            let mut output = worker.take_strip(channels, self.layouts[map]);
            self.compute(stage, at, &strips, &mut output, &mut worker.scratch)?;
            worker.margins.exchange(at.tile, plan, map, &mut output);
            self.exchange_rows_above(map, at, &mut output);
            strips[map] = Some(output);
            for map in plan.read_last_by(index) {
                if let Some(strip) = strips[map].take() {
                    worker.return_strip(strip);
                }
            }
            times.stages[index] += started.elapsed();
            self.complete_strip(at.wave);
        }
        if let Some(result) = strips[plan.output].take() {
            let started = Instant::now();
            (self.waves.write)(&result)?;
            times.write += started.elapsed();
            worker.return_strip(result);
        }
        Ok(true)
    }

    /// Waits until the wave before is one strip ahead of this one. Returns false if another thread has
    /// failed.
    fn wait_for_turn(&self, wave: usize) -> bool {
        let Some(before) = (wave - self.waves.indices.start).checked_sub(1) else {
            return true;
        };
        let mut state = lock(&self.state);
        while !state.failed && state.strips_done[before] == state.strips_done[before + 1] {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        !state.failed
    }

    fn complete_strip(&self, wave: usize) {
        lock(&self.state).strips_done[wave - self.waves.indices.start] += 1;
        self.changed.notify_all();
    }

    fn compute(
        &self,
        stage: &Stage,
        WaveTile { wave, tile }: WaveTile<'_>,
        strips: &[Option<Strip>],
        output: &mut Strip,
        scratch: &mut Scratch,
    ) -> Result<(), UpscaleError> {
        let map = &self.waves.plan.maps[stage.output];
        let height_px = self.waves.height_px * map.shape.scale;
        output.place(tile.columns(map), map.first_row(wave), height_px);
        let strip = |map: Option<usize>| {
            let strip = map.and_then(|map| strips[map].as_ref());
            strip.unwrap_or_else(|| unreachable!("map {map:?} is read before it is computed"))
        };
        match &stage.kernel {
            Kernel::Read => (self.waves.read)(output)?,
            Kernel::Convert(isa) => {
                let term = stage.addend.map(|_| strip(stage.addend));
                convert_strip(*isa, strip(stage.input), term, output);
            }
            Kernel::Quantize(isa, scale) => {
                quantize_strip(*isa, strip(stage.input), scale, output);
            }
            Kernel::Pair(pair) => pair.run(strip(stage.input), output, scratch),
            Kernel::Conv {
                conv,
                activation,
                slopes,
                ..
            } => {
                let epilogue = match (stage.addend, activation) {
                    (Some(_), Activation::None) => Epilogue::Add(strip(stage.addend)),
                    (Some(_), Activation::PRelu | Activation::LeakyRelu(_)) => {
                        Epilogue::AddPRelu(strip(stage.addend), slopes)
                    }
                    (Some(_), Activation::Relu) => unreachable!("ReLU of a sum"),
                    (None, Activation::None) => Epilogue::Store,
                    (None, Activation::Relu) => Epilogue::Relu,
                    (None, Activation::PRelu | Activation::LeakyRelu(_)) => Epilogue::PRelu(slopes),
                };
                conv.run(strip(stage.input), output, epilogue, scratch);
            }
            Kernel::Enlarge { scale } => {
                let image = (tile.all().image_width_px(), self.waves.height_px);
                let term = stage.addend.map(|_| strip(stage.addend));
                enlarge_bilinear(strip(stage.input), image, *scale, term, output);
            }
            Kernel::Shuffle { scale } => shuffle(strip(stage.input), *scale, output),
        }
        Ok(())
    }

    /// Sets the rows above a strip that has been computed, and keeps those above the next wave's.
    fn exchange_rows_above(
        &self,
        map: usize,
        WaveTile { wave, tile }: WaveTile<'_>,
        strip: &mut Strip,
    ) {
        if strip.layout().rows_above == 0 {
            return;
        }
        let mut rows = lock(&self.rows_above[tile.index()][map]);
        strip.set_rows_above((wave > 0).then_some(&**rows));
        strip.copy_last_rows(&mut rows);
    }
}

/// Pixel shuffle.
fn shuffle(input: &Strip, scale: usize, output: &mut Strip) {
    if output.columns().is_empty() {
        return;
    }
    for channel in 0..output.channels() {
        for y in output.rows() {
            for dx in 0..scale {
                let from = input.row((channel * scale + y % scale) * scale + dx, y / scale);
                let to = output.row_mut(channel, y)[dx..].iter_mut().step_by(scale);
                for (to, from) in to.zip(from) {
                    *to = *from;
                }
            }
        }
    }
}

/// Stops the other threads if this one panics.
struct StopOnPanic<'s, 'a>(&'s Schedule<'a>);

impl Drop for StopOnPanic<'_, '_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            lock(&self.0.state).failed = true;
            self.0.changed.notify_all();
        }
    }
}

/// Locks a mutex even if another thread has panicked: what the mutexes here guard is written as a
/// whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
