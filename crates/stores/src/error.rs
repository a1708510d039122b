//! Why an object cannot be read or written.

/// An object cannot be read or written. The message is one line, names the object and has no credentials.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The URL is of no store, or has what a store does not take.
    #[error("{shown}: {reason}")]
    Location {
        /// The URL, without credentials.
        shown: String,
        /// What is wrong, and the remedy.
        reason: String,
    },
    /// There is no such object.
    #[error("{shown}: no such object; a folder of objects ends with /")]
    NotFound {
        /// The URL, without credentials.
        shown: String,
    },
    /// The store refuses the credentials, or there are none.
    #[error(
        "{shown}: the store refuses access ({reason}); check the credentials in the environment"
    )]
    Refused {
        /// The URL, without credentials.
        shown: String,
        /// The answer of the store.
        reason: String,
    },
    /// The object has more bytes than are allowed.
    #[error("{shown}: it has {bytes} bytes, allowed are {max_bytes}")]
    TooLarge {
        /// The URL, without credentials.
        shown: String,
        /// Its length.
        bytes: u64,
        /// The limit.
        max_bytes: u64,
    },
    /// A request failed, with all repetitions.
    #[error("{shown}: cannot {action}: {reason}")]
    Failed {
        /// The URL, without credentials.
        shown: String,
        /// What was tried: "list", "read" or "write".
        action: &'static str,
        /// The cause.
        reason: String,
    },
    /// The local copy cannot be read or written.
    #[error(
        "{shown}: cannot copy it by way of the folder for temporary files ({source}); TMPDIR names another"
    )]
    Copy {
        /// The URL, without credentials.
        shown: String,
        /// The cause.
        source: std::io::Error,
    },
    /// `flow` stopped the work.
    #[error("{shown}: stopped")]
    Stopped {
        /// The URL, without credentials.
        shown: String,
    },
}

/// The error of a request that `action` describes. `secrets` are texts that may not be shown.
pub(crate) fn of_request(
    error: &object_store::Error,
    shown: &str,
    action: &'static str,
    secrets: &[String],
) -> Error {
    use object_store::Error as Store;
    let shown = shown.to_owned();
    let reason = || reason(error, secrets);
    match error {
        Store::NotFound { .. } => Error::NotFound { shown },
        Store::PermissionDenied { .. } | Store::Unauthenticated { .. } => Error::Refused {
            shown,
            reason: reason(),
        },
        _ => Error::Failed {
            shown,
            action,
            reason: reason(),
        },
    }
}

/// The innermost causes on one line. Answers in XML are reduced to code and message, as the rest may quote what was
/// signed; queries of URLs, which may be signatures, and `secrets` are replaced.
fn reason(error: &object_store::Error, secrets: &[String]) -> String {
    let mut causes = vec![error.to_string()];
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        causes.push(error.to_string());
        cause = error.source();
    }
    let known = ["code: Some", "error sending request"];
    let last = causes.last().map(String::as_str).unwrap_or_default();
    let mut text = causes
        .iter()
        .find(|text| text.contains("<Code>"))
        .and_then(|text| of_xml(text))
        .unwrap_or_else(|| match causes.iter().any(|text| text.contains(known[1])) {
            true => format!("no connection: {last}"),
            false => last.to_owned(),
        });
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        text = text.replace(secret.as_str(), "...");
    }
    without_queries(&text)
}

/// Code and message of an answer of S3 or Azure.
fn of_xml(text: &str) -> Option<String> {
    let between = |tag: &str| {
        let (_, rest) = text.split_once(&format!("<{tag}>"))?;
        Some(rest.split_once("</")?.0.to_owned())
    };
    let code = between("Code")?;
    Some(match between("Message") {
        Some(message) => format!("{code}: {message}"),
        None => code,
    })
}

/// A text on one line, its URLs without user names and queries.
fn without_queries(text: &str) -> String {
    const ENDS: [char; 6] = [')', '"', '\'', '>', '<', ','];
    let word = |word: &str| {
        let Some(at) = word.find("://") else {
            return word.to_owned();
        };
        let (scheme, rest) = word.split_at(at + 3);
        let (url, end) = rest.split_at(rest.find(ENDS).unwrap_or(rest.len()));
        let url = url.split(['?', '#']).next().unwrap_or_default();
        let (host, path) = url.split_at(url.find('/').unwrap_or(url.len()));
        let host = host.rsplit('@').next().unwrap_or_default();
        format!("{scheme}{host}{path}{end}")
    };
    let words: Vec<String> = text.split_whitespace().map(word).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_have_no_credentials() {
        for (text, expected) in [
            (
                "error for url (https://me:word@host/a.png?X-Sig=abc): reset",
                "error for url (https://host/a.png): reset",
            ),
            ("plain\ntext", "plain text"),
            ("http://host?sig=1", "http://host"),
        ] {
            assert_eq!(without_queries(text), expected);
        }
        let answer = "<?xml?><Error><Code>SignatureDoesNotMatch</Code><Message>no</Message>\
                      <StringToSign>secret</StringToSign></Error>";
        assert_eq!(of_xml(answer).as_deref(), Some("SignatureDoesNotMatch: no"));
        let error = object_store::Error::Generic {
            store: "HTTP",
            source: "the token abc is wrong".into(),
        };
        assert_eq!(
            reason(&error, &["abc".to_owned()]),
            "the token ... is wrong"
        );
    }
}
