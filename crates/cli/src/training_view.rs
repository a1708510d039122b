//! The progress of a training: on a terminal a bar and a line for each validation, elsewhere plain
//! lines, at least one a minute.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar};
use wdsr_train::dataset::{Cutting, ImageShift};
use wdsr_train::{Event, Metrics, Shifts, Trainer};

use crate::progress::{self, print_line};

/// Interval between updates of the bar's text.
const BAR_INTERVAL: Duration = Duration::from_secs(2);
/// Maximum interval between lines without a terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(60);

/// The view of a training.
pub(crate) struct TrainingView {
    bar: ProgressBar,
    updates: u64,
    batch: f64,
    interval: Interval,
    validation: String,
    is_terminal: bool,
}

/// The updates since figures were last shown.
struct Interval {
    first_update: u64,
    started: Instant,
    losses: f64,
}

impl Interval {
    fn new(first_update: u64) -> Self {
        Self {
            first_update,
            started: Instant::now(),
            losses: 0.0,
        }
    }
}

impl TrainingView {
    /// Prints the summary of a training and starts its view.
    pub(crate) fn new(trainer: &Trainer) -> Self {
        print_line(&summary(trainer));
        if trainer.updates() > 0 {
            print_line(&format!("resuming after update {}", trainer.updates()));
        }
        let training = &trainer.recipe().training;
        let bar = progress::bar(
            training.updates,
            "[{bar:40}] {pos}/{len} updates, {eta} left\n{wide_msg}",
            false,
        );
        bar.set_position(trainer.updates());
        bar.reset_eta();
        Self {
            bar,
            updates: training.updates,
            batch: training.batch as f64,
            interval: Interval::new(trainer.updates()),
            validation: "no validation yet".to_owned(),
            is_terminal: std::io::stderr().is_terminal(),
        }
    }

    /// Shows an event.
    pub(crate) fn show(&mut self, event: &Event<'_>) {
        match *event {
            Event::Update {
                update,
                loss,
                learning_rate,
            } => {
                self.bar.set_position(update);
                self.interval.losses += loss;
                let interval = if self.is_terminal {
                    BAR_INTERVAL
                } else {
                    LINE_INTERVAL
                };
                if self.interval.started.elapsed() >= interval {
                    self.show_updates(update, learning_rate);
                }
            }
            Event::ValidationImage { .. } => {}
            Event::Validated {
                metrics,
                best_psnr_db,
                ..
            } => self.show_validation(metrics, best_psnr_db),
            Event::RolledBack {
                update,
                loss,
                to_update,
                learning_rate_factor,
                ..
            } => {
                self.print(&format!(
                    "the loss of update {update} is {loss}: continuing from update {to_update} with \
                     {learning_rate_factor} times the schedule's learning rate"
                ));
                self.bar.set_position(to_update);
                self.interval = Interval::new(to_update);
            }
        }
    }

    /// Removes the bar.
    pub(crate) fn finish(self) {
        self.bar.finish_and_clear();
    }

    fn show_updates(&mut self, update: u64, learning_rate: f64) {
        let updates = (update - self.interval.first_update) as f64;
        let speed = updates * self.batch / self.interval.started.elapsed().as_secs_f64();
        let figures = [
            self.validation.clone(),
            format!("loss {:.5}", self.interval.losses / updates),
            format!("{speed:.0} patches/s"),
            format!("learning rate {learning_rate:.2e}"),
        ];
        if self.is_terminal {
            self.bar.set_message(figures.join("  "));
        } else {
            print_line(&self.line(update, figures, speed));
        }
        self.interval = Interval::new(update);
    }

    fn show_validation(&mut self, metrics: &Metrics, best_psnr_db: Option<f64>) {
        self.validation = match (metrics.psnr_db, metrics.bicubic_psnr_db, best_psnr_db) {
            (Some(psnr), Some(bicubic), Some(best)) => {
                format!("{psnr:.3} dB (best {best:.3}, bicubic {bicubic:.3})")
            }
            _ => "no validation images".to_owned(),
        };
        let speed = metrics.patches_per_second;
        let figures = [
            self.validation.clone(),
            format!("loss {:.5}", metrics.loss),
            format!("{speed:.0} patches/s"),
            format!("learning rate {:.2e}", metrics.learning_rate),
        ];
        self.bar.set_message(figures.join("  "));
        self.print(&self.line(metrics.update, figures, speed));
        self.interval = Interval::new(metrics.update);
    }

    /// A line of the figures and the time left, as far as they fit the terminal.
    fn line(&self, update: u64, figures: [String; 4], patches_per_second: f64) -> String {
        let seconds = (self.updates - update) as f64 * self.batch / patches_per_second;
        let left = HumanDuration(Duration::try_from_secs_f64(seconds).unwrap_or_default());
        let mut parts = vec![format!("update {update}/{}", self.updates)];
        parts.extend(figures);
        parts.push(format!("{left} left"));
        join_to_fit(&parts, terminal_width())
    }

