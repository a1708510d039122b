//! The report of a training: one HTML file with its plots and a strip of validation crops.

pub(crate) mod page;
mod plot;

use std::fmt::Write;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use wdsr_eval::{Channel, ImagePair, bicubic, psnr_db};
use wdsr_image::{Colour, Format, Image, Samples, encode_bytes};
use wdsr_model::Network;

use crate::recipe::Recipe;
use crate::trainer::Metrics;
use page::{escape, page, table};
pub use plot::{Plot, Series};

/// Side of a crop in low-resolution pixels.
const CROP_PX: usize = 48;
/// From one place considered for a crop to the next, in low-resolution pixels.
const CROP_STEP_PX: usize = 24;

/// How far below bicubic interpolation the plot of a training begins that has passed it.
const BELOW_BICUBIC_DB: f64 = 1.0;

/// A square of a validation image, upscaled in several ways.
pub struct Crop {
    name: String,
    /// Caption, PSNR against the original (RGB), PNG.
    images: [(&'static str, Option<f64>, Vec<u8>); 4],
}

impl Crop {
    /// Where bicubic interpolation errs most. `made` is the image as the model upscaled it.
    ///
    /// # Panics
    /// When `made` has another number of samples than the original.
    pub fn new(name: &str, pair: &ImagePair, made: &[u8]) -> Self {
        assert_eq!(made.len(), pair.high.len(), "samples of {name}");
        let scale = pair.scale;
        let bicubic = bicubic(pair);
        let (width, height) = (pair.low_width_px, pair.low_height_px);
        let side = CROP_PX.min(width).min(height);
        let (x, y) = worst_square(pair, &bicubic, side);
        let high_side = side * scale;
        let of_high = |pixels: &[u8]| {
            let row = |row: usize| {
                let at = 3 * ((y * scale + row) * width * scale + x * scale);
                &pixels[at..at + 3 * high_side]
            };
            (0..high_side).flat_map(row).copied().collect::<Vec<u8>>()
        };
        let low: Vec<u8> = (0..side)
            .flat_map(|row| {
                let at = 3 * ((y + row) * width + x);
                &pair.low[at..at + 3 * side]
            })
            .copied()
            .collect();
        let original = of_high(&pair.high);
        let upscaled = |caption, pixels: Vec<u8>| {
            let psnr = psnr_db(&pixels, &original, high_side, high_side, Channel::Rgb, 0);
            (caption, Some(psnr), png(high_side, pixels))
        };
        Self {
            name: name.to_owned(),
            images: [
                ("low resolution", None, png(side, low)),
                upscaled("bicubic", of_high(&bicubic)),
                upscaled("this model", of_high(made)),
                ("original", None, png(high_side, original.clone())),
            ],
        }
    }

    fn to_html(&self) -> String {
        let figure = |(caption, psnr, png): &(&str, Option<f64>, Vec<u8>)| {
            let psnr = match psnr {
                Some(psnr) => format!(", {psnr:.2} dB"),
                None => String::new(),
            };
            format!(
                "<figure><img alt=\"{caption}\" src=\"data:image/png;base64,{}\"><figcaption>\
                 {caption}{psnr}</figcaption></figure>\n",
                BASE64.encode(png)
            )
        };
        let figures: String = self.images.iter().map(figure).collect();
        let name = escape(&self.name);
        format!("<h3>{name}</h3>\n<div class=\"strip\">\n{figures}</div>\n")
    }
}

/// The low-resolution corner of the square with the largest absolute error.
fn worst_square(pair: &ImagePair, made: &[u8], side: usize) -> (usize, usize) {
    let (width, height, scale) = (pair.low_width_px, pair.low_height_px, pair.scale);
    let error = |&(x, y): &(usize, usize)| {
        let rows = y * scale..(y + side) * scale;
        rows.map(|row| {
            let at = 3 * (row * width * scale + x * scale);
            let span = at..at + 3 * side * scale;
            let pairs = made[span.clone()].iter().zip(&pair.high[span]);
            pairs.map(|(a, b)| u64::from(a.abs_diff(*b))).sum::<u64>()
        })
        .sum::<u64>()
    };
    let columns = (0..=width - side).step_by(CROP_STEP_PX);
    let corners = columns.flat_map(|x| {
        (0..=height - side)
            .step_by(CROP_STEP_PX)
            .map(move |y| (x, y))
    });
    corners.max_by_key(error).unwrap_or((0, 0))
}

fn png(side: usize, rgb: Vec<u8>) -> Vec<u8> {
    let image = Image::new(side, side, Colour::Rgb, Samples::U8(rgb));
    encode_bytes(&image, Format::Png)
        .unwrap_or_else(|e| unreachable!("PNG holds {side} x {side} RGB: {e}"))
}

/// The report as HTML, of a training as far as its metrics go.
pub fn training_report(recipe: &Recipe, metrics: &[Metrics], crops: &[Crop]) -> String {
    let label = recipe.network.label();
    let updates = recipe.training.updates;
    let done = metrics.last().map_or(0, |m| m.update);
    let mut body = format!(
        "<h1>{}</h1>\n<p class=\"lead\">Training by <code>wdsr train</code>: {done} of {updates} \
         updates.</p>\n",
        escape(&label)
    );
    body += &table(&[], &figures(recipe, metrics), 1);
    let over = |value: &dyn Fn(&Metrics) -> Option<f64>| -> Vec<(f64, f64)> {
        let point = |m: &Metrics| Some((m.update as f64, value(m)?));
        metrics.iter().filter_map(point).collect()
    };
    let plot = |title: &str, y_label: &str, series, log_y| {
        Plot {
            title: title.to_owned(),
            x_label: "updates".to_owned(),
            y_label: y_label.to_owned(),
            series,
            log_y,
        }
        .to_svg()
    };
    body += "<h2>Course</h2>\n<div class=\"plots\">\n";
    let mut psnr = over(&|m| m.psnr_db);
    if let Some((psnr_db, bicubic_db)) = metrics
        .last()
        .and_then(|m| m.psnr_db.zip(m.bicubic_psnr_db))
    {
        // The first validations lie so low that they would flatten the rest.
        let mut title = "PSNR on the validation images".to_owned();
        if psnr_db > bicubic_db {
            let low = bicubic_db - BELOW_BICUBIC_DB;
            let shown = psnr.len();
            psnr.retain(|point| point.1 >= low);
            if psnr.len() < shown {
                title += &format!(", from {low:.1} dB up");
            }
        }
        let bicubic = Series {
            reference: true,
            ..Series::new("bicubic", over(&|m| m.bicubic_psnr_db))
        };
        let series = vec![Series::new("model", psnr), bicubic];
        body += &plot(&title, "dB", series, false);
    }
    let losses = vec![Series::new("loss", over(&|m| Some(m.loss)))];
    body += &plot("Loss, mean between validations", "loss", losses, true);
    let rates = vec![Series::new("rate", over(&|m| Some(m.learning_rate)))];
    body += &plot("Learning rate", "learning rate", rates, true);
    let speeds = over(&|m| Some(m.patches_per_second));
    let speeds = vec![Series::new("speed", speeds)];
    body += &plot("Speed", "patches/s", speeds, false);
    body += "</div>\n";
    if !crops.is_empty() {
        body += "<h2>Validation images</h2>\n<p class=\"lead\">Where bicubic interpolation errs \
                 most; PSNR of the crop, RGB.</p>\n";
        crops.iter().for_each(|crop| body += &crop.to_html());
    }
    let _ = writeln!(
        body,
        "<h2>Recipe</h2>\n<pre>{}</pre>",
        escape(recipe.to_toml().trim_end())
    );
    page(&format!("Training of {label}"), &body)
}

/// 1,190,100
pub(crate) fn grouped(value: usize) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn figures(recipe: &Recipe, metrics: &[Metrics]) -> Vec<Vec<String>> {
    let network = Network::new(&recipe.network);
    let row = |what: &str, value: String| vec![what.to_owned(), value];
    let mut rows = vec![
        row("parameters", grouped(network.parameters())),
        row(
            "multiply-adds for 1280 x 720 out",
            format!("{:.2} G", network.multiply_adds(1280, 720) as f64 / 1e9),
        ),
    ];
    let Some(last) = metrics.last() else {
        return rows;
    };
    let protocol = recipe.validation.protocol.describe(recipe.network.scale);
    if let (Some(psnr), Some(bicubic)) = (last.psnr_db, last.bicubic_psnr_db) {
        let scored = metrics.iter().filter(|m| m.psnr_db.is_some());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crops_lie_where_bicubic_errs_most() {
        let (width, height, scale) = (120, 100, 2);
        // Flat but for one noisy corner.
        let sample = |i: usize| {
            let (pixel, channel) = (i / 3, i % 3);
            let (x, y) = (pixel % (width * scale), pixel / (width * scale));
            if x > 150 && y > 120 {
                ((x * 7919 + y * 104_729 + channel) % 251) as u8
            } else {
                100
            }
        };
        let high: Vec<u8> = (0..3 * width * height * scale * scale)
            .map(sample)
            .collect();
        let pair = ImagePair {
            low: vec![100; 3 * width * height],
            high,
            low_width_px: width,
            low_height_px: height,
            scale,
            grey: false,
        };
        let upscaled = bicubic(&pair);
        let (x, y) = worst_square(&pair, &upscaled, CROP_PX);
        assert_eq!((x, y), (72, 48));
        let crop = Crop::new("<a>", &pair, &pair.high);
        let html = crop.to_html();
        assert!(html.contains("&lt;a&gt;"), "{html}");
        // The original itself has no error.
        assert!(html.contains("this model, inf dB"), "{html}");
        assert_eq!(html.matches("data:image/png;base64,").count(), 4);
    }

    #[test]
    fn numbers_are_grouped() {
        for (value, expected) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_190_100, "1,190,100"),
        ] {
            assert_eq!(grouped(value), expected);
        }
    }
}
