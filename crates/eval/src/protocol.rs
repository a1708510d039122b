//! The protocols of published figures.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::metrics::Channel;

/// What a published figure compares: figures of different protocols must not be compared.
/// Results are rounded to 8 bit in all of them, and a set's figure is the mean of its images'.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// RGB, scale + 6 pixels cut: DIV2K figures of EDSR and WDSR (sanghyun-son/EDSR-PyTorch
    /// src/utility.py, `calc_psnr`; ychfan/wdsr).
    Div2k,
    /// RGB, scale pixels cut: the NTIRE challenges, BasicSR's and mmagic's figures on DIV2K.
    Ntire,
    /// Y, scale pixels cut: Set5, Set14, B100, Urban100. Images stored as grey are compared as
    /// they are ([`Channel::Grey`]).
    #[default]
    Benchmark,
}

impl Protocol {
    /// What it compares of an image, which may be stored as grey.
    pub fn channel(self, grey: bool) -> Channel {
        match self {
            Self::Div2k | Self::Ntire => Channel::Rgb,
            Self::Benchmark if grey => Channel::Grey,
            Self::Benchmark => Channel::Y,
        }
    }

    /// Pixels cut off each side.
    pub fn shave_px(self, scale: usize) -> usize {
        match self {
            Self::Div2k => scale + 6,
            Self::Ntire | Self::Benchmark => scale,
        }
    }

    /// Its definition in words, such as `benchmark: Y, 8 bit, 2 px cut off each side`.
    pub fn describe(self, scale: usize) -> String {
        let channel = match self {
            Self::Div2k | Self::Ntire => "RGB",
            Self::Benchmark => "Y",
        };
        format!(
            "{self}: {channel}, 8 bit, {} px cut off each side",
            self.shave_px(scale)
        )
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Div2k => "div2k",
            Self::Ntire => "ntire",
            Self::Benchmark => "benchmark",
        })
    }
}

impl FromStr for Protocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "div2k" => Ok(Self::Div2k),
            "ntire" => Ok(Self::Ntire),
            "benchmark" => Ok(Self::Benchmark),
            _ => Err(format!(
                "expected div2k, ntire or benchmark, found `{text}`"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn borders_channels_and_words() {
        let cases = [
            (Protocol::Div2k, 8, Channel::Rgb, Channel::Rgb, "div2k: RGB"),
            (Protocol::Ntire, 2, Channel::Rgb, Channel::Rgb, "ntire: RGB"),
            (
                Protocol::Benchmark,
                2,
                Channel::Y,
                Channel::Grey,
                "benchmark: Y",
            ),
        ];
        for (protocol, shave_px, colour, grey, words) in cases {
            assert_eq!(protocol.shave_px(2), shave_px, "{protocol}");
            assert_eq!(protocol.shave_px(4), shave_px + 2, "{protocol}");
            assert_eq!(protocol.channel(false), colour, "{protocol}");
            assert_eq!(protocol.channel(true), grey, "{protocol}");
            let words = format!("{words}, 8 bit, {shave_px} px cut off each side");
            assert_eq!(protocol.describe(2), words);
        }
    }

    #[test]
    fn names_are_read_back() {
        assert_eq!(Protocol::default(), Protocol::Benchmark);
        for protocol in [Protocol::Div2k, Protocol::Ntire, Protocol::Benchmark] {
            assert_eq!(protocol.to_string().parse(), Ok(protocol));
            let json = serde_json::to_string(&protocol).expect("JSON");
            assert_eq!(json, format!("\"{protocol}\""));
        }
        let error = "Y".parse::<Protocol>().expect_err("no such protocol");
        assert_eq!(error, "expected div2k, ntire or benchmark, found `Y`");
    }
}
