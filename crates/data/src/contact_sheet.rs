//! The contact sheet of a dataset: one HTML file with the thumbnails of all images.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use wdsr_image::imresize::{Kernel, imresize_to_f32};
use wdsr_image::{Colour, Format, Image, Samples, encode_bytes};

use crate::error::Error;
use crate::manifest::ManifestEntry;

/// Longest side of a thumbnail.
const THUMBNAIL_PX: usize = 128;

/// The thumbnail of an R G B image, 0..255, row-major, as JPEG.
pub(crate) fn thumbnail(rgb: &[u8], width_px: usize, height_px: usize) -> Result<Vec<u8>, Error> {
    let longest = width_px.max(height_px).max(THUMBNAIL_PX);
    let side = |px: usize| (px * THUMBNAIL_PX / longest).max(1);
    let samples: Vec<f32> = rgb.iter().map(|sample| f32::from(*sample)).collect();
    let (width, height) = (side(width_px), side(height_px));
    let reduced = imresize_to_f32(
        &samples,
        width_px,
        height_px,
        3,
        width,
        height,
        Kernel::Cubic,
    );
    let samples = reduced
        .pixels
        .iter()
        .map(|v| v.round().clamp(0.0, 255.0) as u8);
    let samples = Samples::U8(samples.collect());
    let image = Image::new(width, height, Colour::Rgb, samples);
    Ok(encode_bytes(&image, Format::Jpeg)?)
}

/// The sheet. `thumbnail` returns the JPEG of an entry.
pub(crate) fn html(
    entries: &[ManifestEntry],
    thumbnail: &dyn Fn(&ManifestEntry) -> Option<Vec<u8>>,
) -> String {
    let mut page = String::from(
        "<!doctype html><meta charset=utf-8><title>Training images</title>\n<style>\
         body{font:12px sans-serif}figure{display:inline-block;width:136px;margin:2px;\
         vertical-align:top;overflow-wrap:anywhere}.out img{opacity:.35}</style>\n",
    );
    for source in entries.chunk_by(|a, b| a.source == b.source) {
        let (name, kept) = (
            &source[0].source,
            source.iter().filter(|e| e.file.is_some()),
        );
        let name = escape(name);
        page += &format!("<h2>{name}: {} of {}</h2>\n", kept.count(), source.len());
        for entry in source {
            let title = entry.left_out.as_deref().unwrap_or(&entry.done);
            let original = Path::new(&entry.original).file_name().unwrap_or_default();
            page += &format!(
                "<figure{}><img loading=lazy src=\"data:image/jpeg;base64,{}\"><figcaption>{}, \
                 {}, {}</figcaption></figure>\n",
                if entry.file.is_some() {
                    ""
                } else {
                    " class=out"
                },
                thumbnail(entry).map_or_else(String::new, |jpeg| STANDARD.encode(jpeg)),
                escape(&original.to_string_lossy()),
                escape(title),
                escape(entry.licence.as_deref().unwrap_or("unknown licence"))
            );
        }
    }
    page
}

/// Escapes text for HTML.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
