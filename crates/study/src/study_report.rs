//! The report of a study: Markdown, HTML and JSON from the same figures.

use std::fmt::Write;
use std::path::Path;

use serde_json::json;
use wdsr_model::Precision;

use crate::error::Error;
use crate::kind::StudyKind;
use crate::page::{escape, grouped, page, table};
use crate::plot::{Plot, Series};
use crate::results::{Decibels, JSON_REPORT, JudgedStatement, Outcome, Results, Verdict, mean};
use crate::study::Study;
use crate::table::{Configuration, PUBLISHED_UPDATES, count_of_blocks};

const MARKDOWN_REPORT: &str = "report.md";
const HTML_REPORT: &str = "report.html";
/// Names of the reports of a study.
pub const STUDY_REPORTS: [&str; 3] = [MARKDOWN_REPORT, HTML_REPORT, JSON_REPORT];

/// The outcomes of a configuration.
struct Row<'s> {
    configuration: &'s Configuration,
    /// PSNR with each seed that finished.
    psnr_db: Vec<f64>,
    diverged: usize,
    open: usize,
    seconds: f64,
}

impl Row<'_> {
    fn spread(&self) -> Option<(f64, f64)> {
        let low = self.psnr_db.iter().copied().reduce(f64::min)?;
        let high = self.psnr_db.iter().copied().reduce(f64::max)?;
        Some((low, high))
    }

    /// Mean and range, such as `33.412 (33.401 to 33.420)`, and the number of other outcomes.
    fn psnr(&self) -> String {
        let mut parts = Vec::new();
        if let (Some(mean), Some((low, high))) = (mean(&self.psnr_db), self.spread()) {
            parts.push(match self.psnr_db.len() {
                1 => format!("{mean:.3}"),
                _ => format!("{mean:.3} ({low:.3} to {high:.3})"),
            });
        }
        if self.diverged > 0 {
            parts.push(format!("{} diverged", self.diverged));
        }
        if self.open > 0 {
            parts.push(format!("{} not finished", self.open));
        }
        parts.join(", ")
    }
}

impl Study {
    /// Writes `report.md`, `report.html` and `report.json` into the folder of the study, from its
    /// finished runs.
    ///
    /// # Errors
    /// If a run has other settings than the study, or a file cannot be read or written.
    pub fn write_report(&self, folder: &Path) -> Result<Results, Error> {
        let results = self.results(folder)?;
        for (name, text) in [
            (MARKDOWN_REPORT, self.markdown(&results)),
            (HTML_REPORT, self.html(&results)),
            (JSON_REPORT, self.json(&results)),
        ] {
            wdsr_image::write_atomically(&folder.join(name), text.as_bytes())?;
        }
        Ok(results)
    }

