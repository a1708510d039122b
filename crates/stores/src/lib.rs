//! Objects of S3 (`s3://bucket/key`), Google Cloud Storage (`gs://bucket/key`) and Azure (`az://container/key`), and
//! files of HTTP servers (`https://host/path`, which are only read).
//!
//! - A [`Location`] is parsed from a URL, and has a name for errors, as user name, password and query of a URL may be
//!   credentials.
//! - [`list`] lists the objects below a prefix, [`find`] one object with its note, [`fetch`] copies an object into a
//!   file, and [`store`] a file into an object, which appears under its key only when it is complete.
//!
//! Credentials, endpoints and regions of stores come from the environment variables of their vendors
//! (`AWS_ACCESS_KEY_ID`, `GOOGLE_APPLICATION_CREDENTIALS`, `AZURE_STORAGE_ACCOUNT_NAME` and others, as `object_store`
//! reads them) or from the metadata service of the machine. Requests that fail for a reason that may pass (a lost
//! connection, status 429 or 5xx) are repeated up to 10 times within 3 minutes. Memory holds a part of 8 MiB, larger for
//! objects above 80 GB.
//!
//! Calls block, and stop when their `flow` says so.
#![forbid(unsafe_code)]
#![cfg(feature = "client")]

mod error;
mod location;
mod transfer;

pub use error::Error;
pub use location::Location;
pub use transfer::{Flow, Found, fetch, find, list, store};
