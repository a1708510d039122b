//! Who makes which strip when.
//!
//! A wave is four rows of the image and what becomes of them: a strip of each map. A thread takes the
//! next wave and runs it through the whole network, column by column, in strips that stay in its cache.
//! What a stage reads above its wave, the wave before has left when it was through with that strip; so a
//! wave follows the one before a strip behind, and as many threads as there are go one behind the other.
//! A strip's content depends on its inputs alone: neither threads nor their pace change a bit.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use wdsr_kernels::{Epilogue, Scratch, Strip, StripLayout};

use super::columns::{Column, Columns, Margins};
use super::lock;
use super::plan::{Kernel, Plan, Stage};
use crate::upscale::UpscaleError;

/// Memory kept from image to image as long as it fits.
#[derive(Default)]
pub(super) struct Memory {
    /// Of each map's strips.
    layouts: Vec<StripLayout>,
    /// For each thread.
    hands: Vec<Hand>,
    /// Of each column's maps the rows that the last wave has left.
    above: Vec<Vec<Mutex<Vec<f32>>>>,
}

impl Memory {
    /// This memory, or new one if an image's strips do not fit.
    pub(super) fn for_image(mut self, plan: &Plan, columns: &Columns) -> Self {
        let layouts = columns.layouts(plan);
        if self.layouts != layouts {
            self = Self {
                layouts,
                ..Self::default()
            };
        }
        let maps = || plan.maps.iter().map(|_| Mutex::default()).collect();
        self.above.resize_with(columns.count(), maps);
        self
    }

    /// Its size in bytes for so many threads.
    pub(super) fn bytes(plan: &Plan, columns: &Columns, threads: usize) -> u64 {
        let layouts = columns.layouts(plan);
        let mut alive: HashMap<(usize, StripLayout), (usize, usize)> = HashMap::new();
        let mut above_bytes = 0;
        let key = |map: usize| (plan.maps[map].shape.channels, layouts[map]);
        for (index, stage) in plan.stages.iter().enumerate() {
            let (channels, layout) = key(stage.output);
            above_bytes += Strip::memory_bytes(channels, StripLayout { rows: 0, ..layout });
            let (now, most) = alive.entry((channels, layout)).or_default();
            *now += 1;
            *most = (*most).max(*now);
            for map in plan.read_last_by(index) {
                let (now, _) = alive.entry(key(map)).or_default();
                *now -= 1;
            }
        }
        let strips = alive
            .iter()
            .map(|((channels, layout), (_, most))| most * Strip::memory_bytes(*channels, *layout));
        let hand_bytes = strips.sum::<usize>() + Margins::bytes(plan, columns);
        (threads * hand_bytes + columns.count() * above_bytes) as u64
    }
}

/// What a thread computes with.
#[derive(Default)]
struct Hand {
    /// Strips not in use, by channels and layout; the last one is the one used last.
    strips: HashMap<(usize, StripLayout), Vec<Strip>>,
    scratch: Scratch,
    margins: Margins,
}

impl Hand {
    /// A strip with any content.
    fn take(&mut self, channels: usize, layout: StripLayout) -> Strip {
        let spare = self.strips.get_mut(&(channels, layout)).and_then(Vec::pop);
        spare.unwrap_or_else(|| Strip::new(channels, layout))
    }

    fn give_back(&mut self, strip: Strip) {
        let key = (strip.channels(), strip.layout());
        self.strips.entry(key).or_default().push(strip);
    }
}

/// Over all threads.
pub(super) struct Times {
    pub(super) stages: Vec<Duration>,
    /// Of handing the result over.
    pub(super) write: Duration,
}

impl Times {
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

/// Some waves on their way.
struct Run<'a> {
    plan: &'a Plan,
    columns: &'a Columns,
    height_px: usize,
    layouts: &'a [StripLayout],
    above: &'a [Vec<Mutex<Vec<f32>>>],
    read: &'a (dyn Fn(&mut Strip) -> Result<(), UpscaleError> + Sync),
    write: &'a (dyn Fn(&Strip) -> Result<(), UpscaleError> + Sync),
    waves: Range<usize>,
    /// The wave that is taken next.
    next: AtomicUsize,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// Strips that each of the waves has made.
    made: Vec<usize>,
    times: Times,
    hands: Vec<Hand>,
    /// A thread has failed or panicked: the others stop.
    failed: bool,
    /// Why, if it did not panic.
    error: Option<UpscaleError>,
}

/// Runs some waves of an image of so many rows, those after the ones that the memory has seen last.
pub(super) fn run(
    plan: &Plan,
    (columns, height_px): (&Columns, usize),
    waves: Range<usize>,
    read: &(dyn Fn(&mut Strip) -> Result<(), UpscaleError> + Sync),
    write: &(dyn Fn(&Strip) -> Result<(), UpscaleError> + Sync),
    memory: &mut Memory,
) -> Result<Times, UpscaleError> {
    let run = Run {
        plan,
        columns,
        height_px,
        layouts: &memory.layouts,
        above: &memory.above,
        read,
        write,
        next: AtomicUsize::new(waves.start),
        state: Mutex::new(State {
            made: vec![0; waves.len()],
            times: Times::new(plan.stages.len()),
            hands: std::mem::take(&mut memory.hands),
            failed: false,
            error: None,
        }),
        waves,
        changed: Condvar::new(),
    };
    rayon::scope(|scope| {
        for _ in 1..rayon::current_num_threads() {
            scope.spawn(|_| run.work());
        }
        run.work();
    });
    let state = run
        .state
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    memory.hands = state.hands;
    match state.error {
        None => Ok(state.times),
        Some(error) => Err(error),
    }
}

