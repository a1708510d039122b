//! Who makes which strip when.
//!
//! A wave is four rows of the picture and what becomes of them: a strip of each map. A thread takes the
//! next wave and runs it through the whole network, in strips that stay in its cache. What a stage
//! reads above its wave, the wave before has left when it was through with the stage; so a wave follows
//! the one before a stage behind, and as many threads as there are go one behind the other. A strip's
//! content depends on its inputs alone: neither threads nor their pace change a bit.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use wdsr_kernels::{Epilogue, Room, Scratch, Strip};

use super::columns::{Column, Margins};
use super::lock;
use super::plan::{Kernel, Plan, Stage};
use crate::upscale::UpscaleError;

/// Memory kept from picture to picture as long as it fits.
#[derive(Default)]
pub(super) struct Spare {
    /// Of each map's strips.
    rooms: Vec<Room>,
    /// For each thread.
    hands: Vec<Hand>,
    /// Of each map the rows that the last wave has left.
    above: Vec<Mutex<Vec<f32>>>,
}

/// What a thread computes with.
#[derive(Default)]
struct Hand {
    /// Strips not in use, by channels and room; the last one is the one used last.
    strips: HashMap<(usize, Room), Vec<Strip>>,
    scratch: Scratch,
}

impl Hand {
    /// A strip with any content.
    fn take(&mut self, channels: usize, room: Room) -> Strip {
        let spare = self.strips.get_mut(&(channels, room)).and_then(Vec::pop);
        spare.unwrap_or_else(|| Strip::new(channels, room))
    }

    fn give_back(&mut self, strip: Strip) {
        let key = (strip.channels(), strip.room());
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
    fn new(stages: usize) -> Self {
        Self {
            stages: vec![Duration::ZERO; stages],
            write: Duration::ZERO,
        }
    }

    fn add(&mut self, other: &Self) {
        self.write += other.write;
        for (sum, time) in self.stages.iter_mut().zip(&other.stages) {
            *sum += *time;
        }
    }
}

/// What is to be made: a column of a picture of so many rows.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    pub(super) column: Column<'a>,
    pub(super) height_px: usize,
    pub(super) margins: &'a Margins,
}

struct Run<'a> {
    plan: &'a Plan,
    part: Part<'a>,
    rooms: &'a [Room],
    above: &'a [Mutex<Vec<f32>>],
    read: &'a (dyn Fn(&mut Strip) -> Result<(), UpscaleError> + Sync),
    write: &'a (dyn Fn(&Strip) -> Result<(), UpscaleError> + Sync),
    waves: usize,
    /// The wave that is taken next.
    next: AtomicUsize,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// Waves that each stage is through with.
    done: Vec<usize>,
    times: Times,
    hands: Vec<Hand>,
    /// A thread has failed or panicked: the others stop.
    failed: bool,
    /// Why, if it did not panic.
    error: Option<UpscaleError>,
}

