/// Momentum of PyTorch's `BatchNorm2d`.
pub const BATCH_NORM_MOMENTUM: f32 = 0.1;

/// Running statistics of a batch normalisation, per channel.
#[derive(Clone, Debug, PartialEq)]
pub struct RunningStatistics {
    /// Mean over past batches.
    pub mean: Vec<f32>,
    /// Unbiased variance over past batches.
    pub variance: Vec<f32>,
}

impl RunningStatistics {
    /// The initial statistics: mean 0, variance 1.
    pub fn new(channels: usize) -> Self {
        Self {
            mean: vec![0.0; channels],
            variance: vec![1.0; channels],
        }
    }

    /// Moves the statistics towards those of a batch of `count` pixels, `variance` being biased.
    pub fn update(&mut self, mean: &[f32], variance: &[f32], count: usize) {
        let unbias = count as f32 / (count as f32 - 1.0).max(1.0);
        for (running, new) in self.mean.iter_mut().zip(mean) {
            *running += BATCH_NORM_MOMENTUM * (new - *running);
        }
        for (running, new) in self.variance.iter_mut().zip(variance) {
            *running += BATCH_NORM_MOMENTUM * (new * unbias - *running);
        }
    }
}
