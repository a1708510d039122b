//! Requests, and the runtime that runs them.

use std::fs::File;
use std::future::Future;
use std::io::{self, Read, Seek, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, GetOptions, ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions,
};
use tokio::runtime::Runtime;

use crate::error::of_request;
use crate::{Error, Location};

/// Says from time to time whether the work goes on.
pub type Flow<'a> = &'a dyn Fn() -> ControlFlow<()>;

/// How often [`Flow`] is asked while a server is waited for.
const FLOW_EVERY: Duration = Duration::from_millis(100);
/// Objects up to this length are stored by one request, longer ones in parts of it.
const PART_BYTES: u64 = 8 << 20;
/// Most parts of an object.
const MAX_PARTS: u64 = 10_000;
/// The name of the note in an object's metadata.
const NOTE: Attribute = Attribute::Metadata(std::borrow::Cow::Borrowed("wdsr"));

/// An object of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its URL, without credentials.
    pub url: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// What [`store`] noted with it; not of objects that are listed.
    pub note: Option<String>,
}

/// One thread for all requests, which the callers wait for.
fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("the system starts a thread")
    })
}

impl Location {
    /// Runs a request, until `flow` stops it.
    fn run<T>(
        &self,
        flow: Flow<'_>,
        action: &'static str,
        request: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, Error> {
        runtime().block_on(async {
            let mut request = std::pin::pin!(request);
            loop {
                if flow().is_break() {
                    let shown = self.shown.clone();
                    return Err(Error::Stopped { shown });
                }
                if let Ok(done) = tokio::time::timeout(FLOW_EVERY, &mut request).await {
                    return done
                        .map_err(|error| of_request(&error, &self.shown, action, &self.secrets));
                }
            }
        })
    }

    fn copy_failed(&self, source: io::Error) -> Error {
        let shown = self.shown.clone();
        Error::Copy { shown, source }
    }
}

/// The objects below a prefix, sorted by URL; with `recursive` at any depth.
///
/// # Errors
/// If the store does not list them, as servers of HTTP.
pub fn list(location: &Location, recursive: bool, flow: Flow<'_>) -> Result<Vec<Found>, Error> {
    let (store, prefix) = (&location.store, &location.key);
    let prefix = (!prefix.as_ref().is_empty()).then_some(prefix);
    let metas = location.run(flow, "list", async {
        match recursive {
            true => store.list(prefix).try_collect().await,
            false => Ok(store.list_with_delimiter(prefix).await?.objects),
        }
    })?;
    let shown = location.shown.trim_end_matches('/');
    let base = shown.strip_suffix(location.key.as_ref()).unwrap_or(shown);
    let base = base.trim_end_matches('/');
    let mut found: Vec<Found> = metas
        .into_iter()
        .map(|meta| Found {
            url: PathBuf::from(format!("{base}/{}", meta.location)),
            bytes: meta.size,
            note: None,
        })
        .collect();
    found.sort_by(|a, b| a.url.cmp(&b.url));
    Ok(found)
}

/// An object, if there is one.
///
/// # Errors
/// If the store does not answer, or refuses.
pub fn find(location: &Location, flow: Flow<'_>) -> Result<Option<Found>, Error> {
    let options = GetOptions {
        head: true,
        ..GetOptions::default()
    };
    let found = location.run(
        flow,
        "read",
        location.store.get_opts(&location.key, options),
    );
    match found {
        Ok(found) => Ok(Some(Found {
            url: PathBuf::from(&location.shown),
            bytes: found.meta.size,
            note: found.attributes.get(&NOTE).map(|note| note.to_string()),
        })),
        Err(Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Copies an object of at most `max_bytes` into a file.
///
/// # Errors
/// If the object cannot be read or is longer, or the file cannot be written.
pub fn fetch(
    location: &Location,
    max_bytes: u64,
    mut file: &File,
    flow: Flow<'_>,
) -> Result<(), Error> {
    let too_large = |bytes| Error::TooLarge {
        shown: location.shown.clone(),
        bytes,
        max_bytes,
    };
    let found = location.run(flow, "read", location.store.get(&location.key))?;
    if found.meta.size > max_bytes {
        return Err(too_large(found.meta.size));
    }
    let expected = found.meta.size;
    let mut copied = 0;
    let mut chunks = found.into_stream();
    loop {
        let chunk = location.run(flow, "read", async { chunks.next().await.transpose() })?;
        let Some(chunk) = chunk else { break };
        copied += chunk.len() as u64;
        // A server may send more than it said.
        if copied > max_bytes {
            return Err(too_large(copied));
        }
        file.write_all(&chunk)
            .map_err(|error| location.copy_failed(error))?;
    }
    if copied != expected {
        return Err(Error::Failed {
            shown: location.shown.clone(),
            action: "read",
            reason: format!("{copied} bytes came, expected {expected}"),
        });
    }
    Ok(())
}

/// Copies a file, from its start, into an object with a note of at most 1 KiB of ASCII. An object of that key is replaced
/// when the new one is complete; until then, and after an error, it stays.
///
/// A program that is killed amid a large object leaves parts, which no one sees; a lifecycle rule of the bucket removes
/// them.
///
/// # Errors
/// If the object cannot be written, or the file not be read.
pub fn store(
    mut file: &File,
    location: &Location,
    note: Option<&str>,
    flow: Flow<'_>,
) -> Result<(), Error> {
    let failed = |error| location.copy_failed(error);
    file.rewind().map_err(failed)?;
    let bytes = file.metadata().map_err(failed)?.len();
    let mut attributes = Attributes::new();
    if let Some(note) = note {
        attributes.insert(NOTE, note.to_owned().into());
    }
    let part = |length: u64| {
        let mut part = Vec::new();
        file.take(length).read_to_end(&mut part).map_err(failed)?;
        Ok(Bytes::from(part))
    };
    let key: &Path = &location.key;
    if bytes <= PART_BYTES {
        let options = PutOptions {
            attributes,
            ..PutOptions::default()
        };
        let put = location.store.put_opts(key, part(bytes)?.into(), options);
        return location.run(flow, "write", put).map(|_| ());
    }
    let options = PutMultipartOptions {
        attributes,
        ..PutMultipartOptions::default()
    };
    let start = location.store.put_multipart_opts(key, options);
    let mut upload = location.run(flow, "write", start)?;
    // Parts of one length, which some stores ask for.
    let part_bytes = PART_BYTES.max(bytes.div_ceil(MAX_PARTS).next_multiple_of(1 << 20));
    let mut copy = || {
        for _ in 0..bytes.div_ceil(part_bytes) {
            let sent = upload.put_part(part(part_bytes)?.into());
            location.run(flow, "write", sent)?;
        }
        location.run(flow, "write", upload.complete()).map(|_| ())
    };
    copy().inspect_err(|_| {
        // The error that ended the upload matters more than one of the removal.
        let goes_on = || ControlFlow::Continue(());
        let abort = async { Ok(tokio::time::timeout(ABORT_TIMEOUT, upload.abort()).await) };
        let _removed = location.run(&goes_on, "write", abort);
    })
}

/// How long the removal of parts may take.
const ABORT_TIMEOUT: Duration = Duration::from_secs(10);
