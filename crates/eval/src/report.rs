//! Scores of a model on a set, as JSON and as a table.

use std::fmt::Write;

use serde::Serialize;

use crate::scoring::Scoring;

/// Scores of one image. PSNR is in dB, and infinite for equal images. JSON has no infinite numbers, so
/// an infinite PSNR is `null` there. SSIM is -1..1.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ImageScore {
    /// Name of the image, without suffix.
    pub name: String,
    /// PSNR of the model.
    pub psnr_db: f64,
    /// SSIM of the model.
    pub ssim: f64,
    /// PSNR of bicubic interpolation.
    pub bicubic_psnr_db: f64,
    /// SSIM of bicubic interpolation.
    pub bicubic_ssim: f64,
    /// Strength of the model, 0..=1, if it was read off the input.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strength: Option<f32>,
    /// The damage that the strength was read off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub damage: Option<String>,
}

/// Means over the images that were scored; an image counts the same whatever its size. A mean of an
/// infinite PSNR is infinite, and `null` in JSON.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MeanScore {
    /// Mean PSNR of the model.
    pub psnr_db: f64,
    /// Mean SSIM of the model.
    pub ssim: f64,
    /// Mean PSNR of bicubic interpolation.
    pub bicubic_psnr_db: f64,
    /// Mean SSIM of bicubic interpolation.
    pub bicubic_ssim: f64,
}

impl MeanScore {
    /// The means over images; NaN if there are none.
    pub fn of(images: &[ImageScore]) -> Self {
        let mean =
            |of: fn(&ImageScore) -> f64| images.iter().map(of).sum::<f64>() / images.len() as f64;
        Self {
            psnr_db: mean(|image| image.psnr_db),
            ssim: mean(|image| image.ssim),
            bicubic_psnr_db: mean(|image| image.bicubic_psnr_db),
            bicubic_ssim: mean(|image| image.bicubic_ssim),
        }
    }
}

/// An image that could not be scored.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FailedImage {
    /// Its file.
    pub file: String,
    /// The error.
    pub error: String,
}

/// Scores of a model on a set. The JSON object has the same fields, in this order.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Scale of the model.
    pub scale: usize,
    /// The protocol.
    pub protocol: Scoring,
    /// Folder of the set.
    pub set: String,
    /// File or name of the model.
    pub model: String,
    /// Where the low-resolution images come from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub low_images: Option<String>,
    /// The strength of a model that has one, or what it was read off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strength: Option<String>,
    /// The images that were scored, sorted by name.
    pub images: Vec<ImageScore>,
    /// The images that could not be scored.
    pub failed: Vec<FailedImage>,
    /// Means over `images`.
    pub mean: MeanScore,
}

impl Report {
    /// A report of scored images, without failed ones.
    ///
    /// # Panics
    /// If there are none.
    pub fn new(
        scale: usize,
        protocol: impl Into<Scoring>,
        set: String,
        model: String,
        images: Vec<ImageScore>,
    ) -> Self {
        assert!(!images.is_empty(), "no image of {set} was scored");
        let mean = MeanScore::of(&images);
        Self {
            scale,
            protocol: protocol.into(),
            set,
            model,
            low_images: None,
            strength: None,
            images,
            failed: Vec::new(),
            mean,
        }
    }

    /// The report with where the low-resolution images come from
    /// ([`describe_low_images`](crate::describe_low_images)).
    #[must_use]
    pub fn with_low_images(mut self, low_images: String) -> Self {
        self.low_images = Some(low_images);
        self
    }

    /// The report with the strength of the model, or what it was read off.
    #[must_use]
    pub fn with_strength(mut self, strength: Option<String>) -> Self {
        self.strength = strength;
        self
    }

    /// The report with images that could not be scored.
    #[must_use]
    pub fn with_failed(mut self, failed: Vec<FailedImage>) -> Self {
        self.failed = failed;
        self
    }

