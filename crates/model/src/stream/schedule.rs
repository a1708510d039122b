//! Who makes which strip when.
//!
//! Every thread takes the strip deepest in the network whose inputs are there and whose map has
//! room, makes it, and looks again. So a strip is used soon after it is made, while it is in the
//! cache, and threads never wait at a barrier. A strip's content depends on its inputs alone, so
//! the order changes no bit.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use wdsr_kernels::{Epilogue, STRIP_ROWS, Scratch, Strip, Window};

use super::columns::{Column, Margins};
use super::plan::{Kernel, Plan, Stage};
use super::{Spare, lock};
use crate::network::ValueShape;
use crate::upscale::UpscaleError;

/// The strips of a map that some stage still needs.
struct Alive {
    /// Index of the first of them.
    first: usize,
    /// `None` while a strip is being made.
    strips: VecDeque<Option<Arc<Strip>>>,
}

struct State {
    alive: Vec<Alive>,
    /// The strip that each stage makes next.
    next: Vec<usize>,
    /// The strip of the result to be written next.
    written: usize,
    spare: Spare,
    times: Times,
    /// A thread has failed or panicked: the others stop.
    failed: bool,
    /// Why, if it did not panic.
    error: Option<UpscaleError>,
}

/// Over all threads.
pub(super) struct Times {
    pub(super) stages: Vec<Duration>,
    /// Of handing the result over.
    pub(super) write: Duration,
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
    capacities: Vec<usize>,
    /// For each map what lies above and below the picture.
    zeros: Vec<Arc<Strip>>,
    read: &'a (dyn Fn(usize, &mut Strip) -> Result<(), UpscaleError> + Sync),
    write: &'a (dyn Fn(usize, &Strip) -> Result<(), UpscaleError> + Sync),
    state: Mutex<State>,
    changed: Condvar,
}

/// A strip to make.
struct Task {
    stage: usize,
    index: usize,
    inputs: Vec<Arc<Strip>>,
    /// What of `inputs` lies at `index`, for stages that read neighbours.
    centre: usize,
    term: Option<Arc<Strip>>,
    output: Strip,
}

enum Next {
    Make(Box<Task>),
    Write(usize, Arc<Strip>),
    Done,
}

/// How many strips of each map may be alive. Short networks get longer queues, so that all
/// threads find work.
pub(super) fn capacities(plan: &Plan) -> Vec<usize> {
    let more = rayon::current_num_threads() / plan.stages.len();
    plan.maps.iter().map(|map| map.capacity + more).collect()
}

pub(super) fn run(
    plan: &Plan,
    part: Part<'_>,
    read: &(dyn Fn(usize, &mut Strip) -> Result<(), UpscaleError> + Sync),
    write: &(dyn Fn(usize, &Strip) -> Result<(), UpscaleError> + Sync),
    spare: Spare,
) -> Result<(Times, Spare), UpscaleError> {
    let threads = rayon::current_num_threads();
    let run = Run {
        plan,
        part,
        capacities: capacities(plan),
        zeros: zeros(plan, &spare),
        read,
        write,
        state: Mutex::new(State {
            alive: plan
                .maps
                .iter()
                .map(|_| Alive {
                    first: 0,
                    strips: VecDeque::new(),
                })
                .collect(),
            next: vec![0; plan.stages.len()],
            written: 0,
            spare,
            times: Times {
                stages: vec![Duration::ZERO; plan.stages.len()],
                write: Duration::ZERO,
            },
            failed: false,
            error: None,
        }),
        changed: Condvar::new(),
    };
    rayon::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(|_| run.work());
        }
        run.work();
    });
    let state = run
        .state
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    match state.error {
        None => Ok((state.times, state.spare)),
        Some(error) => Err(error),
    }
}

/// The strip of zeros that lies above and below each map; maps of a shape share it.
fn zeros(plan: &Plan, spare: &Spare) -> Vec<Arc<Strip>> {
    let mut of_shape = HashMap::new();
    let zeros = plan.maps.iter().map(|map| {
        let ValueShape { channels, scale } = map.shape;
        let strip = of_shape
            .entry((channels, scale))
            .or_insert_with(|| Arc::new(Strip::new(channels, spare.room(scale))));
        Arc::clone(strip)
    });
    zeros.collect()
}

