//! Paths and URLs: files of this computer, and objects of stores.
//!
//! A path that starts with `s3://`, `gs://`, `az://`, `http://` or `https://` is the URL of an object. What reads or writes
//! files by path goes through this module, so that objects can stand wherever files do.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Seek};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use wdsr_atomic_file::AtomicFile;
use wdsr_image::{Limits, Reader};

use crate::Error;

/// URLs with credentials, by the URLs without, which stand for them everywhere.
static WITH_CREDENTIALS: Mutex<Option<HashMap<PathBuf, String>>> = Mutex::new(None);

/// Four channels of f32.
const MAX_BYTES_PER_PIXEL: u64 = 16;
/// Metadata and headers.
const MAX_OTHER_BYTES: u64 = 64 << 20;

/// Says from time to time whether the work goes on.
pub type Flow<'a> = &'a dyn Fn() -> ControlFlow<()>;

fn url(path: &Path) -> Option<&str> {
    let text = path.to_str()?;
    let (scheme, _) = text.split_once("://")?;
    matches!(scheme, "s3" | "gs" | "az" | "http" | "https").then_some(text)
}

/// Whether a path is the URL of an object.
pub fn is_url(path: &Path) -> bool {
    url(path).is_some()
}

/// Whether a path is the URL of a file of an HTTP server, which is only read.
pub fn is_http(path: &Path) -> bool {
    url(path).is_some_and(|url| url.starts_with("http"))
}

/// A path as a user gave it, without the user name, password and query of a URL, which may be credentials. This
/// process remembers them for the path that is returned, so that no message, report or manifest has them.
pub fn place(path: impl Into<OsString>) -> PathBuf {
    let path = PathBuf::from(path.into());
    let Some(url) = url(&path) else { return path };
    let shown = PathBuf::from(without_credentials(url));
    if shown != path {
        let mut known = WITH_CREDENTIALS
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let known = known.get_or_insert_default();
        known.insert(shown.clone(), url.to_owned());
    }
    shown
}

/// A URL without user name, password, query and fragment. Keys of stores, which may contain `?` and `#`, stay whole.
fn without_credentials(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (host, mut path) = rest.split_at(end);
    let host = host.rsplit('@').next().unwrap_or_default();
    if let "http" | "https" = scheme {
        path = path.split(['?', '#']).next().unwrap_or_default();
    }
    format!("{scheme}://{host}{path}")
}

/// Whether a path is that of a folder: there is one, or it is a URL that ends with a slash or has only a bucket.
pub fn is_folder(path: &Path) -> bool {
    match url(path) {
        Some(url) => url.ends_with('/') || !is_http(path) && url.matches('/').count() == 2,
        None => path.is_dir(),
    }
}

/// Whether there is a file, link or object of a name.
///
/// # Errors
/// If the store does not answer.
pub fn exists(path: &Path) -> Result<bool, Error> {
    Ok(match is_url(path) {
        true => find(path)?.is_some(),
        false => path.symlink_metadata().is_ok(),
    })
}

/// An object of a store.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
    pub(crate) note: Option<String>,
}

#[cfg(feature = "stores")]
mod objects {
    use super::*;
    use wdsr_stores::{Found, Location};

    /// The flow of requests that are short.
    const GO_ON: Flow<'static> = &|| ControlFlow::Continue(());

    fn location(path: &Path) -> Result<Location, Error> {
        let known = WITH_CREDENTIALS
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let known = known.as_ref().and_then(|known| known.get(path));
        let url = known.map_or_else(|| path.to_string_lossy(), |url| url.as_str().into());
        Ok(Location::parse(&url, &path.to_string_lossy())?)
    }

    fn object(found: Found) -> Object {
        Object {
            path: found.url,
            bytes: found.bytes,
            note: found.note,
        }
    }

    pub(crate) fn list(folder: &Path, recursive: bool) -> Result<Vec<Object>, Error> {
        let found = wdsr_stores::list(&location(folder)?, recursive, GO_ON)?;
        Ok(found.into_iter().map(object).collect())
    }

    pub(crate) fn find(path: &Path) -> Result<Option<Object>, Error> {
        Ok(wdsr_stores::find(&location(path)?, GO_ON)?.map(object))
    }

    pub(crate) fn fetch(
        path: &Path,
        max_bytes: u64,
        file: &File,
        flow: Flow<'_>,
    ) -> Result<(), Error> {
        Ok(wdsr_stores::fetch(&location(path)?, max_bytes, file, flow)?)
    }

    pub(crate) fn store(
        file: &File,
        path: &Path,
        note: Option<&str>,
        flow: Flow<'_>,
    ) -> Result<(), Error> {
        Ok(wdsr_stores::store(file, &location(path)?, note, flow)?)
    }
}

#[cfg(not(feature = "stores"))]
mod objects {
    use super::*;

    pub(crate) fn list(folder: &Path, _: bool) -> Result<Vec<Object>, Error> {
        Err(Error::WithoutStores {
            path: folder.to_owned(),
        })
    }

