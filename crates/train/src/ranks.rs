//! Processes that compute the batches of a training together.
//!
//! Each process, by its rank, computes consecutive patches of every batch. Sums go from rank to rank: each adds the
//! terms of its patches, one after the other, to the sum of the ranks before, and the last tells all. So every sum is
//! that of one process, bit for bit, however many there are. Sums go in pieces, so that ranks add at
//! the same time.

use std::ops::Range;

use bytemuck::Pod;

/// Bytes of a piece of a sum.
const PIECE_BYTES: usize = 1 << 16;

/// The processes of a training, seen from one of them. All call the same methods in the same order.
///
/// An implementation ends all processes if one of them is lost.
pub trait Ranks {
    /// The rank of this process, from 0.
    fn rank(&self) -> usize;

    /// The number of processes.
    fn count(&self) -> usize;

    /// Sends bytes to the rank after this one.
    fn send(&self, bytes: &[u8]);

    /// Receives bytes that the rank before this one sends, as many as it sends.
    fn receive(&self, bytes: &mut [u8]);

    /// Replaces the bytes by those of the rank `from`.
    fn share(&self, from: usize, bytes: &mut [u8]);
}

/// One process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Ranks for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn count(&self) -> usize {
        1
    }

    fn send(&self, _bytes: &[u8]) {
        unreachable!("no rank after the only one")
    }

    fn receive(&self, _bytes: &mut [u8]) {
        unreachable!("no rank before the only one")
    }

    fn share(&self, from: usize, _bytes: &mut [u8]) {
        assert_eq!(from, 0, "rank");
    }
}

/// The patches of a batch that a rank computes.
pub(crate) fn share_of_batch(ranks: &dyn Ranks, batch: usize) -> Range<usize> {
    let first = |rank: usize| rank * batch / ranks.count();
    first(ranks.rank())..first(ranks.rank() + 1)
}

/// Adds the terms of all ranks to `sums`, in the order of the ranks. `add` adds those of this rank to a range of the
/// sums.
pub(crate) fn sum<T: Pod>(
    ranks: &dyn Ranks,
    sums: &mut [T],
    mut add: impl FnMut(Range<usize>, &mut [T]),
) {
    let piece = (PIECE_BYTES / size_of::<T>()).max(1);
    let (rank, last) = (ranks.rank(), ranks.count() - 1);
    let mut start = 0;
    for sums in sums.chunks_mut(piece) {
        if rank > 0 {
            ranks.receive(bytemuck::cast_slice_mut(sums));
        }
        add(start..start + sums.len(), sums);
        if rank < last {
            ranks.send(bytemuck::cast_slice(sums));
        }
        start += sums.len();
    }
    ranks.share(last, bytemuck::cast_slice_mut(sums));
}

/// Waits until rank 0 is here.
pub(crate) fn wait_for_first(ranks: &dyn Ranks) {
    decided_by_first(ranks, false);
}

/// Waits until rank 0 is here, and returns what it decides.
pub(crate) fn decided_by_first(ranks: &dyn Ranks, decision: bool) -> bool {
    let mut byte = [u8::from(decision)];
    ranks.share(0, &mut byte);
    byte[0] != 0
}
