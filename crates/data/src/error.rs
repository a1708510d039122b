use std::path::{Path, PathBuf};

/// An error of building or checking a dataset.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file operation failed.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What failed: "read", "write", "create" or "remove".
        action: &'static str,
        /// The system's error.
        source: std::io::Error,
    },
    /// A source to exclude is not known.
    #[error("{name}: unknown source, expected one of {known}")]
    UnknownSource {
        /// Its name.
        name: String,
        /// The known names.
        known: String,
    },
    /// A source's name cannot be a folder name.
    #[error(
        "{}: the source's name is {name:?}, expected letters, digits, '-', '_' and '.', and no '.' at \
         the start",
        folder.display()
    )]
    SourceName {
        /// The source's folder.
        folder: PathBuf,
        /// Its name.
        name: String,
    },
    /// A source is given and excluded.
    #[error("{0}: named by both --from and --without; remove one of them")]
    SourceExcluded(String),
    /// Listed images are missing or have another content.
    #[error(
        "{}: {wrong} of {total} images of {name} are not the expected ones: {first}; get the set \
         again, or exclude it with --without {name}; to use the images unchecked, give them another \
         name with --without {name} --from my-{name}=FOLDER",
        folder.display()
    )]
    UnexpectedImages {
        /// The source's folder.
        folder: PathBuf,
        /// The source's name.
        name: String,
        /// Images that are missing or have another content.
        wrong: usize,
        /// Images expected.
        total: usize,
        /// What is wrong with the first of them.
        first: String,
    },
    /// A Debian package cannot be downloaded or unpacked.
    #[error(
        "{package}: {problem}; where apt-get or dpkg are not available, download the package from \
         https://packages.debian.org/{package}, unpack it (ar x, tar xf data.tar.*) and give --from \
         {package}=FOLDER, or exclude it with --without {package}"
    )]
    Package {
        /// The package's name.
        package: String,
        /// What went wrong.
        problem: PackageProblem,
    },
    /// A file name is not UTF-8.
    #[error("{}: the file name is not UTF-8, which the manifest needs; rename the file", .0.display())]
    NotUtf8(PathBuf),
    /// Two images of a source have the same name in the dataset.
    #[error("{}: another image of this source is also named {name} in the dataset; rename one", path.display())]
    DuplicateName {
        /// The second image.
        path: PathBuf,
        /// The name of both.
        name: String,
    },
    /// No image is left to train on.
    #[error("{}: no image to train on; give --shared or --from", .0.display())]
    NoImages(PathBuf),
    /// A pair has no low-resolution image of its own.
    #[error(
        "{}: no low-resolution image to align; give a folder of pairs, with the scale (-s) and the \
         --track of its low-resolution images",
        .0.display()
    )]
    NothingToAlign(PathBuf),
    /// The folder for aligned pairs has some already.
    #[error(
        "{}: there are aligned images already; remove the folder, or choose another with --out",
        .0.display()
    )]
    AlignedBefore(PathBuf),
    /// A line of a report of an alignment is invalid.
    #[error(
        "{}: line {line}: {source}; expected a report that wdsr data align has written",
        path.display()
    )]
    AlignmentLine {
        /// The report.
        path: PathBuf,
        /// Line number from 1.
        line: usize,
        /// What is invalid.
        source: serde_json::Error,
    },
    /// A line of a list is invalid.
    #[error("{}: line {line}: expected {expected}, found {found:?}", path.display())]
    List {
        /// The list.
        path: PathBuf,
        /// Line number from 1.
        line: usize,
        /// The form of a line.
        expected: &'static str,
        /// The line.
        found: String,
    },
    /// The list of sources is invalid.
    #[error("sources.toml: {0}")]
    Sources(#[from] toml::de::Error),
    /// A line of the manifest is invalid.
    #[error(
        "{}: line {line}: {source}; remove this file to prepare all images again",
        path.display()
    )]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// Line number from 1.
        line: usize,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// An image cannot be read or written.
    #[error(transparent)]
    Image(#[from] wdsr_image::Error),
    /// A folder's pairs cannot be read.
    #[error(transparent)]
    Eval(#[from] wdsr_eval::Error),
}

/// Why a package cannot be downloaded or unpacked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackageProblem {
    /// The program is not installed.
    #[error("{0} is not installed")]
    NotInstalled(&'static str),
    /// The program cannot be started.
    #[error("cannot start {program}: {source}")]
    NotStarted {
        /// The program.
        program: &'static str,
        /// The system's error.
        source: std::io::Error,
    },
    /// The program failed.
    #[error("{program} failed ({status}): {message}{hint}")]
    Failed {
        /// The program.
        program: &'static str,
        /// Its exit status.
        status: std::process::ExitStatus,
        /// The last line of its standard error.
        message: String,
        /// What may help, after "; ".
        hint: &'static str,
    },
    /// The download has no package.
    #[error("apt-get download left no .deb file in {}", .0.display())]
    NoPackage(PathBuf),
}

impl Error {
    pub(crate) fn io(path: &Path, action: &'static str, source: std::io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            action,
            source,
        }
    }
}