impl Run<'_> {
    /// Takes waves until there are no more.
    fn work(&self) {
        let _stop_others = StopOthers(self);
        let mut hand = lock(&self.state).hands.pop().unwrap_or_default();
        let mut times = Times::new(self.plan.stages.len());
        loop {
            let wave = self.next.fetch_add(1, Ordering::Relaxed);
            if wave >= self.waves.end {
                break;
            }
            for column in self.columns.iter() {
                match self.strips(wave, column, &mut hand, &mut times) {
                    Ok(true) => {}
                    Ok(false) => return,
                    Err(error) => return self.fail(error),
                }
            }
        }
        let mut state = lock(&self.state);
        state.times.add(&times);
        state.hands.push(hand);
    }

    /// Lets all threads stop; the first error stays.
    fn fail(&self, error: UpscaleError) {
        let mut state = lock(&self.state);
        state.failed = true;
        state.error.get_or_insert(error);
        self.changed.notify_all();
    }

    /// Makes a wave's strips of a column. False when another thread has failed.
    fn strips(
        &self,
        wave: usize,
        column: Column<'_>,
        hand: &mut Hand,
        times: &mut Times,
    ) -> Result<bool, UpscaleError> {
        let maps = &self.plan.maps;
        let mut strips: Vec<Option<Strip>> = maps.iter().map(|_| None).collect();
        for (index, stage) in self.plan.stages.iter().enumerate() {
            if !self.is_turn(wave) {
                return Ok(false);
            }
            let started = Instant::now();
            let map = stage.output;
            let mut output = hand.take(maps[map].shape.channels, self.layouts[map]);
            self.make(
                stage,
                (wave, column),
                &strips,
                &mut output,
                &mut hand.scratch,
            )?;
            hand.margins.exchange(column, self.plan, map, &mut output);
            self.leave_above(map, (wave, column), &mut output);
            strips[map] = Some(output);
            for map in self.plan.read_last_by(index) {
                if let Some(strip) = strips[map].take() {
                    hand.give_back(strip);
                }
            }
            times.stages[index] += started.elapsed();
            self.made_one(wave);
        }
        if let Some(result) = strips[self.plan.output].take() {
            let started = Instant::now();
            (self.write)(&result)?;
            times.write += started.elapsed();
            hand.give_back(result);
        }
        Ok(true)
    }

    /// Waits until the wave before has made one strip more than this one; false when another thread has
    /// failed.
    fn is_turn(&self, wave: usize) -> bool {
        let Some(before) = (wave - self.waves.start).checked_sub(1) else {
            return true;
        };
        let mut state = lock(&self.state);
        while !state.failed && state.made[before] == state.made[before + 1] {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        !state.failed
    }

    fn made_one(&self, wave: usize) {
        lock(&self.state).made[wave - self.waves.start] += 1;
        self.changed.notify_all();
    }

    fn make(
        &self,
        stage: &Stage,
        (wave, column): (usize, Column<'_>),
        strips: &[Option<Strip>],
        output: &mut Strip,
        scratch: &mut Scratch,
    ) -> Result<(), UpscaleError> {
        let map = &self.plan.maps[stage.output];
        let height_px = self.height_px * map.shape.scale;
        output.place(column.of(map), map.first_row(wave), height_px);
        let made = |map: Option<usize>| {
            let strip = map.and_then(|map| strips[map].as_ref());
            strip.unwrap_or_else(|| unreachable!("map {map:?} is read before it is made"))
        };
        match &stage.kernel {
            Kernel::Read => (self.read)(output)?,
            Kernel::Pair(pair) => pair.run(made(stage.input), output, scratch),
            Kernel::Conv { conv, relu, .. } => {
                let epilogue = match stage.term {
                    Some(_) => Epilogue::Add(made(stage.term)),
                    None if *relu => Epilogue::Relu,
                    None => Epilogue::Store,
                };
                conv.run(made(stage.input), output, epilogue, scratch);
            }
            Kernel::Shuffle { scale } => shuffle(made(stage.input), *scale, output),
        }
        Ok(())
    }

    /// Gives a strip that has just been made the rows above it, and leaves those of the next wave.
    fn leave_above(&self, map: usize, (wave, column): (usize, Column<'_>), strip: &mut Strip) {
        if strip.layout().rows_above == 0 {
            return;
        }
        let mut kept = lock(&self.above[column.index()][map]);
        strip.set_rows_above((wave > 0).then_some(&**kept));
        strip.copy_last_rows(&mut kept);
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

/// Lets the other threads stop when this one panics.
struct StopOthers<'r, 'a>(&'r Run<'a>);

impl Drop for StopOthers<'_, '_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            lock(&self.0.state).failed = true;
            self.0.changed.notify_all();
        }
    }
}
