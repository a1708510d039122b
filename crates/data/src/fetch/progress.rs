/// Progress of [`fetch`](super::fetch).
#[derive(Clone, Copy, Debug)]
pub enum FetchProgress<'a> {
    /// A package is downloaded and unpacked.
    Downloading(&'a str),
    /// Images of a source are prepared.
    Preparing {
        /// The source.
        source: &'a str,
        /// Images done.
        done: usize,
        /// Images to prepare.
        total: usize,
    },
}
