//! Figures of a model on a set, as JSON and as a table.

use std::fmt::Write;

use serde::Serialize;

use crate::protocol::Protocol;

/// Scores of one image. PSNR is in dB; equal images have an infinite one, which JSON cannot
/// hold: it is written as `null`. SSIM is -1..1.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ImageScore {
    /// Of the image.
    pub name: String,
    /// Of the model.
    pub psnr_db: f64,
    /// Of the model.
    pub ssim: f64,
    /// Of bicubic interpolation.
    pub bicubic_psnr_db: f64,
    /// Of bicubic interpolation.
    pub bicubic_ssim: f64,
}

/// Means over the images, each counting the same whatever its size. A mean over an infinite
/// figure is infinite, `null` in JSON.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MeanScore {
    /// Mean of the images' dB.
    pub psnr_db: f64,
    /// Mean.
    pub ssim: f64,
    /// Mean of the images' dB.
    pub bicubic_psnr_db: f64,
    /// Mean.
    pub bicubic_ssim: f64,
}

/// Scores of a model on a set. The fields are those of the JSON object, in this order.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Upscaling factor.
    pub scale: usize,
    /// What was compared.
    pub protocol: Protocol,
    /// The set.
    pub set: String,
    /// The model.
    pub model: String,
    /// In the order of their names.
    pub images: Vec<ImageScore>,
    /// Over all images.
    pub mean: MeanScore,
}

impl Report {
    /// A report of scored images.
    ///
    /// # Panics
    /// When there are none.
    pub fn new(
        scale: usize,
        protocol: Protocol,
        set: String,
        model: String,
        images: Vec<ImageScore>,
    ) -> Self {
        assert!(!images.is_empty(), "no images of {set} were scored");
        let mean =
            |of: fn(&ImageScore) -> f64| images.iter().map(of).sum::<f64>() / images.len() as f64;
        let mean = MeanScore {
            psnr_db: mean(|p| p.psnr_db),
            ssim: mean(|p| p.ssim),
            bicubic_psnr_db: mean(|p| p.bicubic_psnr_db),
            bicubic_ssim: mean(|p| p.bicubic_ssim),
        };
        Self {
            scale,
            protocol,
            set,
            model,
            images,
            mean,
        }
    }

    /// A table for a terminal: the protocol in its heading, bicubic beside every figure, the gain
    /// over it in dB (`-` where both are infinite), the mean last.
    pub fn to_table(&self) -> String {
        let name_width = self
            .images
            .iter()
            .map(|p| p.name.chars().count())
            .max()
            .unwrap_or(0)
            .max(7);
        let mut table = format!(
            "{}, x{}, {}\n{}\n\n{:name_width$}  {:>8}  {:>8}  {:>7}  {:>7}  {:>12}\n",
            self.set,
            self.scale,
            self.model,
            self.protocol.describe(self.scale),
            "image",
            "PSNR dB",
            "bicubic",
            "gain",
            "SSIM",
            "bicubic SSIM"
        );
        let mut line = |name: &str, psnr: f64, bicubic: f64, ssim: f64, bicubic_ssim: f64| {
            let gain = match psnr - bicubic {
                undefined if undefined.is_nan() => "-".to_owned(),
                gain => format!("{gain:+.3}"),
            };
            let _ = writeln!(
                table,
                "{name:name_width$}  {psnr:8.3}  {bicubic:8.3}  {gain:>7}  {ssim:7.4}  \
                 {bicubic_ssim:12.4}"
            );
        };
        for p in &self.images {
            line(
                &p.name,
                p.psnr_db,
                p.bicubic_psnr_db,
                p.ssim,
                p.bicubic_ssim,
            );
        }
        let m = &self.mean;
        line("mean", m.psnr_db, m.bicubic_psnr_db, m.ssim, m.bicubic_ssim);
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(name: &str, psnr_db: f64, bicubic_psnr_db: f64) -> ImageScore {
        ImageScore {
            name: name.to_owned(),
            psnr_db,
            ssim: 0.75,
            bicubic_psnr_db,
            bicubic_ssim: 0.5,
        }
    }

    fn report(images: Vec<ImageScore>) -> Report {
        let (set, model) = ("Set2".to_owned(), "small".to_owned());
        Report::new(2, Protocol::Div2k, set, model, images)
    }

    #[test]
    fn json_holds_exactly_the_documented_fields() {
        let report = report(vec![
            score("a", 30.0, 28.0),
            score("b", 34.0, f64::INFINITY),
        ]);
        let json = serde_json::to_string(&report).expect("JSON");
        assert_eq!(
            json,
            "{\"scale\":2,\"protocol\":\"div2k\",\"set\":\"Set2\",\"model\":\"small\",\
             \"images\":[\
             {\"name\":\"a\",\"psnr_db\":30.0,\"ssim\":0.75,\"bicubic_psnr_db\":28.0,\
             \"bicubic_ssim\":0.5},\
             {\"name\":\"b\",\"psnr_db\":34.0,\"ssim\":0.75,\"bicubic_psnr_db\":null,\
             \"bicubic_ssim\":0.5}],\
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
div2k: RGB, 8 bit, 8 px cut off each side

image       PSNR dB   bicubic     gain     SSIM  bicubic SSIM
butterfly    30.000    28.500   +1.500   0.7500        0.5000
b             9.500     9.750   -0.250   0.7500        0.5000
same            inf       inf        -   0.7500        0.5000
mean            inf       inf        -   0.7500        0.5000
";
        assert_eq!(table, expected);
    }

    #[test]
    #[should_panic(expected = "no images of Set2 were scored")]
    fn a_report_of_nothing_is_refused() {
        report(Vec::new());
    }
}
