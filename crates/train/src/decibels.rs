//! PSNR in JSON, which has no infinite numbers: a number, or `"inf"` for equal images.
//!
//! For `#[serde(with = "wdsr_train::decibels")]`.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serializer};

#[derive(Deserialize)]
#[serde(untagged)]
enum NumberOrText {
    Number(f64),
    Text(String),
}

/// Writes a PSNR.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(psnr_db: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if psnr_db.is_finite() {
        serializer.serialize_f64(*psnr_db)
    } else {
        // Rust and Python read "inf", "-inf" and "NaN".
        serializer.serialize_str(&psnr_db.to_string())
    }
}

/// Reads a PSNR.
///
/// # Errors
/// If it is neither a number nor the text of one.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    parse(NumberOrText::deserialize(deserializer)?)
}

fn parse<E: Error>(value: NumberOrText) -> Result<f64, E> {
    match value {
        NumberOrText::Number(number) => Ok(number),
        NumberOrText::Text(text) => text.parse().map_err(E::custom),
    }
}

/// An optional PSNR, `null` for none.
pub mod option {
    use super::{Deserialize, Deserializer, NumberOrText, Serializer, parse};

    /// Writes an optional PSNR.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(
        psnr_db: &Option<f64>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match psnr_db {
            Some(psnr_db) => super::serialize(psnr_db, serializer),
            None => serializer.serialize_none(),
        }
    }

    /// Reads an optional PSNR.
    ///
    /// # Errors
    /// If it is neither null, a number nor the text of one.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<f64>, D::Error> {
        let value = Option::<NumberOrText>::deserialize(deserializer)?;
        value.map(parse).transpose()
    }
}
