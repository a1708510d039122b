use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::metrics::Channel;

/// What a published figure compares: figures of different protocols must not be compared.
/// Pictures are 8-bit RGB in all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// RGB, scale + 6 pixels cut: DIV2K figures of EDSR and WDSR (EDSR-PyTorch, utility.py).
    Div2k,
    /// RGB, scale pixels cut: the NTIRE challenges, BasicSR, mmagic.
    Ntire,
    /// Y, scale pixels cut: Set5, Set14, B100, Urban100.
    #[default]
    Benchmark,
}

impl Protocol {
    /// What it compares of a picture, which may be stored as grey.
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

    /// Its definition in words.
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
