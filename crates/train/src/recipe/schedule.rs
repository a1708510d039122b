//! The learning rate over the updates of a training.

use std::f64::consts::PI;

use super::{CoolDown, Decay, Schedule};

/// A one-cycle schedule starts at its highest rate divided by this (`OneCycleLR`'s `div_factor`).
const ONE_CYCLE_START_DIVISOR: f64 = 25.0;

/// Learning rate of update `update` (from 0) out of `updates`.
///
/// - constant: `learning_rate`, and in the cool-down `final_learning_rate` plus the rest of it times
///   1 - sqrt(progress)
/// - cosine: half a cosine from `learning_rate` down to `final_learning_rate`
/// - step: `learning_rate`, times `factor` for each milestone passed
/// - one-cycle: half a cosine from 1/25 of `learning_rate` up to it over the warm-up, then half a
///   cosine down to `final_learning_rate`
///
/// The first three are multiplied by a linear warm-up from 0.
pub(super) fn learning_rate(schedule: &Schedule, update: u64, updates: u64) -> f64 {
    let highest = schedule.learning_rate;
    let warm_up_updates = schedule.warm_up_updates;
    let warm_up = if update < warm_up_updates {
        (update + 1) as f64 / warm_up_updates as f64
    } else {
        1.0
    };
    match &schedule.decay {
        Decay::Constant { cool_down } => match cool_down {
            Some(cool_down) if update >= updates.saturating_sub(cool_down.updates) => {
                let CoolDown {
                    updates: length,
                    final_learning_rate: last,
                } = *cool_down;
                let done = update - updates.saturating_sub(length);
                let progress = (done + 1) as f64 / length as f64;
                last + (highest * warm_up - last) * (1.0 - progress.min(1.0).sqrt())
            }
            _ => highest * warm_up,
        },
        Decay::Cosine {
            final_learning_rate,
        } => {
            let progress = update as f64 / updates as f64;
            half_cosine(highest, *final_learning_rate, progress) * warm_up
        }
        Decay::Step { milestones, factor } => {
            let passed = milestones.iter().filter(|m| update >= **m).count();
            highest * factor.powi(passed as i32) * warm_up
        }
        Decay::OneCycle {
            final_learning_rate,
        } => {
            if update < warm_up_updates {
                let progress = update as f64 / warm_up_updates as f64;
                half_cosine(highest / ONE_CYCLE_START_DIVISOR, highest, progress)
            } else {
                let falling = (updates - warm_up_updates).max(1) as f64;
                let progress = (update - warm_up_updates) as f64 / falling;
                half_cosine(highest, *final_learning_rate, progress)
            }
        }
    }
}

/// Half a cosine from `first` at progress 0 to `last` at progress 1.
fn half_cosine(first: f64, last: f64, progress: f64) -> f64 {
    last + (first - last) * 0.5 * (1.0 + (PI * progress).cos())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(decay: Decay, warm_up_updates: u64) -> impl Fn(u64) -> f64 {
        let schedule = Schedule {
            learning_rate: 1e-3,
            warm_up_updates,
            decay,
        };
        move |update| learning_rate(&schedule, update, 1000)
    }

    fn close(found: f64, expected: f64) {
        assert!(
            (found - expected).abs() < 1e-9,
            "{found}, expected {expected}"
        );
    }

    #[test]
    fn constant_warms_up_linearly() {
        let rate = rates(Decay::Constant { cool_down: None }, 100);
        for (update, expected) in [(0, 1e-5), (49, 5e-4), (99, 1e-3), (100, 1e-3), (999, 1e-3)] {
            close(rate(update), expected);
        }
    }

    #[test]
    fn cool_down_falls_with_the_root_of_the_progress_to_the_final_rate() {
        let cool_down = Some(CoolDown {
            updates: 100,
            final_learning_rate: 1e-5,
        });
        let rate = rates(Decay::Constant { cool_down }, 0);
        for (update, expected) in [
            (0, 1e-3),
            (899, 1e-3),
            (900, 1e-5 + 9.9e-4 * 0.9),
            (924, 1e-5 + 9.9e-4 * 0.5),
            (999, 1e-5),
        ] {
            close(rate(update), expected);
        }
    }

    #[test]
    fn cosine_is_at_the_mean_half_way() {
        let rate = rates(
            Decay::Cosine {
                final_learning_rate: 1e-5,
            },
            0,
        );
        close(rate(0), 1e-3);
        close(rate(500), (1e-3 + 1e-5) / 2.0);
        close(rate(1000), 1e-5);
    }

    #[test]
    fn step_decays_at_its_milestones() {
        let rate = rates(
            Decay::Step {
                milestones: vec![400, 800],
                factor: 0.2,
            },
            0,
        );
        for (update, expected) in [(399, 1e-3), (400, 2e-4), (799, 2e-4), (800, 4e-5)] {
            close(rate(update), expected);
        }
    }

    #[test]
    fn one_cycle_rises_from_a_25th_and_falls_to_its_final_rate() {
        let rate = rates(
            Decay::OneCycle {
                final_learning_rate: 1e-6,
            },
            300,
        );
        close(rate(0), 4e-5);
        close(rate(150), (1e-3 + 4e-5) / 2.0);
        close(rate(300), 1e-3);
        close(rate(650), (1e-3 + 1e-6) / 2.0);
        close(rate(1000), 1e-6);
    }
}