    pub(crate) fn find(path: &Path) -> Result<Option<Object>, Error> {
        Err(Error::WithoutStores {
            path: path.to_owned(),
        })
    }

    pub(crate) fn fetch(path: &Path, _: u64, _: &File, _: Flow<'_>) -> Result<(), Error> {
        Err(Error::WithoutStores {
            path: path.to_owned(),
        })
    }

    pub(crate) fn store(_: &File, path: &Path, _: Option<&str>, _: Flow<'_>) -> Result<(), Error> {
        Err(Error::WithoutStores {
            path: path.to_owned(),
        })
    }
}

use objects::{fetch, store};
pub(crate) use objects::{find, list};

/// A local copy of an object, or the place of a result before it is stored. It is removed when it is dropped, and
/// by [`wdsr_atomic_file::remove_unpublished`].
fn temporary(path: &Path) -> Result<AtomicFile, Error> {
    let folder = std::env::temp_dir();
    AtomicFile::create(&folder.join("object")).map_err(|source| Error::Temporary {
        path: path.to_owned(),
        folder,
        source,
    })
}

/// Opens an image: a file, or an object, which is copied into the folder for temporary files first. Errors name it by
/// `path`. An object may have 16 bytes for each pixel that `limits`
/// allow, and 64 MiB more; `flow` stops its copy.
///
/// # Errors
/// If it cannot be read.
pub fn open(path: &Path, limits: &Limits, flow: Flow<'_>) -> Result<Opened, Error> {
    if !is_url(path) {
        let reader = Reader::open(path, limits)?;
        return Ok(Opened {
            reader,
            bytes: fs::metadata(path).map_or(0, |file| file.len()),
            _copy: None,
        });
    }
    let copy = temporary(path)?;
    let max_bytes = limits.max_pixels.saturating_mul(MAX_BYTES_PER_PIXEL);
    fetch(
        path,
        max_bytes.saturating_add(MAX_OTHER_BYTES),
        copy.as_file(),
        flow,
    )?;
    let handle = || {
        let mut file = copy.as_file().try_clone()?;
        file.rewind()?;
        let bytes = file.metadata()?.len();
        Ok((file, bytes))
    };
    let (file, bytes) = handle().map_err(|source: io::Error| Error::Temporary {
        path: path.to_owned(),
        folder: std::env::temp_dir(),
        source,
    })?;
    let reader = Reader::from_file(file, path, limits)?;
    Ok(Opened {
        reader,
        bytes,
        _copy: Some(copy),
    })
}

/// An image that is open.
pub struct Opened {
    /// Its reader.
    pub reader: Reader,
    /// Length of its file.
    pub bytes: u64,
    _copy: Option<AtomicFile>,
}

/// Where to write the file of a result: its own path, or a path in the folder for temporary files if it is an object.
pub fn local_target(target: &Path) -> PathBuf {
    match is_url(target) {
        true => std::env::temp_dir().join("object"),
        false => target.to_owned(),
    }
}

/// Creates the folder of a target, if that is a file.
///
/// # Errors
/// If that fails.
pub fn create_folder_of(target: &Path) -> Result<(), Error> {
    let folder = target
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let Some(folder) = folder.filter(|_| !is_url(target)) else {
        return Ok(());
    };
    fs::create_dir_all(folder).map_err(|source| Error::CreateFolder {
        path: folder.to_owned(),
        source,
    })
}

/// Publishes a file that was written to [`local_target`]: it gets its name, or becomes an object. Either is there whole or not at all; `flow` stops the copy of an object.
///
/// # Errors
/// If that fails.
pub fn publish(file: AtomicFile, target: &Path, flow: Flow<'_>) -> Result<(), Error> {
    publish_with(file, target, None, flow)
}

/// [`publish`] with a note for an object.
pub(crate) fn publish_with(
    file: AtomicFile,
    target: &Path,
    note: Option<&str>,
    flow: Flow<'_>,
) -> Result<(), Error> {
    if is_url(target) {
        return store(file.as_file(), target, note, flow);
    }
    file.publish().map_err(|source| {
        wdsr_image::Error::Write {
            path: target.to_owned(),
            source,
        }
        .into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_have_no_credentials() {
        for (given, expected) in [
            ("https://me:word@host/a.png?sig=1#x", "https://host/a.png"),
            ("https://host?sig=1", "https://host"),
            ("s3://key:word@bucket/a?b.png", "s3://bucket/a?b.png"),
            ("photo?.png", "photo?.png"),
            ("ftp://me:word@host/a?b", "ftp://me:word@host/a?b"),
        ] {
            assert_eq!(place(given), Path::new(expected));
        }
    }

    #[test]
    fn folders_of_objects_end_with_a_slash_or_are_buckets() {
        for (url, expected) in [
            ("s3://bucket", true),
            ("s3://bucket/a/", true),
            ("s3://bucket/a", false),
            ("https://host", false),
        ] {
            assert_eq!(is_folder(Path::new(url)), expected, "{url}");
        }
    }
}
