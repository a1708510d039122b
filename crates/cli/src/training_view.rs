//! What a person sees of a training: on a terminal a bar with the figures of the moment and a
//! line for each validation; elsewhere plain lines, one a minute at least.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar};
use wdsr_train::{Event, Recipe, Summary, Trainer};

use crate::progress::{self, print_line};

/// From one renewal of the bar's figures to the next.
const RENEW: Duration = Duration::from_secs(2);
/// Longest silence where there is no terminal.
const SILENCE: Duration = Duration::from_secs(60);

/// A view of one training.
pub(crate) struct TrainingView {
    bar: ProgressBar,
    updates: u64,
    batch: f64,
    /// Update, time and sum of losses since the figures were last shown.
    shown: (u64, Instant, f64),
    validation: String,
    terminal: bool,
}

impl TrainingView {
    /// Prints what a training found, and begins its view.
    pub(crate) fn new(trainer: &Trainer, recipe: &Recipe) -> Self {
        print_line(&found(trainer.summary(), recipe));
        if trainer.updates() > 0 {
            print_line(&format!("going on after update {}", trainer.updates()));
        }
        let updates = recipe.training.updates;
        let bar = progress::bar(
            updates,
            "[{bar:40}] {pos}/{len} updates, {eta} left\n{wide_msg}",
            false,
        );
        bar.set_position(trainer.updates());
        bar.reset_eta();
        Self {
            bar,
            updates,
            batch: recipe.training.batch as f64,
            shown: (trainer.updates(), Instant::now(), 0.0),
            validation: "no validation yet".to_owned(),
            terminal: std::io::stderr().is_terminal(),
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
                self.shown.2 += loss;
                let pause = if self.terminal { RENEW } else { SILENCE };
                if self.shown.1.elapsed() >= pause {
                    self.renew(update, learning_rate);
                }
            }
            Event::Validated {
                metrics: m,
                best_psnr_db,
            } => {
                self.validation = match (m.psnr_db, m.bicubic_psnr_db, best_psnr_db) {
                    (Some(psnr), Some(bicubic), Some(best)) => {
                        format!("validation {psnr:.3} dB (best {best:.3}, bicubic {bicubic:.3})")
                    }
                    _ => "no validation images".to_owned(),
                };
                let left = (self.updates - m.update) as f64 * self.batch / m.patches_per_second;
                let figures = format!(
                    "loss {:.5}  {}  learning rate {:.2e}  {:.0} patches/s",
                    m.loss, self.validation, m.learning_rate, m.patches_per_second
                );
                let left = HumanDuration(Duration::from_secs_f64(left));
                let (update, updates) = (m.update, self.updates);
                self.print(&format!(
                    "update {update}/{updates}  {figures}  {left} left"
                ));
                self.bar.set_message(figures);
                self.shown = (m.update, Instant::now(), 0.0);
            }
            Event::RolledBack {
                update,
                loss,
                to_update,
                learning_rate_factor,
            } => {
                self.print(&format!(
                    "the loss of update {update} is {loss}: going on from update {to_update} with \
                     {learning_rate_factor} times the schedule's learning rate"
                ));
                self.bar.set_position(to_update);
                self.shown = (to_update, Instant::now(), 0.0);
            }
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(self) {
        self.bar.finish_and_clear();
    }

    fn renew(&mut self, update: u64, learning_rate: f64) {
        let (since, at, sum) = self.shown;
        let updates = (update - since) as f64;
        let patches = updates * self.batch / at.elapsed().as_secs_f64();
        let loss = sum / updates;
        let figures = format!(
            "loss {loss:.5}  {}  learning rate {learning_rate:.2e}  {patches:.0} patches/s",
            self.validation
        );
        if self.terminal {
            self.bar.set_message(figures);
        } else {
            let left = (self.updates - update) as f64 * self.batch / patches;
            let left = HumanDuration(Duration::from_secs_f64(left));
            print_line(&format!(
                "update {update}/{}  {figures}  {left} left",
                self.updates
            ));
        }
        self.shown = (update, Instant::now(), 0.0);
    }

    fn print(&self, line: &str) {
        self.bar.suspend(|| print_line(line));
    }
}

fn found(summary: &Summary, recipe: &Recipe) -> String {
    let label = recipe.network.label();
    let mut text = format!(
        "{label}: {} images, {:.1} megapixels{}; {} for validation; {} too small",
        summary.training,
        summary.high_pixels as f64 / 1e6,
        if summary.in_file {
            ", in a temporary file"
        } else {
            ""
        },
        summary.validation,
        summary.too_small
    );
    if summary.precision != recipe.training.precision {
        text += &format!(
            "\nthe recipe asks for {}, which this processor has no arithmetic for; computing in {}",
            recipe.training.precision.name(),
            summary.precision.name()
        );
    }
    if let Some(taken) = &summary.taken {
        text += &format!("\nfrom the model, {taken}");
    }
    text
}
