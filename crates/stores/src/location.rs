//! URLs of objects.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::http::HttpBuilder;
use object_store::path::Path;
use object_store::{ClientOptions, ObjectStore};
use url::Url;

use crate::Error;

/// How long a server may send nothing. The time of a whole transfer has no limit of its own.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// An object, or a prefix that stands for a folder of objects.
#[derive(Clone, Debug)]
pub struct Location {
    pub(crate) shown: String,
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) key: Path,
    /// Of the URL.
    pub(crate) secrets: Vec<String>,
}

impl Location {
    /// Parses a URL, which errors name by `shown`. The key of an S3, Google or Azure object stands in it as it is; the path of an HTTP URL is
    /// percent-encoded.
    ///
    /// # Errors
    /// If the URL is of no store, or the environment does not configure one.
    pub fn parse(url: &str, shown: &str) -> Result<Self, Error> {
        let shown = shown.to_owned();
        let wrong = |reason: String| Error::Location {
            shown: shown.clone(),
            reason,
        };
        let (scheme, rest) = url
            .split_once("://")
            .ok_or_else(|| wrong("expected a URL".to_owned()))?;
        if let "http" | "https" = scheme {
            let parsed = Url::parse(url).map_err(|error| wrong(error.to_string()))?;
            if !parsed.username().is_empty() || parsed.password().is_some() {
                let reason = "user names and passwords in URLs are not used; give a signed URL";
                return Err(wrong(reason.to_owned()));
            }
            let key =
                Path::from_url_path(parsed.path()).map_err(|error| wrong(error.to_string()))?;
            let secrets = parsed.query();
            let mut base = parsed.clone();
            base.set_path("/");
            base.set_fragment(None);
            let store = cached(base.as_str(), || {
                let options = client_options().with_allow_http(scheme == "http");
                let builder = HttpBuilder::new().with_url(base.as_str());
                let store = builder.with_client_options(options).build()?;
                Ok(Arc::new(store) as _)
            });
            return Ok(Self {
                key,
                store: store.map_err(|error| wrong(format!("cannot use it: {error}")))?,
                secrets: secrets.into_iter().map(str::to_owned).collect(),
                shown,
            });
        }
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err(wrong("expected a bucket, as in s3://bucket/key".to_owned()));
        }
        if bucket.contains('@') {
            let reason = "user names and passwords in URLs are not used; give credentials by the environment";
            return Err(wrong(reason.to_owned()));
        }
        let store = cached(&format!("{scheme}://{bucket}"), || {
            Ok(match scheme {
                "s3" => {
                    let builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
                    Arc::new(
                        builder
                            .with_client_options(options_of_store("AWS"))
                            .build()?,
                    ) as _
                }
                "gs" => {
                    let builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(bucket);
                    Arc::new(
                        builder
                            .with_client_options(options_of_store("GOOGLE"))
                            .build()?,
                    ) as _
                }
                "az" => {
                    let builder = MicrosoftAzureBuilder::from_env().with_container_name(bucket);
                    Arc::new(
                        builder
                            .with_client_options(options_of_store("AZURE"))
                            .build()?,
                    ) as _
                }
                _ => {
                    let message = "expected s3, gs, az, http or https";
                    return Err(object_store::Error::Generic {
                        store: "URL",
                        source: message.into(),
                    });
                }
            })
        });
        Ok(Self {
            key: Path::parse(key.trim_end_matches('/'))
                .map_err(|error| wrong(error.to_string()))?,
            store: store.map_err(|error| {
                wrong(format!(
                    "cannot use the store: {error}; see docs/guides/archives.md"
                ))
            })?,
            secrets: Vec::new(),
            shown,
        })
    }
}

fn client_options() -> ClientOptions {
    ClientOptions::new()
        .with_timeout_disabled()
        .with_read_timeout(READ_TIMEOUT)
        .with_connect_timeout(CONNECT_TIMEOUT)
}

/// Options of a store, whose vendor's variable allows HTTP without TLS.
fn options_of_store(vendor: &str) -> ClientOptions {
    let allows = std::env::var(format!("{vendor}_ALLOW_HTTP"));
    let allows = allows.is_ok_and(|value| value == "1" || value.eq_ignore_ascii_case("true"));
    client_options().with_allow_http(allows)
}

/// One client for each store: its connections and credentials serve all objects.
fn cached(
    name: &str,
    build: impl FnOnce() -> object_store::Result<Arc<dyn ObjectStore>>,
) -> object_store::Result<Arc<dyn ObjectStore>> {
    static STORES: Mutex<Option<HashMap<String, Arc<dyn ObjectStore>>>> = Mutex::new(None);
    let mut stores = STORES.lock().unwrap_or_else(PoisonError::into_inner);
    let stores = stores.get_or_insert_default();
    if let Some(store) = stores.get(name) {
        return Ok(store.clone());
    }
    // The only provider that is compiled. It is an error if there is one, which serves as well.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let store = build()?;
    stores.insert(name.to_owned(), store.clone());
    Ok(store)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_no_store_are_refused_by_their_shown_name() {
        for url in [
            "ftp://host/a",
            "s3:///a",
            "s3://me:word@bucket/a",
            "s3://bucket/../a",
        ] {
            let error = Location::parse(url, "shown").expect_err(url).to_string();
            assert!(error.starts_with("shown: "), "{error}");
            assert!(!error.contains("me:word"), "{error}");
        }
    }
}
