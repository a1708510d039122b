//! The image in a request's body: raw, or the one file of a form.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use futures_util::{StreamExt, stream};
use tokio::time::{Instant, timeout};

use crate::State;
use crate::connection::Patience;
use crate::engine::Upload;
use crate::held::Reservation;
use crate::refusal::Refusal;

/// The name of an image without one, in messages.
const NAMELESS: &str = "the image";
/// How soon to try again when memory is short.
const MEMORY_RETRY: Duration = Duration::from_secs(5);

/// Receives the image of a body, and reserves its memory.
pub(crate) async fn receive(
    state: &State,
    headers: &HeaderMap,
    body: Body,
) -> Result<(Upload, Reservation), Refusal> {
    let boundary = check_head(state, headers)?;
    let (bytes, mut reservation) = receive_bytes(state, body).await?;
    let upload = match boundary {
        Some(boundary) => {
            // The file is copied from its form.
            reserve(state, &mut reservation, bytes.len() as u64)?;
            file_of_form(bytes, boundary).await?
        }
        None => Upload {
            name: NAMELESS.to_owned(),
            bytes,
        },
    };
    Ok((upload, reservation))
}

fn text_of(headers: &HeaderMap, name: HeaderName) -> &str {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default()
}

/// Refuses bodies by the head of their request. Returns the boundary of a form.
fn check_head(state: &State, headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let max_bytes = state.limits().max_body_bytes;
    let length = text_of(headers, header::CONTENT_LENGTH).parse::<u64>();
    if length.is_ok_and(|length| length > max_bytes) {
        return Err(Refusal::body_too_large(max_bytes));
    }
    let unsupported = |message: String| {
        Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_format",
            message,
        )
    };
    let coding = text_of(headers, header::CONTENT_ENCODING);
    if !matches!(coding, "" | "identity") {
        let message =
            format!("content-encoding {coding} is not supported; send the image as it is");
        return Err(unsupported(message));
    }
    let content_type = text_of(headers, header::CONTENT_TYPE);
    if let Ok(boundary) = multer::parse_boundary(content_type) {
        return Ok(Some(boundary));
    }
    // The bytes decide the format. Curl sends the type of forms with --data-binary.
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    let is_raw = matches!(
        kind,
        "" | "application/octet-stream" | "application/x-www-form-urlencoded"
    );
    if !is_raw && !kind.starts_with("image/") {
        return Err(unsupported(format!(
            "expected an image (content-type image/... or application/octet-stream) or multipart/form-data, found \
             {kind}"
        )));
    }
    Ok(None)
}

async fn receive_bytes(state: &State, body: Body) -> Result<(Vec<u8>, Reservation), Refusal> {
    let limits = state.limits();
    let mut patience = Patience::new(limits.client_timeout);
    let mut stream = body.into_data_stream();
    let mut bytes = Vec::new();
    let mut reservation = state.held.nothing();
    loop {
        let started = Instant::now();
        let Ok(chunk) = timeout(patience.left, stream.next()).await else {
            let message = "the body arrives too slowly";
            return Err(Refusal::new(
                StatusCode::REQUEST_TIMEOUT,
                "too_slow",
                message,
            ));
        };
        let Some(chunk) = chunk else {
            return Ok((bytes, reservation));
        };
        let chunk = chunk.map_err(|error| {
            let message = format!("the body cannot be read: {error}");
            Refusal::new(StatusCode::BAD_REQUEST, "bad_body", message)
        })?;
        if (bytes.len() + chunk.len()) as u64 > limits.max_body_bytes {
            return Err(Refusal::body_too_large(limits.max_body_bytes));
        }
        patience.count(started.elapsed(), chunk.len());
        reserve(state, &mut reservation, chunk.len() as u64)?;
        bytes.extend_from_slice(&chunk);
    }
}

/// Reserves memory, for which results of jobs are forgotten, the oldest first.
pub(crate) fn reserve(
    state: &State,
    reservation: &mut Reservation,
    bytes: u64,
) -> Result<(), Refusal> {
    while !reservation.grow(bytes) {
        if !state.jobs.drop_oldest_result() {
            let message = "bodies and results of other requests take all memory; try again later";
            return Err(Refusal::busy(message, MEMORY_RETRY));
        }
    }
    Ok(())
}

async fn file_of_form(bytes: Vec<u8>, boundary: String) -> Result<Upload, Refusal> {
    let body = stream::iter([Ok::<_, std::convert::Infallible>(Bytes::from(bytes))]);
    let mut form = multer::Multipart::new(body, boundary);
    let wrong =
        |error: multer::Error| Refusal::invalid(format!("the form cannot be read: {error}"));
    let mut found = None;
    while let Some(field) = form.next_field().await.map_err(wrong)? {
        let Some(name) = field.file_name().map(str::to_owned) else {
            let name = field.name().unwrap_or_default();
            let message = format!(
                "the field \"{name}\" of the form is no file; parameters are given in the URL"
            );
            return Err(Refusal::invalid(message));
        };
        if found.is_some() {
            return Err(Refusal::invalid(
                "expected one file in the form, found more",
            ));
        }
        let bytes = field.bytes().await.map_err(wrong)?;
        found = Some(Upload {
            name: name_in_messages(&name),
            bytes: bytes.into(),
        });
    }
    found.ok_or_else(|| Refusal::invalid("expected one file in the form, found none"))
}

/// A name that a client gives, for messages: without folders, control characters, or great length.
fn name_in_messages(name: &str) -> String {
    let name = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let name: String = name.chars().filter(|c| !c.is_control()).take(100).collect();
    match name.is_empty() {
        true => NAMELESS.to_owned(),
        false => name,
    }
}