    fn rows(&self, results: &Results) -> Vec<Row<'_>> {
        let row = |(configuration, outcomes): (_, &Vec<Outcome>)| {
            let mut row = Row {
                configuration,
                psnr_db: Vec::new(),
                diverged: 0,
                open: 0,
                seconds: 0.0,
            };
            for outcome in outcomes {
                match *outcome {
                    Outcome::Finished {
                        psnr_db, seconds, ..
                    } => {
                        row.psnr_db.push(psnr_db);
                        row.seconds += seconds;
                    }
                    Outcome::Diverged { .. } => row.diverged += 1,
                    Outcome::Open { .. } => row.open += 1,
                }
            }
            row
        };
        let outcomes = results.outcomes.iter();
        self.configurations.iter().zip(outcomes).map(row).collect()
    }

    fn title(&self) -> &'static str {
        match self.kind {
            StudyKind::Depth => "Study: EDSR, WDSR-A and WDSR-B by depth",
            StudyKind::Norm => "Study: normalisation and learning rate",
            StudyKind::Width => "Study: width of the activation at equal parameters",
            StudyKind::Gains => "Study: optional training methods on the same network",
        }
    }

    /// The settings of the runs, compared to the published budget.
    fn budget(&self, results: &Results) -> String {
        let o = &self.options;
        let share = 100.0 * o.updates as f64 / PUBLISHED_UPDATES as f64;
        let decimals = if share < 1.0 { 2 } else { 0 };
        let seeds = match o.seeds {
            1 => "one seed, so differences cannot be compared with a spread".to_owned(),
            seeds => format!("{seeds} seeds"),
        };
        let bicubic = results.outcomes.iter().flatten().find_map(|o| match o {
            Outcome::Finished {
                bicubic_psnr_db, ..
            } => Some(format!(" Bicubic interpolation: {bicubic_psnr_db:.3} dB.")),
            _ => None,
        });
        format!(
            "Each run: {} updates of {} patches of {} x {} low-resolution pixels ({share:.decimals$}% \
             of the published {} updates), {}, {}; {seeds}. PSNR of the last model, {}.{}",
            grouped(o.updates as usize),
            o.batch,
            o.patch_px,
            o.patch_px,
            grouped(PUBLISHED_UPDATES as usize),
            match self.kind {
                StudyKind::Gains => "Adam, cosine after a warm-up",
                _ => "L1, Adam, the rate halved after 4/5",
            },
            match o.precision {
                Precision::F32 => "arithmetic in f32",
                Precision::Bf16 => "products in bf16, weights and sums in f32",
                Precision::Int8 => unreachable!("a training in int8"),
            },
            o.validation.protocol.describe(2),
            bicubic.unwrap_or_default()
        )
    }

    /// Header and cells of the table of configurations; the first column is text.
    fn table(&self, results: &Results) -> (Vec<&'static str>, Vec<Vec<String>>) {
        let rows = self.rows(results);
        let published = rows.iter().any(|row| row.configuration.published.is_some());
        let mut head = vec![
            "network",
            "features",
            "rate",
            "parameters",
            "multiply-adds",
            "PSNR, dB",
        ];
        if published {
            head.extend(["published parameters", "published PSNR, dB"]);
        }
        head.push("hours");
        let cells = rows.iter().map(|row| {
            let c = row.configuration;
            let mut cells = vec![
                c.name.clone(),
                c.recipe.network.features.to_string(),
                format!("{:.0e}", c.recipe.schedule.learning_rate),
                grouped(c.parameters()),
                format!("{:.1} G", c.multiply_adds() as f64 / 1e9),
                row.psnr(),
            ];
            if published {
                let agree = match c.parameters_match() {
                    Some(true) => "matches",
                    Some(false) => "DIFFERS",
                    None => "",
                };
                let figures = c.published.map_or([String::new(), String::new()], |p| {
                    [
                        format!("{:.2} M, {agree}", p.parameters_millions),
                        format!("{:.3}", p.psnr_db),
                    ]
                });
                cells.extend(figures);
            }
            cells.push(format!("{:.2}", row.seconds / 3600.0));
            cells
        });
        (head, cells.collect())
    }

    fn markdown(&self, results: &Results) -> String {
        let (head, rows) = self.table(results);
        let mut text = format!("# {}\n\n{}\n\n", self.title(), self.budget(results));
        text += "## What held at this budget\n\n";
        for judged in &results.statements {
            let _ = writeln!(
                text,
                "- **{}**: {}",
                label(judged.verdict),
                sentence(judged)
            );
        }
        let _ = writeln!(text, "\n{}\n\n## Figures\n", self.comparison());
        let line = |cells: Vec<&str>| format!("| {} |\n", cells.join(" | "));
        let rule = head.iter().map(|_| "---").collect();
        text += &line(head);
        text += &line(rule);
        for cells in &rows {
            text += &line(cells.iter().map(String::as_str).collect());
        }
        text
    }

    fn html(&self, results: &Results) -> String {
        let (head, rows) = self.table(results);
        let mut body = format!(
            "<h1>{}</h1>\n<p class=\"lead\">{}</p>\n<h2>What held at this budget</h2>\n",
            escape(self.title()),
            escape(&self.budget(results))
        );
        let statements: Vec<Vec<String>> = results
            .statements
            .iter()
            .map(|judged| vec![label(judged.verdict).to_owned(), sentence(judged)])
            .collect();
        if !statements.is_empty() {
            body += &table(&[], &statements, usize::MAX);
        }
        let _ = writeln!(body, "<p class=\"lead\">{}</p>", escape(self.comparison()));
        body += "<h2>Plots</h2>\n<div class=\"plots\">\n";
        // The configurations of `gains` have no order on an axis.
        if self.kind != StudyKind::Gains {
            body += &self.plot_of_points(results).to_svg();
        }
        for plot in self.plots_of_courses(results) {
            body += &plot.to_svg();
        }
        body += "</div>\n<h2>Figures</h2>\n";
        body += &table(&head, &rows, 1);
        page(self.title(), &body)
    }

    /// How the verdicts are made.
    fn comparison(&self) -> &'static str {
        if self.statements.is_empty() {
            "No statement was published about these configurations alone."
        } else {
            COMPARISON
        }
    }

    /// PSNR over the variable of the study, with the spread over seeds.
    fn plot_of_points(&self, results: &Results) -> Plot {
        let mut series: Vec<Series> = Vec::new();
        for row in self.rows(results) {
            let (Some(mean), Some(spread)) = (mean(&row.psnr_db), row.spread()) else {
                continue;
            };
            let (name, x) = (&row.configuration.group, row.configuration.x);
            // Learning rates are powers of ten.
            let x = if self.kind == StudyKind::Norm {
                x.log10()
            } else {
                x
            };
            let at = series.iter().position(|s| s.name == *name);
            let at = at.unwrap_or_else(|| {
                series.push(Series::new(name, Vec::new()));
                series.len() - 1
            });
            series[at].points.push((x, mean));
            series[at].spread.push(spread);
        }
        let x_label = match self.kind {
            StudyKind::Depth | StudyKind::Gains => "residual blocks",
            StudyKind::Norm => "learning rate, power of ten",
            StudyKind::Width => "expansion",
        };
        Plot {
            title: "PSNR, mean and range over seeds".to_owned(),
            x_label: x_label.to_owned(),
            y_label: "dB".to_owned(),
            series,
            log_y: false,
        }
    }

    /// PSNR over updates, the mean over the seeds that have the update: a plot for each value of the
    /// variable.
    fn plots_of_courses(&self, results: &Results) -> Vec<Plot> {
        let mut plots: Vec<(f64, Plot)> = Vec::new();
        for (c, by_seed) in self.configurations.iter().zip(&results.metrics) {
            let longest = by_seed.iter().max_by_key(|metrics| metrics.len());
            let updates = longest.into_iter().flatten().map(|m| m.update);
            let point = |update: u64| {
                let at = by_seed.iter().flatten().filter(|m| m.update == update);
                let values: Vec<f64> = at.filter_map(|m| m.psnr_db).collect();
                Some((update as f64, mean(&values)?))
            };
            let mut points: Vec<(f64, f64)> = updates.filter_map(point).collect();
            // The first validations are so low that they would flatten the rest.
            points.drain(..points.len() / 4);
            if points.is_empty() {
                continue;
            }
            let at = plots.iter().position(|(x, _)| *x == c.x);
            let at = at.unwrap_or_else(|| {
                let title = match self.kind {
                    StudyKind::Depth | StudyKind::Gains => count_of_blocks(c.recipe.network.blocks),
                    StudyKind::Norm => format!("learning rate {:.0e}", c.x),
                    StudyKind::Width => format!("expansion {}", c.x),
                };
                let plot = Plot {
                    title,
                    x_label: "updates".to_owned(),
                    y_label: "dB".to_owned(),
                    series: Vec::new(),
                    log_y: false,
                };
                plots.push((c.x, plot));
                plots.len() - 1
            });
            plots[at].1.series.push(Series::new(&c.group, points));
        }
        plots.into_iter().map(|(_, plot)| plot).collect()
    }

    fn json(&self, results: &Results) -> String {
        let o = &self.options;
        let rows: Vec<_> = self
            .rows(results)
            .iter()
            .zip(&results.outcomes)
            .map(|(row, outcomes)| {
                let c = row.configuration;
                json!({
                    "name": c.name,
                    "group": c.group,
                    "x": c.x,
                    "network": c.recipe.network,
                    "learning_rate": c.recipe.schedule.learning_rate,
                    "parameters": c.parameters(),
                    "multiply_adds_1280x720": c.multiply_adds(),
                    "published": c.published,
                    "published_parameters_agree": c.parameters_match(),
                    "outcomes_by_seed": outcomes,
                    "mean_psnr_db": mean(&row.psnr_db).map(Decibels),
                    "spread_psnr_db": row.spread().map(|(low, high)| [low, high].map(Decibels)),
                })
            })
            .collect();
        let report = json!({
            "study": self.kind,
            "updates": o.updates,
            "batch": o.batch,
            "patch_px": o.patch_px,
            "precision": o.precision.name(),
            "seeds": o.seeds,
            "protocol": o.validation.protocol,
            "statements": results.statements,
            "configurations": rows,
        });
        serde_json::to_string_pretty(&report)
            .unwrap_or_else(|e| unreachable!("figures are plain JSON: {e}"))
            + "\n"
    }
}

