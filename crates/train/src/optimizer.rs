//! Adam (Kingma and Ba 2015, algorithm 1) and the moving average of the weights.

// Defaults of PyTorch's Adam, which all published recipes use.
/// Decay of the first moment.
pub const BETA_1: f32 = 0.9;
/// Decay of the second moment.
pub const BETA_2: f32 = 0.999;
/// Summand of the divisor.
pub const EPSILON: f32 = 1e-8;

/// Adam's moments, a pair for each parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct Adam {
    /// Moving average of the gradient.
    pub first_moment: Vec<f32>,
    /// Moving average of its square.
    pub second_moment: Vec<f32>,
    /// Updates done.
    pub updates: u64,
}

impl Adam {
    /// The moments before the first update.
    pub fn new(parameters: usize) -> Self {
        Self {
            first_moment: vec![0.0; parameters],
            second_moment: vec![0.0; parameters],
            updates: 0,
        }
    }

    /// Counts an update. Returns its learning rate, corrected for the first moment's start, and the root of the correction for
    /// the second moment's.
    pub(crate) fn start_update(&mut self, learning_rate: f64) -> (f32, f32) {
        self.updates += 1;
        let power = i32::try_from(self.updates).unwrap_or(i32::MAX);
        let correction_1 = 1.0 - f64::from(BETA_1).powi(power);
        let correction_2 = 1.0 - f64::from(BETA_2).powi(power);
        (
            (learning_rate / correction_1) as f32,
            correction_2.sqrt() as f32,
        )
    }

    /// Updates the parameters.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn update(&mut self, parameters: &mut [f32], gradient: &[f32], learning_rate: f64) {
        assert_eq!(parameters.len(), self.first_moment.len(), "parameters");
        assert_eq!(gradient.len(), parameters.len(), "gradient");
        let (step, root) = self.start_update(learning_rate);
        let moments = self.first_moment.iter_mut().zip(&mut self.second_moment);
        for ((value, gradient), (m, v)) in parameters.iter_mut().zip(gradient).zip(moments) {
            *m += (1.0 - BETA_1) * (gradient - *m);
            *v = BETA_2 * *v + (1.0 - BETA_2) * gradient * gradient;
            *value -= step * *m / (v.sqrt() / root + EPSILON);
        }
    }
}

/// Euclidean length of a gradient, summed in f64; not finite if an element is not.
pub fn length(gradient: &[f32]) -> f64 {
    let sum: f64 = gradient.iter().map(|v| f64::from(*v).powi(2)).sum();
    sum.sqrt()
}

/// Scales a gradient of the given length down to `max_length`; 0 turns clipping off (Pascanu et
/// al. 2013, algorithm 1).
pub fn clip(gradient: &mut [f32], length: f64, max_length: f64) {
    if max_length > 0.0 && length > max_length {
        let factor = (max_length / length) as f32;
        gradient.iter_mut().for_each(|v| *v *= factor);
    }
}

/// Moves an exponential moving average towards the parameters: `average = d average + (1 - d)
/// parameters`, where d grows from 0.1 to `decay` so that the initial weights are forgotten soon.
///
/// # Panics
/// If the lengths differ.
pub fn average(average: &mut [f32], parameters: &[f32], decay: f64, updates: u64) {
    assert_eq!(average.len(), parameters.len(), "averaged parameters");
    let share = average_share(decay, updates);
    for (average, value) in average.iter_mut().zip(parameters) {
        *average += share * (value - *average);
    }
}

/// The share of the parameters in their moving average, 1 - d.
pub(crate) fn average_share(decay: f64, updates: u64) -> f32 {
    1.0 - decay.min((1.0 + updates as f64) / (10.0 + updates as f64)) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clipping_keeps_the_direction() {
        let mut gradient = [3.0, -4.0];
        assert_eq!(length(&gradient), 5.0);
        clip(&mut gradient, 5.0, 0.0);
        clip(&mut gradient, 5.0, 6.0);
        assert_eq!(gradient, [3.0, -4.0]);
        clip(&mut gradient, 5.0, 2.5);
        assert_eq!(gradient, [1.5, -2.0]);
        assert!(!length(&[1.0, f32::NAN]).is_finite());
        assert!(!length(&[f32::INFINITY]).is_finite());
    }
}