    /// A table for a terminal: the protocol in its heading, bicubic interpolation beside the model, the
    /// gain in dB (`-` if both are infinite), the mean last.
    pub fn to_table(&self) -> String {
        let name_width = self
            .images
            .iter()
            .map(|p| p.name.chars().count())
            .max()
            .unwrap_or(0)
            .max(7);
        let low_images = self
            .low_images
            .iter()
            .map(|low| format!("low-resolution images: {low}\n"));
        let strength = self.strength.iter();
        let strength = strength.map(|strength| format!("strength: {strength}\n"));
        let has_damage = self.images.iter().any(|image| image.damage.is_some());
        // Bicubic interpolation at x1 is the input.
        let baseline = if self.scale == 1 { "input" } else { "bicubic" };
        let mut table = format!(
            "{}, x{}, {}\n{}\n{}{}\n{:name_width$}  {:>8}  {:>8}  {:>7}  {:>7}  {:>12}{}\n",
            self.set,
            self.scale,
            self.model,
            self.protocol.describe(self.scale),
            low_images.collect::<String>(),
            strength.collect::<String>(),
            "image",
            "PSNR dB",
            baseline,
            "gain",
            "SSIM",
            format!("{baseline} SSIM"),
            if has_damage { "  strength" } else { "" }
        );
        let mut line = |name: &str, [psnr, bicubic, ssim, bicubic_ssim]: [f64; 4], end: &str| {
            let gain = match psnr - bicubic {
                undefined if undefined.is_nan() => "-".to_owned(),
                gain => format!("{gain:+.3}"),
            };
            let _ = writeln!(
                table,
                "{name:name_width$}  {psnr:8.3}  {bicubic:8.3}  {gain:>7}  {ssim:7.4}  \
                 {bicubic_ssim:12.4}{end}"
            );
        };
        for p in &self.images {
            let scores = [p.psnr_db, p.bicubic_psnr_db, p.ssim, p.bicubic_ssim];
            let end = match (p.strength, &p.damage) {
                (Some(strength), Some(damage)) => format!("  {strength:.2} ({damage})"),
                _ => String::new(),
            };
            line(&p.name, scores, &end);
        }
        let m = &self.mean;
        let scores = [m.psnr_db, m.bicubic_psnr_db, m.ssim, m.bicubic_ssim];
        line("mean", scores, "");
        if !self.failed.is_empty() {
            let (failed, all) = (self.failed.len(), self.failed.len() + self.images.len());
            let _ = writeln!(table, "\nnot scored: {failed} of {all} images");
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Protocol;

    fn score(name: &str, psnr_db: f64, bicubic_psnr_db: f64) -> ImageScore {
        ImageScore {
            name: name.to_owned(),
            psnr_db,
            ssim: 0.75,
            bicubic_psnr_db,
            bicubic_ssim: 0.5,
            strength: None,
            damage: None,
        }
    }

    fn report(images: Vec<ImageScore>) -> Report {
        let (set, model) = ("Set2".to_owned(), "small".to_owned());
        Report::new(2, Protocol::Div2k, set, model, images)
    }

    #[test]
    fn json_has_the_documented_fields_and_infinite_psnr_is_null() {
        let report = report(vec![
            score("a", 30.0, 28.0),
            score("b", 34.0, f64::INFINITY),
        ])
        .with_failed(vec![FailedImage {
            file: "c.png".to_owned(),
            error: "damaged".to_owned(),
        }]);
        let json = serde_json::to_string(&report).expect("JSON");
        assert_eq!(
            json,
            "{\"scale\":2,\"protocol\":\"div2k\",\"set\":\"Set2\",\"model\":\"small\",\
             \"images\":[\
             {\"name\":\"a\",\"psnr_db\":30.0,\"ssim\":0.75,\"bicubic_psnr_db\":28.0,\
             \"bicubic_ssim\":0.5},\
             {\"name\":\"b\",\"psnr_db\":34.0,\"ssim\":0.75,\"bicubic_psnr_db\":null,\
             \"bicubic_ssim\":0.5}],\
             \"failed\":[{\"file\":\"c.png\",\"error\":\"damaged\"}],\
             \"mean\":{\"psnr_db\":32.0,\"ssim\":0.75,\"bicubic_psnr_db\":null,\
             \"bicubic_ssim\":0.5}}"
        );
    }

    #[test]
    fn the_table_is_aligned_and_ends_with_the_mean() {
        let table = report(vec![
            score("butterfly", 30.0, 28.5),
            score("b", 9.5, 9.75),
            score("same", f64::INFINITY, f64::INFINITY),
        ])
        .to_table();
        let expected = "\
Set2, x2, small
div2k: RGB, 8 bit, 8 px cropped on each side

image       PSNR dB   bicubic     gain     SSIM  bicubic SSIM
butterfly    30.000    28.500   +1.500   0.7500        0.5000
b             9.500     9.750   -0.250   0.7500        0.5000
same            inf       inf        -   0.7500        0.5000
mean            inf       inf        -   0.7500        0.5000
";
        assert_eq!(table, expected);
    }

    #[test]
    fn strengths_stand_beside_the_scores() {
        let image = ImageScore {
            strength: Some(0.456),
            damage: Some("JPEG of quality 75".to_owned()),
            ..score("a", 30.0, 28.5)
        };
        let report = report(vec![image]).with_strength(Some("read off each input".to_owned()));
        let table = report.to_table();
        assert!(
            table.contains("\nstrength: read off each input\n"),
            "{table}"
        );
        assert!(table.contains("SSIM  strength\n"), "{table}");
        assert!(
            table.contains("0.5000  0.46 (JPEG of quality 75)\n"),
            "{table}"
        );
        let json = serde_json::to_value(&report).expect("JSON");
        assert_eq!(json["strength"], "read off each input");
        assert_eq!(json["images"][0]["damage"], "JPEG of quality 75");
    }

    #[test]
    #[should_panic(expected = "no image of Set2 was scored")]
    fn empty_reports_panic() {
        report(Vec::new());
    }
}