const COMPARISON: &str = "Two networks are compared seed by seed (a seed determines the order of the \
     patches). Held: better with every seed; not held: with none; undecided: with some, so the spread \
     over seeds is larger than the difference. Untrained: with some seed no network reached bicubic \
     interpolation, so there is no verdict; train with more updates.";

fn label(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Held => "Held",
        Verdict::NotHeld => "Not held",
        Verdict::Undecided => "Undecided",
        Verdict::Untrained => "Untrained: no verdict",
        Verdict::Open => "Open",
    }
}

/// A statement with its result, such as `WDSR-A beats EDSR at 1 block: +0.113 dB (+0.101 to +0.120);
/// published +0.113 dB (source)`.
fn sentence(judged: &JudgedStatement) -> String {
    let JudgedStatement {
        statement,
        differences_db,
        diverged,
        ..
    } = judged;
    let mut text = statement.text.clone();
    let mut found = Vec::new();
    if let Some(mean) = judged.mean_db() {
        let low = differences_db.iter().copied().fold(f64::MAX, f64::min);
        let high = differences_db.iter().copied().fold(f64::MIN, f64::max);
        found.push(match differences_db.len() {
            1 => format!("{mean:+.3} dB"),
            _ => format!("{mean:+.3} dB ({low:+.3} to {high:+.3})"),
        });
    }
    for (count, which) in diverged
        .iter()
        .zip([&statement.worse, &statement.better, "both"])
    {
        if *count > 0 {
            found.push(format!("{which} diverged with {count} seeds"));
        }
    }
    if judged.verdict == Verdict::Open {
        found.push("not all runs are finished".to_owned());
    }
    if !found.is_empty() {
        let _ = write!(text, ": {}", found.join(", "));
    }
    if let Some(published) = statement.published_db {
        let _ = write!(text, "; published {published:+.3} dB");
    }
    let _ = write!(text, " ({})", statement.source);
    text
}
