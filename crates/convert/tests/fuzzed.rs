//! Golden and Keras checkpoints, truncated and changed at random, are read or refused without a panic
//! and within a multiple of the file's size. A binary of its own, because it measures memory.

use std::path::Path;
use std::sync::Mutex;

use peak_alloc::PeakAlloc;
use proptest::prelude::*;
use wdsr_convert::{Error, Imported, Options, import_bytes};
use wdsr_testing::golden;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Locked by the test whose memory is measured.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Memory allowed for each byte of the file: an instruction of one byte adds a value of 32 bytes and
/// its entry on the stack; vectors double when they grow, and are copied.
const BYTES_PER_BYTE: usize = 120;
/// Memory allowed in addition.
const BYTES: usize = 1 << 20;

fn files() -> Vec<(String, Vec<u8>)> {
    let (_, cases) = golden::checkpoints();
    let mut all: Vec<_> = cases
        .into_iter()
        .map(|case| (case.file, std::fs::read(&case.path).expect("readable")))
        .collect();
    for name in ["wdsr-a-x2.h5", "wdsr-b-x3.h5"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/data")
            .join(name);
        all.push((name.to_owned(), std::fs::read(path).expect("readable")));
    }
    all.sort();
    all
}

/// A change of a file of any length: places are fractions of it, half of them within the start,
/// where the pickles of the legacy container are.
#[derive(Clone, Debug)]
enum Change {
    Byte(f64, u8),
    Insert(f64, Vec<u8>),
    Remove(f64, usize),
    CutShort(f64),
}

fn change() -> impl Strategy<Value = Change> {
    let place = prop_oneof![0.0..1.0, 0.0..0.07];
    prop_oneof![
        6 => (place.clone(), any::<u8>()).prop_map(|(at, byte)| Change::Byte(at, byte)),
        2 => (place.clone(), prop::collection::vec(any::<u8>(), 1..20))
            .prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        2 => (place.clone(), 1_usize..20).prop_map(|(at, count)| Change::Remove(at, count)),
        1 => place.prop_map(Change::CutShort),
    ]
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    let place = |at: f64| (bytes.len() as f64 * at) as usize;
    match change {
        Change::Byte(at, byte) => {
            let at = place(*at);
            if let Some(place) = bytes.get_mut(at) {
                *place = *byte;
            }
        }
        Change::Insert(at, new) => {
            let at = place(*at);
            bytes.splice(at..at, new.iter().copied());
        }
        Change::Remove(at, count) => {
            let at = place(*at);
            bytes.drain(at..(at + count).min(bytes.len()));
        }
        Change::CutShort(at) => bytes.truncate(place(*at)),
    }
}

#[test]
fn changed_files_neither_panic_nor_take_memory() {
    let _alone = ONE_AT_A_TIME.lock();
    let files = files();
    let case = (0..files.len(), prop::collection::vec(change(), 0..4));
    let config = ProptestConfig {
        cases: 4000,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let result = runner.run(&case, |(file, changes)| {
        let (name, bytes) = &files[file];
        let mut bytes = bytes.clone();
        for change in &changes {
            apply(&mut bytes, change);
        }
        let (imported, taken) = measured(&bytes, Path::new(name));
        let allowed = BYTES + BYTES_PER_BYTE * bytes.len();
        prop_assert!(taken <= allowed, "{name}: {taken} bytes, allowed {allowed}");
        if let Err(error) = imported {
            prop_assert!(error.to_string().starts_with(name.as_str()), "{error}");
        }
        Ok(())
    });
    result.unwrap_or_else(|e| panic!("{e}"));
}

/// Legacy containers of the pickles with most values per byte.
#[test]
fn memory_follows_the_length_of_the_densest_pickles() {
    let _alone = ONE_AT_A_TIME.lock();
    for instructions in [
        &b")"[..],
        b"]",
        b"N",
        b"(",
        b")\x94",
        b"K\x00\x85",
        b"cm\nn\n",
    ] {
        let mut bytes = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.".to_vec();
        bytes.extend(b"\x80\x02M\xe9\x03.");
        bytes.extend(b"\x80\x02}.\x80\x02");
        bytes.extend(instructions.repeat(1_000_000));
        let (imported, taken) = measured(&bytes, Path::new("dense.pt"));
        let allowed = BYTES + BYTES_PER_BYTE * bytes.len();
        let shown = instructions.escape_ascii();
        assert!(imported.is_err(), "{shown} is read");
        assert!(
            taken <= allowed,
            "{shown}: {taken} bytes, allowed {allowed}"
        );
        assert!(
            taken > bytes.len() / 2,
            "{shown}: {taken} bytes is no measurement"
        );
    }
}

/// The result, and the most bytes that were allocated.
fn measured(bytes: &[u8], name: &Path) -> (Result<Imported, Error>, usize) {
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let imported = import_bytes(bytes, name, &Options::default());
    (imported, MEMORY.peak_usage().saturating_sub(before))
}
