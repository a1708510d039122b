//! Trainings of several ranks, as threads: the bits of one process.

use std::cell::Cell;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use super::tests::{DAMAGE, ignore, images};
use super::*;
use crate::recipe::DataFolder;

/// A rank whose processes are threads.
struct ThreadRank {
    rank: usize,
    /// To each rank, and from each.
    to: Vec<Sender<Vec<u8>>>,
    from: Vec<Receiver<Vec<u8>>>,
}

impl ThreadRank {
    fn all(count: usize) -> Vec<Self> {
        let mut ranks: Vec<Self> = (0..count)
            .map(|rank| Self {
                rank,
                to: Vec::new(),
                from: Vec::new(),
            })
            .collect();
        for from in 0..count {
            for to in 0..count {
                let (sender, receiver) = channel();
                ranks[from].to.push(sender);
                ranks[to].from.push(receiver);
            }
        }
        ranks
    }

    fn take(&self, from: usize, bytes: &mut [u8]) {
        let message = self.from[from].recv().expect("the other rank has ended");
        bytes.copy_from_slice(&message);
    }
}

impl Ranks for ThreadRank {
    fn rank(&self) -> usize {
        self.rank
    }

    fn count(&self) -> usize {
        self.to.len()
    }

    fn send(&self, bytes: &[u8]) {
        let sent = self.to[self.rank + 1].send(bytes.to_vec());
        sent.expect("the other rank has ended");
    }

    fn receive(&self, bytes: &mut [u8]) {
        self.take(self.rank - 1, bytes);
    }

    fn share(&self, from: usize, bytes: &mut [u8]) {
        if from != self.rank {
            return self.take(from, bytes);
        }
        for (_, to) in self.to.iter().enumerate().filter(|(to, _)| *to != from) {
            to.send(bytes.to_vec()).expect("the other rank has ended");
        }
    }
}

/// Runs a training of so many ranks in `out`; `ready` may change each trainer before it runs. Returns what each
/// rank ends with.
fn train(
    recipe: &Recipe,
    out: &Path,
    count: usize,
    resume: bool,
    ready: impl Fn(&mut Trainer) + Sync,
) -> Vec<Result<TrainingState, Error>> {
    let results = Mutex::new(Vec::from_iter((0..count).map(|_| None)));
    thread::scope(|scope| {
        for rank in ThreadRank::all(count) {
            let (ready, results) = (&ready, &results);
            scope.spawn(move || {
                let number = rank.rank;
                let trainer = Trainer::prepare_among(
                    Rc::new(rank),
                    recipe.clone(),
                    out,
                    resume,
                    u64::MAX,
                    &|_, _| {},
                );
                let result = trainer.and_then(|mut trainer| {
                    ready(&mut trainer);
                    trainer.run(ignore)?;
                    Ok(trainer.state.clone())
                });
                results.lock().expect("no panic")[number] = Some(result);
            });
        }
    });
    let results = results.into_inner().expect("no panic");
    results.into_iter().map(|r| r.expect("a result")).collect()
}

/// The state without what may differ: times, and what the first rank alone computes.
fn bits(mut state: TrainingState) -> TrainingState {
    (state.seconds, state.best_psnr_db) = (0.0, None);
    state
}

fn recipe(folder: &Path, text: &str) -> Recipe {
    let mut recipe = Recipe::parse(text, None).expect("a recipe");
    recipe.data.folders.push(DataFolder {
        path: images(folder),
        weight: None,
    });
    recipe
}

const WEIGHT: &str = "[network]\nfeatures = 4\nblocks = 1\n[training]\nupdates = 7\nbatch = 5\n\
    patch_px = 12\nleast_detail = 80.0\naverage_decay = 0.9\n[validation]\nevery_updates = 5\nimages = 1";

const BATCH: &str = "[network]\nfeatures = 4\nblocks = 1\nnorm = \"batch\"\n[training]\nupdates = 7\n\
    batch = 4\npatch_px = 12\n[validation]\nevery_updates = 5\nimages = 1";

