//! The report and the events of a training that is rolled back and resumed.

use std::path::{Path, PathBuf};

use wdsr_image::{Colour, Format, Image, Samples, encode};
use wdsr_study::{Error, TrainingReporter};
use wdsr_train::{DataFolder, Recipe, Trainer};

/// The rate explodes after update 12, and a rollback makes up for it.
const RECIPE: &str = "
[network]
features = 4
blocks = 1
[training]
updates = 30
batch = 2
patch_px = 12
rollback_factor = 1e-30
[schedule]
milestones = [12]
factor = 1e30
[validation]
every_updates = 10
images = 1
";

fn trainer(root: &Path, resume: bool) -> Trainer {
    let data = root.join("data");
    std::fs::create_dir_all(&data).expect("a folder");
    for at in 0..2 {
        let samples = (0..3 * 40 * 40).map(|i| ((i * i + 7 * i + at) % 251) as u8);
        let image = Image::new(40, 40, Colour::Rgb, Samples::U8(samples.collect()));
        let path = data.join(format!("{at}.png"));
        encode(&image, &path, Format::Png).expect("written");
    }
    let mut recipe = Recipe::parse(RECIPE, None).expect("a recipe");
    recipe.data.folders.push(DataFolder {
        path: data,
        weight: None,
    });
    let out = root.join("out");
    Trainer::prepare(recipe, &out, resume, u64::MAX, &|_, _| {}).expect("a training")
}

/// The event files of a folder.
fn event_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let is_event = |path: &PathBuf| path.to_string_lossy().contains("tfevents");
    paths.filter(is_event).collect()
}

/// The steps of an event file; records are length, checksum, message, checksum.
fn steps(bytes: &[u8]) -> Vec<u8> {
    let mut steps = Vec::new();
    let mut rest = bytes;
    while let Some((length, after)) = rest.split_first_chunk::<8>() {
        let length = u64::from_le_bytes(*length) as usize;
        let message = &after[4..4 + length];
        // A double (9 bytes), then field 2: the step of a summary.
        if message[9] == 2 << 3 {
            steps.push(message[10]);
        }
        rest = &after[4 + length + 4..];
    }
    steps
}

#[test]
fn events_and_report_follow_rollbacks_and_resumed_runs() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut first = trainer(folder.path(), false);
    let mut reporter = TrainingReporter::new(&first).expect("a reporter");
    let mut rollbacks = 0;
    first
        .run(|event| {
            rollbacks += u32::from(matches!(event, wdsr_train::Event::RolledBack { .. }));
            reporter.observe(&event)
        })
        .expect("trained");
    assert_eq!(rollbacks, 1);
    let out = folder.path().join("out");
    let events = || {
        let files = event_files(&out);
        assert_eq!(files.len(), 1, "{files:?}");
        std::fs::read(&files[0]).expect("read")
    };
    assert_eq!(steps(&events()), [10, 20, 30]);
    let report = std::fs::read_to_string(out.join(wdsr_study::REPORT)).expect("a report");
    assert!(report.contains("30 of 30 updates"), "{report}");
    // One validation image in four versions.
    assert_eq!(report.matches("data:image/png;base64,").count(), 4);

    // A resumed run starts its event file with the metrics so far.
    drop(first);
    let before = events();
    let resumed = trainer(folder.path(), true);
    TrainingReporter::new(&resumed).expect("a reporter");
    assert_eq!(events(), before);
}

#[test]
fn training_stops_if_a_report_cannot_be_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut trainer = trainer(folder.path(), false);
    let mut reporter = TrainingReporter::new(&trainer).expect("a reporter");
    // A folder cannot be replaced by a file.
    std::fs::create_dir_all(folder.path().join("out").join(wdsr_study::REPORT).join("x"))
        .expect("a folder");
    let result: Result<(), Error> = trainer.run(|event| reporter.observe(&event));
    let error = result.expect_err("stopped").to_string();
    assert!(error.contains("report.html"), "{error}");
}
