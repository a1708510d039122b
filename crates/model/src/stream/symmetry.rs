//! The eight symmetries of the square, applied to a network instead of to an image.
//!
//! Running a network on a turned image and turning the result back is the same as running it
//! with turned kernels. So the self-ensemble (Timofte et al. 2016) is eight networks on the same
//! strips.

/// One of the eight symmetries: bit 0 mirrors left-right, bit 1 top-bottom, then bit 2
/// transposes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Symmetry(u8);

impl Symmetry {
    pub(super) const IDENTITY: Symmetry = Symmetry(0);

    pub(super) fn all() -> Vec<Symmetry> {
        (0..8).map(Symmetry).collect()
    }

    /// The new place of cell (y, x) of a square of `side` cells.
    fn place(self, y: usize, x: usize, side: usize) -> (usize, usize) {
        let x = if self.0 & 1 == 0 { x } else { side - 1 - x };
        let y = if self.0 & 2 == 0 { y } else { side - 1 - y };
        if self.0 & 4 == 0 { (y, x) } else { (x, y) }
    }

    /// The weight `[out, in, kernel, kernel]` of the network that computes on the image what the
    /// given one computes on the turned image.
    ///
    /// With `shuffle` the convolution's outputs become the `shuffle` x `shuffle` cells of larger
    /// pixels, which turn as well.
    pub(super) fn turn_weight(
        self,
        weight: &[f32],
        out_channels: usize,
        kernel: usize,
        shuffle: usize,
    ) -> Vec<f32> {
        let taps = kernel * kernel;
        let len = weight.len() / out_channels;
        let mut turned = Vec::with_capacity(weight.len());
        for o in 0..out_channels {
            let from = &weight[self.source_channel(o, shuffle) * len..][..len];
            for kernel_weights in from.chunks_exact(taps) {
                for tap in 0..taps {
                    let (y, x) = self.place(tap / kernel, tap % kernel, kernel);
                    turned.push(kernel_weights[y * kernel + x]);
                }
            }
        }
        turned
    }

    /// The bias, or the slopes, of the same convolution.
    pub(super) fn turn_bias(self, bias: &[f32], shuffle: usize) -> Vec<f32> {
        (0..bias.len())
            .map(|o| bias[self.source_channel(o, shuffle)])
            .collect()
    }

    fn source_channel(self, o: usize, shuffle: usize) -> usize {
        let cells = shuffle * shuffle;
        let (y, x) = self.place(o % cells / shuffle, o % shuffle, shuffle);
        o / cells * cells + y * shuffle + x
    }
}
