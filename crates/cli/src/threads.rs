//! Thread pools.

/// Runs work on a pool of `threads` threads; 0 means one for each processor.
pub(crate) fn on_threads<T: Send>(
    threads: usize,
    work: impl FnOnce() -> T + Send,
) -> anyhow::Result<T> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .map_err(|e| anyhow::anyhow!("cannot start {threads} threads: {e}; use fewer (-j)"))?;
    Ok(pool.install(work))
}
