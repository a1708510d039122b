//! The report of a training: one HTML file with plots and crops of validation images.

use std::fmt::Write;
use std::time::Duration;

use wdsr_model::Network;
use wdsr_train::{Metrics, Recipe};

use crate::crop::Crop;
use crate::page::{escape, grouped, page, table};
use crate::plot::{Plot, Series};

/// With a model above bicubic interpolation, the PSNR plot starts this far below bicubic.
const BELOW_BICUBIC_DB: f64 = 1.0;

/// The report of a training as far as its metrics go, as HTML.
pub(crate) fn training_report(recipe: &Recipe, history: &[Metrics], crops: &[Crop]) -> String {
    let label = recipe.network.label();
    let updates = recipe.training.updates;
    let done = history.last().map_or(0, |m| m.update);
    let mut body = format!(
        "<h1>{}</h1>\n<p class=\"lead\">Training by <code>wdsr train</code>: {done} of {updates} \
         updates.</p>\n",
        escape(&label)
    );
    body += &table(&[], &figures(recipe, history), 1);
    body += "<h2>Course</h2>\n<div class=\"plots\">\n";
    plots(history)
        .iter()
        .for_each(|plot| body += &plot.to_svg());
    body += "</div>\n";
    if !crops.is_empty() {
        body += "<h2>Validation images</h2>\n<p class=\"lead\">Where the error of bicubic \
                 interpolation is largest; PSNR of the crop, RGB.</p>\n";
        crops.iter().for_each(|crop| body += &crop.to_html());
    }
    let _ = writeln!(
        body,
        "<h2>Recipe</h2>\n<pre>{}</pre>",
        escape(recipe.to_toml().trim_end())
    );
    page(&format!("Training of {label}"), &body)
}

/// PSNR, loss, learning rate and speed over the updates.
fn plots(history: &[Metrics]) -> [Plot; 4] {
    let over = |value: &dyn Fn(&Metrics) -> Option<f64>| -> Vec<(f64, f64)> {
        let point = |m: &Metrics| Some((m.update as f64, value(m)?));
        history.iter().filter_map(point).collect()
    };
    let plot = |title: &str, y_label: &str, series| Plot {
        title: title.to_owned(),
        x_label: "updates".to_owned(),
        y_label: y_label.to_owned(),
        series,
        log_y: false,
    };
    let mut psnr = over(&|m| m.psnr_db);
    let mut title = "PSNR on the validation images".to_owned();
    let last = history.last();
    if let Some((psnr_db, bicubic_db)) = last.and_then(|m| m.psnr_db.zip(m.bicubic_psnr_db))
        && psnr_db > bicubic_db
    {
        // The first validations are so low that they would flatten the rest.
        let low = bicubic_db - BELOW_BICUBIC_DB;
        let all = psnr.len();
        psnr.retain(|point| point.1 >= low);
        if psnr.len() < all {
            title += &format!(", from {low:.1} dB");
        }
    }
    let bicubic = Series {
        reference: true,
        ..Series::new("bicubic", over(&|m| m.bicubic_psnr_db))
    };
    let losses = Series::new("loss", over(&|m| Some(m.loss)));
    let rates = Series::new("rate", over(&|m| Some(m.learning_rate)));
    let speeds = Series::new("speed", over(&|m| Some(m.patches_per_second)));
    [
        plot(&title, "dB", vec![Series::new("model", psnr), bicubic]),
        Plot {
            log_y: true,
            ..plot("Loss, mean between validations", "loss", vec![losses])
        },
        Plot {
            log_y: true,
            ..plot("Learning rate", "learning rate", vec![rates])
        },
        plot("Speed", "patches/s", vec![speeds]),
    ]
}

fn figures(recipe: &Recipe, history: &[Metrics]) -> Vec<Vec<String>> {
    let network = Network::new(&recipe.network);
    let row = |what: &str, value: String| vec![what.to_owned(), value];
    let mut rows = vec![
        row("parameters", grouped(network.parameters())),
        row(
            "multiply-adds for 1280 x 720 out",
            format!("{:.2} G", network.multiply_adds(1280, 720) as f64 / 1e9),
        ),
    ];
    let Some(last) = history.last() else {
        return rows;
    };
    let protocol = recipe.validation.protocol.describe(recipe.network.scale);
    if let (Some(psnr), Some(bicubic)) = (last.psnr_db, last.bicubic_psnr_db) {
        let scored = history.iter().filter(|m| m.psnr_db.is_some());
        let best = scored.max_by(|a, b| {
            a.psnr_db
                .partial_cmp(&b.psnr_db)
                .unwrap_or(std::cmp::Ordering::Equal)
        });
        rows.push(row("validation, last", format!("{psnr:.3} dB")));
        if let Some((at, best)) = best.and_then(|m| Some((m.update, m.psnr_db?))) {
            rows.push(row(
                "validation, best",
                format!("{best:.3} dB after {at} updates"),
            ));
        }
        rows.push(row("bicubic on the same", format!("{bicubic:.3} dB")));
        rows.push(row("protocol", protocol));
    }
    let spent = Duration::from_secs(last.seconds as u64);
    let (hours, minutes) = (spent.as_secs() / 3600, spent.as_secs() / 60 % 60);
    rows.push(row(
        "time spent on updates",
        format!("{hours} h {minutes} min"),
    ));
    rows
}