impl Run<'_> {
    /// Makes strips until the last one of the result is written.
    fn work(&self) {
        let _stop_others = StopOthers(self);
        let mut scratch = Scratch::default();
        loop {
            match self.next() {
                Next::Done => return,
                Next::Write(index, strip) => {
                    let started = Instant::now();
                    if let Err(error) = (self.write)(index, &strip) {
                        return self.fail(error);
                    }
                    let mut state = lock(&self.state);
                    state.times.write += started.elapsed();
                    state.spare.give_back(strip);
                }
                Next::Make(mut task) => {
                    let started = Instant::now();
                    if let Err(error) = self.make(&mut task, &mut scratch) {
                        return self.fail(error);
                    }
                    self.finish(*task, started.elapsed());
                }
            }
        }
    }

    /// Lets all threads stop; the first error stays.
    fn fail(&self, error: UpscaleError) {
        let mut state = lock(&self.state);
        state.failed = true;
        state.error.get_or_insert(error);
    }

    /// Waits for something to do.
    fn next(&self) -> Next {
        let mut state = lock(&self.state);
        loop {
            if state.failed || state.written == self.count(self.plan.output) {
                return Next::Done;
            }
            let written = state.written;
            if let Some(strip) = state.strip(self.plan.output, written) {
                state.written += 1;
                self.release(&mut state, self.plan.output);
                return Next::Write(written, strip);
            }
            let stages = (0..self.plan.stages.len()).rev();
            if let Some(task) = stages
                .into_iter()
                .find_map(|stage| self.begin(&mut state, stage))
            {
                return Next::Make(Box::new(task));
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }

    /// Strips of a map.
    fn count(&self, map: usize) -> usize {
        self.plan.maps[map].strips(self.part.height_px)
    }

    /// Takes on the next strip of a stage, if its inputs are there and its map has room.
    fn begin(&self, state: &mut State, stage_index: usize) -> Option<Task> {
        let stage = &self.plan.stages[stage_index];
        let (index, map) = (state.next[stage_index], stage.output);
        let alive = &state.alive[map];
        if index == self.count(map) || index >= alive.first + self.capacities[map] {
            return None;
        }
        let (inputs, centre) = match stage.input {
            Some(input) => {
                let reads = stage.reads(index, self.count(input));
                let centre = index.saturating_sub(reads.start);
                let inputs: Option<Vec<_>> = reads.map(|k| state.strip(input, k)).collect();
                (inputs?, centre)
            }
            None => (Vec::new(), 0),
        };
        let term = match stage.term {
            Some(term) => Some(state.strip(term, index)?),
            None => None,
        };
        state.next[stage_index] += 1;
        state.alive[map].strips.push_back(None);
        for read in stage.input.iter().chain(&stage.term) {
            self.release(state, *read);
        }
        let output = state.spare.take(self.plan.maps[map].shape);
        Some(Task {
            stage: stage_index,
            index,
            inputs,
            centre,
            term,
            output,
        })
    }

    /// Drops the strips of a map that all its readers are past.
    fn release(&self, state: &mut State, map: usize) {
        let mut needed = if map == self.plan.output {
            state.written
        } else {
            usize::MAX
        };
        for &reader in &self.plan.maps[map].readers {
            let (stage, next) = (&self.plan.stages[reader], state.next[reader]);
            if stage.input == Some(map) {
                needed = needed.min(stage.reads(next, self.count(map)).start);
            }
            if stage.term == Some(map) {
                needed = needed.min(next);
            }
        }
        let alive = &mut state.alive[map];
        while alive.first < needed {
            match alive.strips.pop_front() {
                Some(Some(strip)) => {
                    alive.first += 1;
                    state.spare.give_back(strip);
                }
                Some(None) => unreachable!("strip {} is read before it is made", alive.first),
                None => return,
            }
        }
    }

    fn make(&self, task: &mut Task, scratch: &mut Scratch) -> Result<(), UpscaleError> {
        let stage: &Stage = &self.plan.stages[task.stage];
        let map = stage.output;
        let Part {
            column,
            height_px,
            margins,
        } = self.part;
        let rows = height_px * self.plan.maps[map].shape.scale - task.index * STRIP_ROWS;
        let output = &mut task.output;
        output.place(column.of(&self.plan.maps[map]), rows.min(STRIP_ROWS));
        match &stage.kernel {
            Kernel::Read => (self.read)(task.index, output)?,
            Kernel::Pair(pair) => pair.run(&task.inputs[0], output, scratch),
            Kernel::Conv { conv, relu, .. } => {
                let input = stage.input.unwrap_or(0);
                let at = |place: Option<usize>| {
                    let strip = place.and_then(|place| task.inputs.get(place));
                    &**strip.unwrap_or(&self.zeros[input])
                };
                let window = Window {
                    above: at(task.centre.checked_sub(1)),
                    centre: at(Some(task.centre)),
                    below: at(Some(task.centre + 1)),
                };
                let epilogue = match &task.term {
                    Some(term) => Epilogue::Add(&**term),
                    None if *relu => Epilogue::Relu,
                    None => Epilogue::Store,
                };
                conv.run(window, epilogue, output, scratch);
            }
            Kernel::Shuffle { scale } => shuffle(&task.inputs[0], *scale, task.index, output),
        }
        margins.exchange(column, self.plan, map, task.index, output);
        Ok(())
    }

    fn finish(&self, task: Task, time: Duration) {
        let map = self.plan.stages[task.stage].output;
        let mut state = lock(&self.state);
        state.times.stages[task.stage] += time;
        let alive = &mut state.alive[map];
        let place = task.index - alive.first;
        alive.strips[place] = Some(Arc::new(task.output));
        for strip in task.inputs.into_iter().chain(task.term) {
            state.spare.give_back(strip);
        }
        drop(state);
        self.changed.notify_all();
    }
}

impl State {
    /// Strip `k` of a map, if it is there.
    fn strip(&self, map: usize, k: usize) -> Option<Arc<Strip>> {
        let alive = &self.alive[map];
        alive.strips.get(k - alive.first)?.clone()
    }
}

/// Pixel shuffle of the rows of a strip that strip `index` of the larger map takes.
fn shuffle(input: &Strip, scale: usize, index: usize, output: &mut Strip) {
    if output.columns().is_empty() {
        return;
    }
    for channel in 0..output.channels() {
        for y in 0..output.rows() {
            let large_y = index % scale * STRIP_ROWS + y;
            let (from_y, dy) = (large_y / scale, large_y % scale);
            for dx in 0..scale {
                let from = input.row((channel * scale + dy) * scale + dx, from_y);
                let to = output.row_mut(channel, y)[dx..].iter_mut().step_by(scale);
                for (to, from) in to.zip(from) {
                    *to = *from;
                }
            }
        }
    }
}

/// Lets the other threads stop when this one panics or fails.
struct StopOthers<'r, 'a>(&'r Run<'a>);

impl Drop for StopOthers<'_, '_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            lock(&self.0.state).failed = true;
        }
        self.0.changed.notify_all();
    }
}
