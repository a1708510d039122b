//! Where images to train on come from.

use std::path::Path;

use serde::Deserialize;

use crate::error::Error;
use crate::kept_out::KeptOut;

const SOURCES: &str = include_str!("sources.toml");
const IMAGES: &str = include_str!("images.tsv");
const KEPT_OUT: &str = include_str!("kept_out.txt");

/// All that is known of images to train on, and of those that no training may see.
pub struct Sources {
    pub(super) sources: Vec<Source>,
    pub(super) kept_out: KeptOut,
    /// Of the list of kept-out images: what was checked against another is checked again.
    pub(super) kept_out_checksum: String,
}

/// A set of images.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Source {
    pub(super) name: String,
    /// What it is.
    #[allow(dead_code, reason = "read by people")]
    about: String,
    /// A Debian package of the same name.
    #[serde(default)]
    pub(super) package: bool,
    /// Where its images are in its usual folder.
    #[serde(default)]
    pub(super) subfolder: Option<String>,
    /// Of images that are not listed one by one.
    #[serde(default)]
    pub(super) licence: Option<String>,
    /// Its images; empty where they are not known one by one.
    #[serde(skip)]
    pub(super) images: Vec<Listed>,
}

/// An image that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    /// Its place below the source's folder, or the end of it.
    pub(super) file: String,
    pub(super) sha256: String,
    /// Both sides are divided by this.
    pub(super) reduce: u32,
    pub(super) licence: String,
}

impl Source {
    /// One that only a user knows.
    pub(super) fn unknown(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            about: String::new(),
            package: false,
            subfolder: None,
            licence: None,
            images: Vec::new(),
        }
    }
}

impl Sources {
    /// Those of the program.
    ///
    /// # Panics
    /// Never: a test reads them.
    pub fn built_in() -> Self {
        let read = Self::parse(SOURCES, IMAGES, KEPT_OUT);
        read.unwrap_or_else(|error| unreachable!("lists built in: {error}"))
    }

    /// From the text of `sources.toml`, `images.tsv` and `kept_out.txt`.
    pub(super) fn parse(sources: &str, images: &str, kept_out: &str) -> Result<Self, Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct File {
            source: Vec<Source>,
        }
        let wrong = |file: &str, reason: String| Error::Data {
            path: file.into(),
            reason,
        };
        let File { mut source } =
            toml::from_str(sources).map_err(|e| wrong("sources.toml", e.to_string()))?;
        for (at, line) in images.lines().enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let unreadable = || {
                wrong(
                    "images.tsv",
                    format!(
                        "line {}: expected source, file, SHA-256, factor, licence",
                        at + 1
                    ),
                )
            };
            let [name, file, sha256, reduce, licence] = line
                .split('\t')
                .collect::<Vec<_>>()
                .try_into()
                .map_err(|_| unreadable())?;
            let reduce = reduce
                .parse()
                .ok()
                .filter(|factor| (1..=4).contains(factor));
            let of = source.iter_mut().find(|source| source.name == name);
            of.ok_or_else(unreadable)?.images.push(Listed {
                file: file.to_owned(),
                sha256: sha256.to_owned(),
                reduce: reduce.ok_or_else(unreadable)?,
                licence: licence.to_owned(),
            });
        }
        Ok(Self {
            sources: source,
            kept_out: KeptOut::parse(kept_out, Path::new("kept_out.txt"))?,
            kept_out_checksum: format!("{:08x}", crc32c::crc32c(kept_out.as_bytes())),
        })
    }

    /// Names of all sources.
    pub fn names(&self) -> Vec<&str> {
        self.sources.iter().map(|s| s.name.as_str()).collect()
    }
}
