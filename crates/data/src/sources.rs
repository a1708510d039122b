//! Sources of training images.

use std::path::Path;

use serde::Deserialize;

use crate::error::Error;
use crate::kept_out::KeptOut;

const SOURCES: &str = include_str!("lists/sources.toml");
const IMAGES: &str = include_str!("lists/images.tsv");
const KEPT_OUT: &str = include_str!("lists/kept_out.txt");

/// The known sources of training images, and the test-set images that no training may use.
pub struct Sources {
    pub(crate) sources: Vec<Source>,
    pub(crate) kept_out: KeptOut,
    /// Checksum of the list of test-set images. Images that were compared with another list are
    /// prepared again.
    pub(crate) kept_out_checksum: String,
}

/// A set of images.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Source {
    pub(crate) name: String,
    /// Description.
    #[allow(dead_code, reason = "read by people")]
    about: String,
    /// Whether it is a Debian package of the same name.
    #[serde(default)]
    pub(crate) package: bool,
    /// Folder of its images in the published set.
    #[serde(default)]
    pub(crate) subfolder: Option<String>,
    /// Licence of images that are not listed.
    #[serde(default)]
    pub(crate) licence: Option<String>,
    /// Its images; empty if they are not listed.
    #[serde(skip)]
    pub(crate) images: Vec<ListedImage>,
}

/// An image that is known by its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListedImage {
    /// Its path below the source's folder, or the end of that path.
    pub(crate) file: String,
    pub(crate) sha256: String,
    /// Both sides are divided by this.
    pub(crate) reduce: u32,
    pub(crate) licence: String,
}

impl Source {
    /// A source that is not in the list.
    pub(crate) fn new(name: &str) -> Self {
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
    /// The built-in sources.
    pub fn built_in() -> Self {
        let sources = Self::parse(SOURCES, IMAGES, KEPT_OUT);
        sources.unwrap_or_else(|error| unreachable!("built-in lists: {error}"))
    }

    /// Parses the text of `sources.toml`, `images.tsv` and `kept_out.txt`.
    pub(crate) fn parse(sources: &str, images: &str, kept_out: &str) -> Result<Self, Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct File {
            source: Vec<Source>,
        }
        let File { mut source } = toml::from_str(sources)?;
        for (at, line) in images.lines().enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let invalid = || Error::List {
                path: "images.tsv".into(),
                line: at + 1,
                expected: "source, file, SHA-256, factor, licence",
                found: line.to_owned(),
            };
            let [name, file, sha256, reduce, licence] = line
                .split('\t')
                .collect::<Vec<_>>()
                .try_into()
                .map_err(|_| invalid())?;
            let reduce = reduce
                .parse()
                .ok()
                .filter(|factor| (1..=4).contains(factor));
            let of = source.iter_mut().find(|source| source.name == name);
            of.ok_or_else(invalid)?.images.push(ListedImage {
                file: file.to_owned(),
                sha256: sha256.to_owned(),
                reduce: reduce.ok_or_else(invalid)?,
                licence: licence.to_owned(),
            });
        }
        Ok(Self {
            sources: source,
            kept_out: KeptOut::parse(kept_out, Path::new("kept_out.txt"))?,
            kept_out_checksum: checksum_of_entries(kept_out),
        })
    }

    /// The names of all sources.
    pub fn names(&self) -> Vec<&str> {
        self.sources.iter().map(|s| s.name.as_str()).collect()
    }
}

/// CRC-32C of the lines of a list, without comments.
fn checksum_of_entries(list: &str) -> String {
    let lines = list.lines().filter(|line| !line.starts_with('#'));
    let crc = lines.fold(0, |crc, line| {
        crc32c::crc32c_append(crc32c::crc32c_append(crc, line.as_bytes()), b"\n")
    });
    format!("{crc:08x}")
}