#[test]
fn any_number_of_ranks_gives_the_bits_of_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let strength = DAMAGE
        .replace("updates = 40\nbatch = 2", "updates = 7\nbatch = 4")
        .replace("every_updates = 20", "every_updates = 5");
    for (name, text) in [
        ("weight", WEIGHT),
        ("batch", BATCH),
        ("strength", &strength),
    ] {
        let recipe = recipe(folder.path(), text);
        let out = |count: usize| folder.path().join(format!("{name}-{count}"));
        let mut alone =
            Trainer::prepare(recipe.clone(), &out(1), false, u64::MAX, &|_, _| {}).expect(name);
        alone.run(ignore).expect("trained");
        let expected = bits(alone.state.clone());
        let history: Vec<_> = alone
            .history()
            .iter()
            .map(|m| (m.loss, m.psnr_db))
            .collect();
        for count in 2..=4 {
            for (rank, state) in train(&recipe, &out(count), count, false, |_| {})
                .into_iter()
                .enumerate()
            {
                let state = bits(state.expect("trained"));
                assert!(state == expected, "{name}: rank {rank} of {count}");
            }
            let metrics = std::fs::read_to_string(out(count).join(METRICS)).expect("metrics");
            for ((loss, psnr_db), line) in history.iter().zip(metrics.lines()) {
                let line: Metrics = serde_json::from_str(line).expect("JSON");
                assert_eq!((line.loss, line.psnr_db), (*loss, *psnr_db));
            }
        }
    }
}

#[test]
fn a_run_is_resumed_by_another_number_of_ranks() {
    let folder = tempfile::tempdir().expect("a folder");
    let recipe = recipe(folder.path(), WEIGHT);
    let out = |name: &str| folder.path().join(name);
    let whole = train(&recipe, &out("whole"), 1, false, |_| {}).remove(0);
    // The first rank is asked to stop in its third update; the others are not.
    let stop = |trainer: &mut Trainer| {
        if trainer.ranks.rank() == 0 {
            let asked = Cell::new(0);
            trainer.stop_when(move || {
                asked.set(asked.get() + 1);
                asked.get() >= 3
            });
        }
    };
    for result in train(&recipe, &out("parts"), 3, false, stop) {
        let error = result.expect_err("stopped");
        assert!(matches!(error, Error::Stopped { update: 3, .. }), "{error}");
    }
    let end = train(&recipe, &out("parts"), 2, true, |trainer| {
        assert_eq!(trainer.updates(), 3);
    });
    let whole = bits(whole.expect("trained"));
    for (rank, state) in end.into_iter().enumerate() {
        let state = bits(state.expect("trained"));
        assert!(state == whole, "rank {rank}");
    }
}

#[test]
fn all_ranks_roll_back_together() {
    let folder = tempfile::tempdir().expect("a folder");
    let recipe = recipe(folder.path(), WEIGHT);
    let break_state = |trainer: &mut Trainer| trainer.state.parameters[0] = f32::NAN;
    let states = train(&recipe, &folder.path().join("out"), 2, false, break_state);
    let states: Vec<_> = states.into_iter().map(|s| s.expect("trained")).collect();
    assert_eq!(states[0].rollbacks, 1);
    assert!(states[0].is_finite());
    assert_eq!(states[0].parameters, states[1].parameters);
    assert_eq!(states[0].rolled_back_to, states[1].rolled_back_to);
}

#[test]
fn ranks_beyond_the_batch_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let recipe = recipe(folder.path(), BATCH);
    for result in train(&recipe, &folder.path().join("out"), 5, false, |_| {}) {
        let error = result.expect_err("too many").to_string();
        assert!(
            error.contains("5 processes cannot share a batch of 4 patches"),
            "{error}"
        );
    }
}

#[test]
fn another_recipe_of_a_rank_is_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    let mut ranks = ThreadRank::all(2);
    let (second, first) = (ranks.pop().expect("two"), ranks.pop().expect("two"));
    let prepare = |rank: ThreadRank, recipe: Recipe| {
        Trainer::prepare_among(Rc::new(rank), recipe, &out, false, u64::MAX, &|_, _| {}).map(|_| ())
    };
    let same = recipe(folder.path(), WEIGHT);
    let mut other = same.clone();
    other.training.seed = 2;
    thread::scope(|scope| {
        let first = scope.spawn(|| prepare(first, same));
        let error = prepare(second, other)
            .expect_err("another seed")
            .to_string();
        assert!(
            error.contains("the recipe of rank 1 is not that of rank 0"),
            "{error}"
        );
        drop(first.join());
    });
}
