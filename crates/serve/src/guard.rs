//! What every request passes: who may send it, and the headers of every answer.

use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State as Shared};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::State;
use crate::options::Access;
use crate::refusal::Refusal;

/// Headers of every answer. Nothing but the page's own files runs or is loaded by it.
const HEADERS: [(HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
    (header::CACHE_CONTROL, "no-store"),
];

/// Refuses requests that may not be sent, counts answers, and adds the headers.
pub(crate) async fn guard(
    Shared(state): Shared<Arc<State>>,
    request: Request,
    next: Next,
) -> Response {
    let method = request.method().clone();
    let matched = request.extensions().get::<MatchedPath>();
    let path = matched.map_or("other", |path| path.as_str()).to_owned();
    let checked = check(&state.access, request.uri().path(), request.headers());
    let mut response = match checked {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    };
    // Whatever else is sent as a method is not a label.
    let method = match method.as_str() {
        known @ ("GET" | "HEAD" | "POST" | "DELETE") => known,
        _ => "other",
    };
    let status = response.status().as_u16();
    state.engine.metrics.count_request(method, &path, status);
    for (name, value) in HEADERS {
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    response
}

fn check(access: &Access, path: &str, headers: &HeaderMap) -> Result<(), Refusal> {
    let text = |name| headers.get(name).map(HeaderValue::as_bytes);
    match access {
        Access::Everyone => Ok(()),
        Access::ThisComputer => check_origin(text(header::HOST), text(header::ORIGIN)),
        Access::Token(token) => {
            let is_secret = path.starts_with("/v1/") || path == "/metrics";
            let sent = text(header::AUTHORIZATION).unwrap_or_default();
            let sent = sent.strip_prefix(b"Bearer ").unwrap_or_default();
            if is_secret && !token.is(sent) {
                let message = "expected the token, as in the header authorization: Bearer TOKEN";
                return Err(Refusal::new(
                    StatusCode::UNAUTHORIZED,
                    "unauthorized",
                    message,
                ));
            }
            Ok(())
        }
    }
}

/// Refuses requests of pages of other sites, which a browser sends to this computer as well: by their origin,
/// or by the name of a host that the site has pointed here.
fn check_origin(host: Option<&[u8]>, origin: Option<&[u8]>) -> Result<(), Refusal> {
    let forbidden = |message: &str| Err(Refusal::new(StatusCode::FORBIDDEN, "forbidden", message));
    let host = host.and_then(|host| std::str::from_utf8(host).ok());
    let host = host.unwrap_or_default();
    let is_port = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let name = match host.rsplit_once(':') {
        Some((name, port)) if is_port(port) => name,
        _ => host,
    };
    if !matches!(name, "localhost" | "127.0.0.1" | "[::1]") {
        return forbidden(
            "the host is not this computer; expected localhost, 127.0.0.1 or [::1], or a server with \
             --token-file or --no-token",
        );
    }
    match origin {
        Some(origin) if origin != format!("http://{host}").as_bytes() => {
            forbidden("pages of other sites may not send requests")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_of_this_computer_may_send_requests() {
        let is_allowed = |host: &str, origin: Option<&str>| {
            check_origin(Some(host.as_bytes()), origin.map(str::as_bytes)).is_ok()
        };
        for host in [
            "localhost",
            "localhost:8080",
            "127.0.0.1:80",
            "[::1]:8080",
            "[::1]",
        ] {
            assert!(is_allowed(host, None), "{host}");
            assert!(is_allowed(host, Some(&format!("http://{host}"))), "{host}");
            for origin in [
                "null",
                "http://example.org",
                "https://localhost.example.org",
                "",
            ] {
                assert!(!is_allowed(host, Some(origin)), "{host}, {origin}");
            }
        }
        for host in [
            "",
            "example.org",
            "example.org:8080",
            "localhost.example.org",
            "127.0.0.1.example.org",
        ] {
            assert!(!is_allowed(host, None), "{host}");
        }
        assert!(check_origin(None, None).is_err());
    }
}