pub(super) fn run(
    plan: &Plan,
    part: Part<'_>,
    read: &(dyn Fn(&mut Strip) -> Result<(), UpscaleError> + Sync),
    write: &(dyn Fn(&Strip) -> Result<(), UpscaleError> + Sync),
    spare: &mut Spare,
) -> Result<Times, UpscaleError> {
    let rooms = part.column.all().rooms(plan);
    if spare.rooms != rooms {
        *spare = Spare {
            above: plan.maps.iter().map(|_| Mutex::default()).collect(),
            hands: Vec::new(),
            rooms,
        };
    }
    let run = Run {
        plan,
        part,
        rooms: &spare.rooms,
        above: &spare.above,
        read,
        write,
        waves: plan.waves(part.height_px),
        next: AtomicUsize::new(0),
        state: Mutex::new(State {
            done: vec![0; plan.stages.len()],
            times: Times::new(plan.stages.len()),
            hands: std::mem::take(&mut spare.hands),
            failed: false,
            error: None,
        }),
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
    spare.hands = state.hands;
    match state.error {
        None => Ok(state.times),
        Some(error) => Err(error),
    }
}

/// Memory in bytes of the strips of so many threads, and of what waves leave to the next.
pub(super) fn bytes(plan: &Plan, rooms: &[Room], threads: usize) -> u64 {
    let mut alive: HashMap<(usize, Room), (usize, usize)> = HashMap::new();
    let mut above_bytes = 0;
    let key = |map: usize| (plan.maps[map].shape.channels, rooms[map]);
    for (index, stage) in plan.stages.iter().enumerate() {
        let (channels, room) = key(stage.output);
        above_bytes += Strip::memory_bytes(channels, Room { rows: 0, ..room });
        let (now, most) = alive.entry((channels, room)).or_default();
        *now += 1;
        *most = (*most).max(*now);
        for map in plan.read_last_by(index) {
            let (now, _) = alive.entry(key(map)).or_default();
            *now -= 1;
        }
    }
    let strips = alive
        .iter()
        .map(|((channels, room), (_, most))| most * Strip::memory_bytes(*channels, *room));
    (threads * strips.sum::<usize>() + above_bytes) as u64
}

impl Run<'_> {
    /// Takes waves until there are no more.
    fn work(&self) {
        let _stop_others = StopOthers(self);
        let mut hand = lock(&self.state).hands.pop().unwrap_or_default();
        let mut times = Times::new(self.plan.stages.len());
        loop {
            let wave = self.next.fetch_add(1, Ordering::Relaxed);
            if wave >= self.waves {
                break;
            }
            match self.wave(wave, &mut hand, &mut times) {
                Ok(Some(result)) => {
                    let started = Instant::now();
                    if let Err(error) = (self.write)(&result) {
                        return self.fail(error);
                    }
                    times.write += started.elapsed();
                    hand.give_back(result);
                }
                Ok(None) => return,
                Err(error) => return self.fail(error),
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

    /// Runs a wave through the network. None when another thread has failed.
    fn wave(
        &self,
        wave: usize,
        hand: &mut Hand,
        times: &mut Times,
    ) -> Result<Option<Strip>, UpscaleError> {
        let maps = &self.plan.maps;
        let mut strips: Vec<Option<Strip>> = maps.iter().map(|_| None).collect();
        for (index, stage) in self.plan.stages.iter().enumerate() {
            if !self.is_turn(index, wave) {
                return Ok(None);
            }
            let started = Instant::now();
            let map = stage.output;
            let mut output = hand.take(maps[map].shape.channels, self.rooms[map]);
            self.make(stage, wave, &strips, &mut output, &mut hand.scratch)?;
            self.leave_above(map, wave, &mut output);
            strips[map] = Some(output);
            for map in self.plan.read_last_by(index) {
                if let Some(strip) = strips[map].take() {
                    hand.give_back(strip);
                }
            }
            times.stages[index] += started.elapsed();
            self.done(index);
        }
        Ok(strips[self.plan.output].take())
    }

    /// Waits until the wave before is through with a stage; false when another thread has failed.
    fn is_turn(&self, stage: usize, wave: usize) -> bool {
        let mut state = lock(&self.state);
        while !state.failed && state.done[stage] < wave {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        !state.failed
    }

    fn done(&self, stage: usize) {
        lock(&self.state).done[stage] += 1;
        self.changed.notify_all();
    }

    fn make(
        &self,
        stage: &Stage,
        wave: usize,
        strips: &[Option<Strip>],
        output: &mut Strip,
        scratch: &mut Scratch,
    ) -> Result<(), UpscaleError> {
        let Part {
            column,
            height_px,
            margins,
        } = self.part;
        let map = &self.plan.maps[stage.output];
        let height_px = height_px * map.shape.scale;
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
                conv.run(made(stage.input), epilogue, output, scratch);
            }
            Kernel::Shuffle { scale } => shuffle(made(stage.input), *scale, output),
        }
        margins.exchange(column, self.plan, stage.output, wave, output);
        Ok(())
    }

    /// Gives a strip that has just been made the rows above it, and leaves those of the next wave.
    fn leave_above(&self, map: usize, wave: usize, strip: &mut Strip) {
        if strip.room().rows_above == 0 {
            return;
        }
        let mut kept = lock(&self.above[map]);
        strip.set_above((wave > 0).then_some(&**kept));
        strip.lower_end(&mut kept);
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
