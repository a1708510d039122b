//! Answers other than a result: a status, a code for programs, a message for people.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use wdsr_request::Error;

/// Why a request is not fulfilled.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) message: String,
    retry_after: Option<Duration>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            retry_after: None,
        }
    }

    /// A parameter or a body that does not make sense.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_request", message)
    }

    /// More work or memory than the server takes now.
    pub(crate) fn busy(message: impl Into<String>, retry_after: Duration) -> Self {
        Self {
            retry_after: Some(retry_after),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, "busy", message)
        }
    }

    pub(crate) fn body_too_large(max_bytes: u64) -> Self {
        let message = format!("the body is too large; allowed are {max_bytes} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
    }

    pub(crate) fn internal() -> Self {
        let message = "an internal error; the server's log has it";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", message)
    }

    /// Work that took longer than its limit.
    pub(crate) fn timed_out(name: &str, limit: Duration) -> Self {
        let message = format!("{name}: not done within {} s", limit.as_secs_f64());
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "timed_out", message)
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({ "code": self.code, "message": self.message })
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let code = error.code();
        let status = match code {
            "image_too_large" => StatusCode::PAYLOAD_TOO_LARGE,
            "unsupported_format" => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "out_of_memory" | "stopped" | "device_failed" => StatusCode::SERVICE_UNAVAILABLE,
            "internal_error" => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Self::new(status, code, error.to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = self.to_json().to_string();
        let json = [(header::CONTENT_TYPE, "application/json")];
        let mut response = (self.status, json, body).into_response();
        if let Some(time) = self.retry_after {
            let seconds = HeaderValue::from(time.as_secs().max(1));
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let bearer = HeaderValue::from_static("Bearer");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, bearer);
        }
        response
    }
}
