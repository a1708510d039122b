//! Thread pools.

use std::thread::available_parallelism;

use crate::progress;

/// Threads for each processor that may be asked for. More are no faster, and thousands take minutes.
const MAX_PER_PROCESSOR: usize = 16;

/// Runs work on a pool of `threads` threads, capped with a warning; 0 means one for each processor.
pub(crate) fn on_threads<T: Send>(
    threads: usize,
    work: impl FnOnce() -> T + Send,
) -> anyhow::Result<T> {
    let threads = capped(threads);
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .map_err(|e| anyhow::anyhow!("cannot start {threads} threads: {e}; use fewer (-j)"))?;
    Ok(pool.install(work))
}

/// The number of threads: that of `-j`, or else of RAYON_NUM_THREADS.
pub(crate) fn capped(threads: usize) -> usize {
    let of_variable = || std::env::var("RAYON_NUM_THREADS").ok()?.parse().ok();
    let requested = match threads {
        0 => of_variable().unwrap_or(0),
        threads => threads,
    };
    let most = MAX_PER_PROCESSOR * available_parallelism().map_or(1, usize::from);
    if requested > most {
        progress::note(&format!(
            "{requested} threads are more than {MAX_PER_PROCESSOR} for each processor; using {most}"
        ));
    }
    requested.min(most)
}
