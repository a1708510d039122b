use std::fmt::Write;

use serde::Serialize;

use crate::protocol::Protocol;

/// Scores of one picture. Equal pictures have an infinite PSNR, `null` in JSON.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PictureScore {
    /// Of the picture.
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

/// Means over the pictures.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MeanScore {
    /// Mean of the pictures' dB.
    pub psnr_db: f64,
    /// Mean.
    pub ssim: f64,
    /// Mean of the pictures' dB.
    pub bicubic_psnr_db: f64,
    /// Mean.
    pub bicubic_ssim: f64,
}

/// Scores of a model on a set.
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
    pub pictures: Vec<PictureScore>,
    /// Over all pictures.
    pub mean: MeanScore,
}

impl Report {
    /// A report of scored pictures.
    pub fn new(
        scale: usize,
        protocol: Protocol,
        set: String,
        model: String,
        pictures: Vec<PictureScore>,
    ) -> Self {
        let mean = |of: fn(&PictureScore) -> f64| {
            pictures.iter().map(of).sum::<f64>() / pictures.len() as f64
        };
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
            pictures,
            mean,
        }
    }

    /// A table for a terminal: the protocol in its heading, bicubic beside every figure.
    pub fn to_table(&self) -> String {
        let name_width = self
            .pictures
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
            "picture",
            "PSNR dB",
            "bicubic",
            "gain",
            "SSIM",
            "bicubic SSIM"
        );
        let mut line = |name: &str, psnr: f64, bicubic: f64, ssim: f64, bicubic_ssim: f64| {
            let gain = psnr - bicubic;
            let _ = writeln!(
                table,
                "{name:name_width$}  {psnr:8.3}  {bicubic:8.3}  {gain:+7.3}  {ssim:7.4}  \
                 {bicubic_ssim:12.4}"
            );
        };
        for p in &self.pictures {
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