    fn print(&self, line: &str) {
        self.bar.suspend(|| print_line(line));
    }
}

/// Columns of the terminal on standard output; none if it is not a terminal.
fn terminal_width() -> Option<usize> {
    let (width, _) = terminal_size::terminal_size_of(std::io::stdout())?;
    Some(usize::from(width.0))
}

/// Joins the first parts that fit the width; the first one in any case.
fn join_to_fit(parts: &[String], width: Option<usize>) -> String {
    let mut line = String::new();
    for part in parts {
        if line.is_empty() {
            line.push_str(part);
            continue;
        }
        let length = line.chars().count() + 2 + part.chars().count();
        if width.is_some_and(|width| length > width) {
            break;
        }
        line.push_str("  ");
        line.push_str(part);
    }
    line
}

fn summary(trainer: &Trainer) -> String {
    let (summary, recipe) = (trainer.summary(), trainer.recipe());
    let mut text = format!(
        "{}: {} images, {:.1} megapixels{}; {} for validation; {} too small",
        recipe.network.label(),
        summary.training_images,
        summary.high_pixels as f64 / 1e6,
        if summary.in_file {
            ", in a temporary file"
        } else {
            ""
        },
        summary.validation_images,
        summary.too_small
    );
    if recipe.data.validation.is_none() {
        text += &large_validation(summary.training_images, summary.validation_images);
    }
    text += &format!("\nlow-resolution images: {}", summary.low_images);
    if let Some(shifts) = &recipe.data.shifts {
        text += &describe_shifts(&summary.shifts, matches!(shifts, Shifts::Estimated(_)));
        if summary.not_aligned > 0 {
            text += &format!(
                "; {} pairs skipped, which could not be aligned",
                summary.not_aligned
            );
        }
    }
    let (wanted, precision) = (recipe.training.precision, summary.precision);
    if let (Some(device), Some(precision)) = (trainer.device_name(), trainer.device_precision()) {
        let patches = match trainer.device_cutting() {
            Some(Cutting::OnDevice) => "which has the images",
            _ => "with patches that the processor makes",
        };
        text += &format!("\ntraining in {} on {device}, {patches}", precision.name());
    } else if precision != wanted {
        text += &format!(
            "\nthis processor has no {} arithmetic, which the recipe asks for; training in {}",
            wanted.name(),
            precision.name()
        );
    }
    if let Some(start) = &summary.start {
        text += &format!("\nfrom the model: {start}");
    }
    text
}

/// A line about validation images that are more than a tenth of the images.
fn large_validation(training_images: usize, validation_images: usize) -> String {
    let images = training_images + validation_images;
    if validation_images * 10 <= images {
        return String::new();
    }
    format!(
        "\n{validation_images} of {images} images are kept for validation: set validation.images, or give \
         --validation FOLDER"
    )
}

/// The shifts of the low-resolution images; each of them if they are estimated.
fn describe_shifts(shifts: &[ImageShift], is_estimated: bool) -> String {
    let mut text = String::new();
    let mut lengths = Vec::new();
    for ImageShift { name, placement } in shifts {
        let [right, down] = placement.shift_px;
        lengths.push(right.hypot(down));
        if is_estimated {
            text += &format!("\n{name}: shift {right:+.2}, {down:+.2} px");
        }
    }
    lengths.sort_by(f64::total_cmp);
    let median = lengths.get(lengths.len() / 2).copied().unwrap_or_default();
    let largest = lengths.last().copied().unwrap_or_default();
    let kind = if is_estimated { "estimated" } else { "known" };
    text + &format!(
        "\n{} {kind} shifts corrected: median {median:.2} px, largest {largest:.2} px",
        shifts.len()
    )
}

#[cfg(test)]
mod tests {
    use super::{join_to_fit, large_validation};

    #[test]
    fn more_validation_images_than_a_tenth_are_said() {
        assert_eq!(large_validation(90, 10), "");
        assert_eq!(large_validation(5, 0), "");
        let line = large_validation(89, 10);
        assert!(line.contains("10 of 99 images are kept"), "{line}");
    }

    #[test]
    fn lines_fit_the_terminal() {
        let parts = [
            "update 250000/250000",
            "33.412 dB (best 33.412, bicubic 31.234)",
            "loss 0.01234",
            "812 patches/s",
            "learning rate 1.00e-3",
            "12 minutes left",
        ]
        .map(str::to_owned);
        for (width, count) in [
            (Some(200), 6),
            (None, 6),
            (Some(80), 3),
            (Some(61), 2),
            (Some(60), 1),
        ] {
            let line = join_to_fit(&parts, width);
            assert_eq!(line, parts[..count].join("  "), "{width:?}");
            assert!(width.is_none_or(|width| line.len() <= width), "{line}");
        }
        // A narrower terminal still shows the update.
        assert_eq!(join_to_fit(&parts, Some(5)), parts[0]);
    }
}
