//! The learning rate over the updates of a training.

use crate::recipe::{Schedule, ScheduleKind};

/// Learning rate of update `update` (from 0) out of `updates`.
///
/// A linear warm-up from 0 multiplies whichever schedule follows:
/// - constant: `learning_rate`
/// - cosine: from `learning_rate` down to `final_learning_rate` along half a cosine
/// - step: `learning_rate` times `factor` for each milestone passed
pub fn learning_rate(schedule: &Schedule, update: u64, updates: u64) -> f64 {
    let warm_up = if update < schedule.warm_up_updates {
        (update + 1) as f64 / schedule.warm_up_updates as f64
    } else {
        1.0
    };
    let rate = match schedule.kind {
        ScheduleKind::Constant => schedule.learning_rate,
        ScheduleKind::Cosine => {
            let progress = update as f64 / updates as f64;
            let (high, low) = (schedule.learning_rate, schedule.final_learning_rate);
            low + (high - low) * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
        }
        ScheduleKind::Step => {
            let passed = schedule.milestones.iter().filter(|m| update >= **m).count();
            schedule.learning_rate * schedule.factor.powi(passed as i32)
        }
    };
    rate * warm_up
}
