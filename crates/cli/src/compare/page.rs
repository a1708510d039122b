//! The page: markup, style and script in one file, each image as base64.

use std::fmt::Write as _;
use std::io::{self, Write};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;
use wdsr_eval::Protocol;
use wdsr_viewer::{MARKUP, SCRIPT as VIEWER_SCRIPT, STYLE};

use super::images::{LoadedImage, LoadedSet, Source};
use super::sets::file_name;

const SCRIPT: &str = include_str!("page.js");

/// A page that is written set by set.
pub(super) struct PageWriter<W: Write> {
    file: io::BufWriter<W>,
    labels: Vec<String>,
    crop_px: usize,
    image_bytes: usize,
    sets: Vec<SetData>,
    rows: String,
}

/// What the script knows of a set.
#[derive(Serialize)]
struct SetData {
    name: String,
    images: Vec<ImageData>,
}

#[derive(Serialize)]
struct ImageData {
    label: String,
    media_type: &'static str,
    width_px: usize,
    height_px: usize,
    notes: Vec<String>,
}

impl<W: Write> PageWriter<W> {
    /// Starts the page of these sources, figures of which are cropped by `crop_px`.
    pub(super) fn start(file: W, sources: &[Source], crop_px: usize) -> io::Result<Self> {
        let labels = labels(sources);
        let title = escape(&labels.join(", "));
        let mut file = io::BufWriter::new(file);
        write!(
            file,
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
             content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n<style>\n{STYLE}</style>\n\
             </head>\n<body>\n{MARKUP}"
        )?;
        Ok(Self {
            file,
            labels,
            crop_px,
            image_bytes: 0,
            sets: Vec::new(),
            rows: String::new(),
        })
    }

    /// The number of sets so far.
    pub(super) fn sets(&self) -> usize {
        self.sets.len()
    }

    /// The bytes of all image files so far.
    pub(super) fn image_bytes(&self) -> usize {
        self.image_bytes
    }

    /// Writes the images of a set.
    pub(super) fn add(&mut self, set: &LoadedSet) -> io::Result<()> {
        let number = self.sets.len();
        for (at, image) in set.images.iter().enumerate() {
            write!(
                self.file,
                "<script type=\"text/plain\" id=\"image-{number}-{at}\">"
            )?;
            self.file
                .write_all(BASE64_STANDARD.encode(&image.file).as_bytes())?;
            writeln!(self.file, "</script>")?;
            self.image_bytes += image.file.len();
        }
        self.add_rows(set);
        let data = |(image, label): (&LoadedImage, &String)| ImageData {
            label: label.clone(),
            media_type: image.media_type,
            width_px: image.size.width_px,
            height_px: image.size.height_px,
            notes: image.notes.clone(),
        };
        self.sets.push(SetData {
            name: set.name.clone(),
            images: set.images.iter().zip(&self.labels).map(data).collect(),
        });
        Ok(())
    }

    fn add_rows(&mut self, set: &LoadedSet) {
        for figures in &set.figures {
            let [of, with] = figures.of.map(|at| escape(&self.labels[at]));
            let psnr = if figures.psnr_db.is_finite() {
                format!("{:.3}", figures.psnr_db)
            } else {
                "equal".to_owned()
            };
            let ssim = figures
                .ssim
                .map_or("too small".to_owned(), |ssim| format!("{ssim:.4}"));
            let _ = writeln!(
                self.rows,
                "<tr><td>{}</td><td>{of}</td><td>{with}</td><td class=\"number\">{psnr}</td><td \
                 class=\"number\">{ssim}</td></tr>",
                escape(&set.name)
            );
        }
    }

    /// Writes the figures and the script, and returns the file.
    pub(super) fn finish(mut self) -> io::Result<W> {
        if !self.rows.is_empty() {
            let protocol = match self.crop_px {
                0 => "Y (grey images: as stored), 8 bit, nothing cropped".to_owned(),
                crop_px => Protocol::Benchmark.describe(crop_px),
            };
            write!(
                self.file,
                "<h2>Figures</h2>\n<p class=\"quiet\">{}</p>\n<div class=\"scroll\"><table>\n\
                 <tr><th>image</th><th>of</th><th>against</th><th class=\"number\">PSNR, dB</th><th \
                 class=\"number\">SSIM</th></tr>\n{}</table></div>\n",
                escape(&protocol),
                self.rows
            )?;
        }
        // `</script>` in a name would end the data.
        let data = serde_json::to_string(&self.sets)?.replace('<', "\\u003c");
        write!(
            self.file,
            "<script type=\"application/json\" id=\"sets\">{data}</script>\n<script>\n{VIEWER_SCRIPT}{SCRIPT}</script>\n</body>\n\
             </html>\n"
        )?;
        self.file
            .into_inner()
            .map_err(io::IntoInnerError::into_error)
    }
}

/// The shortest ends of the paths that differ, and what is the original.
fn labels(sources: &[Source]) -> Vec<String> {
    let names = Vec::from_iter(sources.iter().map(|source| file_name(&source.path)));
    let is_repeated = |name: &String| names.iter().filter(|other| *other == name).count() > 1;
    let label = |(source, name): (&Source, &String)| {
        let shown = match is_repeated(name) {
            true => source.path.display().to_string(),
            false => name.clone(),
        };
        match source.is_original {
            true => format!("{shown} (original)"),
            false => shown,
        }
    };
    sources.iter().zip(&names).map(label).collect()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
