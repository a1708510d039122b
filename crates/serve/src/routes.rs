//! The routes, and what answers them.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, RawQuery, State as Shared};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post};
use axum::{Router, middleware};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use wdsr_request::{Networks, ResultHead, UpscaleRequest, Upscaled, media_type};

use crate::engine::{Streamed, Upload};
use crate::guard::guard;
use crate::held::{HeldBytes, Reservation};
use crate::jobs::{JobResult, Jobs, Status};
use crate::metrics::resident_bytes;
use crate::openapi;
use crate::parts;
use crate::refusal::Refusal;
use crate::upload::{receive, reserve};
use crate::{State, page};

type App = Arc<State>;
type Answer = Result<Response, Refusal>;

/// A route, as it is served and documented.
pub(crate) struct Route {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    pub(crate) summary: &'static str,
    /// Whether it takes an image and the parameters.
    pub(crate) upscales: bool,
    /// The media type of the answer if all is well.
    pub(crate) answers: &'static str,
    /// Statuses of answers, the good one first.
    pub(crate) statuses: &'static [u16],
    handler: fn() -> MethodRouter<App>,
}

const JSON: &str = "application/json";

/// All routes but those of the page.
pub(crate) const ROUTES: &[Route] = &[
    Route {
        method: "post",
        path: "/v1/upscale",
        summary: "Upscale an image and answer the result.",
        upscales: true,
        answers: "image/*",
        statuses: &[200, 400, 401, 403, 408, 413, 415, 422, 429, 500, 503],
        handler: || post(upscale),
    },
    Route {
        method: "post",
        path: "/v1/stream",
        summary: "Upscale an image and answer the result while it is computed, if that is a PNG; other results are answered \
                  as by /v1/upscale. An error after the first bytes breaks the connection.",
        upscales: true,
        answers: "image/*",
        statuses: &[200, 400, 401, 403, 408, 413, 415, 422, 429, 500, 503],
        handler: || post(upscale_stream),
    },
    Route {
        method: "post",
        path: "/v1/jobs",
        summary: "Start upscaling an image, whose result is fetched later.",
        upscales: true,
        answers: JSON,
        statuses: &[202, 400, 401, 403, 408, 413, 415, 422, 429, 500, 503],
        handler: || post(create_job),
    },
    Route {
        method: "get",
        path: "/v1/jobs/{id}",
        summary: "The status of a job.",
        upscales: false,
        answers: JSON,
        statuses: &[200, 401, 403, 404],
        handler: || get(job_status),
    },
    Route {
        method: "delete",
        path: "/v1/jobs/{id}",
        summary: "Cancel a job, and forget its result.",
        upscales: false,
        answers: "",
        statuses: &[204, 401, 403, 404],
        handler: || delete(delete_job),
    },
    Route {
        method: "get",
        path: "/v1/jobs/{id}/events",
        summary: "The status of a job whenever it changes, as server-sent events, until the job ends.",
        upscales: false,
        answers: "text/event-stream",
        statuses: &[200, 401, 403, 404],
        handler: || get(job_events),
    },
    Route {
        method: "get",
        path: "/v1/jobs/{id}/result",
        summary: "The result of a job.",
        upscales: false,
        answers: "image/*",
        statuses: &[200, 401, 403, 404, 409, 413, 415, 422, 500, 503],
        handler: || get(job_result),
    },
    Route {
        method: "get",
        path: "/v1/models",
        summary: "The built-in models, and what they run on.",
        upscales: false,
        answers: JSON,
        statuses: &[200, 401, 403],
        handler: || get(models),
    },
    Route {
        method: "get",
        path: "/healthz",
        summary: "Whether the server runs.",
        upscales: false,
        answers: "text/plain",
        statuses: &[200, 403],
        handler: || get(async || "ok\n"),
    },
    Route {
        method: "get",
        path: "/readyz",
        summary: "Whether the server takes images now.",
        upscales: false,
        answers: "text/plain",
        statuses: &[200, 403, 429, 503],
        handler: || get(ready),
    },
    Route {
        method: "get",
        path: "/metrics",
        summary: "Counters and gauges for Prometheus.",
        upscales: false,
        answers: "text/plain",
        statuses: &[200, 401, 403],
        handler: || get(metrics),
    },
    Route {
        method: "get",
        path: "/openapi.json",
        summary: "This document.",
        upscales: false,
        answers: JSON,
        statuses: &[200, 403],
        handler: || get(async || json_response(StatusCode::OK, &openapi::document())),
    },
];

/// Serves the routes and the page.
pub(crate) fn router(state: App) -> Router {
    let mut router = page::router();
    for route in ROUTES {
        router = router.route(route.path, (route.handler)());
    }
    let missing = |status, message| Refusal::new(status, "not_found", message);
    router
        .fallback(move || async move {
            missing(
                StatusCode::NOT_FOUND,
                "there is no such address; see /openapi.json",
            )
        })
        .method_not_allowed_fallback(move || async move {
            missing(
                StatusCode::METHOD_NOT_ALLOWED,
                "this address has no such method; see /openapi.json",
            )
        })
        .layer(middleware::from_fn_with_state(state.clone(), guard))
        .with_state(state)
}

fn json_response(status: StatusCode, json: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, JSON)], json.to_string()).into_response()
}

/// Most bytes of a header.
const MAX_HEADER_BYTES: usize = 4096;

/// JSON as a header: in ASCII, and empty if it is too long.
fn header_of(json: &Value) -> HeaderValue {
    let mut text = String::new();
    for c in json.to_string().chars() {
        if c.is_ascii() {
            text.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                text += &format!("\\u{unit:04x}");
            }
        }
    }
    let fits = text.len() <= MAX_HEADER_BYTES;
    let header = fits.then(|| HeaderValue::from_str(&text).ok()).flatten();
    header.unwrap_or(HeaderValue::from_static("[]"))
}

fn image_response(file: impl Into<Body>, head: &ResultHead) -> Response {
    let ResultHead {
        format,
        report,
        warnings,
    } = head;
    let name = format!("inline; filename=\"upscaled.{}\"", format.extension());
    let mut response = file.into().into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(media_type(*format)),
    );
    if let Ok(name) = HeaderValue::from_str(&name) {
        headers.insert(header::CONTENT_DISPOSITION, name);
    }
    headers.insert("wdsr-report", header_of(report));
    if !warnings.is_empty() {
        headers.insert("wdsr-warnings", header_of(&warnings.as_slice().into()));
    }
    response
}

/// The bytes of a file, which count as held memory until they are dropped.
fn held(state: &State, file: Vec<u8>) -> Result<Bytes, Refusal> {
    let mut reservation = state.held.nothing();
    reserve(state, &mut reservation, file.len() as u64)?;
    Ok(Bytes::from_owner(HeldBytes::new(file, reservation)))
}

async fn upscale(
    Shared(state): Shared<App>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let (request, upload, _reservation) = receive_image(&state, query, &headers, body).await?;
    let place = state.engine.enter()?;
    let result = state
        .engine
        .upscale(place, request, upload, |_, _| {})
        .await?;
    whole_response(&state, result)
}

fn whole_response(state: &State, result: Upscaled) -> Answer {
    let Upscaled { file, head } = result;
    Ok(image_response(held(state, file)?, &head))
}

async fn upscale_stream(
    Shared(state): Shared<App>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let (request, upload, mut reservation) = receive_image(&state, query, &headers, body).await?;
    reserve(&state, &mut reservation, parts::HELD_BYTES)?;
    let place = state.engine.enter()?;
    match state.engine.stream(place, request, upload).await? {
        Streamed::Parts {
            head,
            first,
            parts,
            work,
        } => {
            let body = parts::body(first, parts, work, reservation);
            Ok(image_response(body, &head))
        }
        Streamed::Whole(result) => whole_response(&state, result),
    }
}

/// The image and the parameters of a request.
async fn receive_image(
    state: &State,
    query: Option<String>,
    headers: &HeaderMap,
    body: Body,
) -> Result<(UpscaleRequest, Upload, Reservation), Refusal> {
    let request = UpscaleRequest::of_query(&query.unwrap_or_default(), state.limits().settings())?;
    // Without waiting for a body that will be refused.
    drop(state.engine.enter()?);
    let (upload, reservation) = receive(state, headers, body).await?;
    Ok((request, upload, reservation))
}

async fn create_job(
    Shared(state): Shared<App>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let (request, upload, reservation) = receive_image(&state, query, &headers, body).await?;
    let place = state.engine.enter()?;
    let id = Jobs::new_id()?;
    let (status, _) = watch::channel(Status::Queued);
    let (app, job_id, job_status) = (state.clone(), id.clone(), status.clone());
    let work = async move {
        let progress_status = job_status.clone();
        let progress = move |done: usize, total: usize| {
            let thousandths = (done as u128 * 1000 / total as u128) as u16;
            progress_status.send_if_modified(|status| {
                let is_new = !matches!(status, Status::Running(shown) if *shown >= thousandths);
                if is_new && !status.has_ended() {
                    *status = Status::Running(thousandths);
                }
                is_new
            });
        };
        let result = app.engine.upscale(place, request, upload, progress).await;
        drop(reservation);
        let result = result.and_then(|Upscaled { file, head }| {
            let file = held(&app, file)?;
            Ok(Arc::new(JobResult { file, head }))
        });
        job_status.send_replace(result.map_or_else(Status::Failed, Status::Done));
        app.jobs
            .remove_after(&job_id, app.limits().keep_results)
            .await;
    };
    let answer = status.borrow().to_json(&id);
    state
        .jobs
        .add(&id, status, || tokio::spawn(work).abort_handle());
    let mut response = json_response(StatusCode::ACCEPTED, &answer);
    if let Ok(location) = HeaderValue::from_str(&format!("/v1/jobs/{id}")) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

fn status_of(state: &State, id: &str) -> Result<watch::Receiver<Status>, Refusal> {
    state.jobs.status(id).ok_or_else(|| no_job(state))
}

fn no_job(state: &State) -> Refusal {
    let kept_s = state.limits().keep_results.as_secs();
    let message = format!(
        "there is no such job; results are kept for {kept_s} s, and for less if memory is short"
    );
    Refusal::new(StatusCode::NOT_FOUND, "not_found", message)
}

async fn job_status(Shared(state): Shared<App>, Path(id): Path<String>) -> Answer {
    let status = status_of(&state, &id)?;
    let json = status.borrow().to_json(&id);
    Ok(json_response(StatusCode::OK, &json))
}

async fn delete_job(Shared(state): Shared<App>, Path(id): Path<String>) -> Answer {
    match state.jobs.remove(&id) {
        true => Ok(StatusCode::NO_CONTENT.into_response()),
        false => Err(no_job(&state)),
    }
}

async fn job_result(Shared(state): Shared<App>, Path(id): Path<String>) -> Answer {
    let status = status_of(&state, &id)?.borrow().clone();
    match status {
        Status::Done(result) => Ok(image_response(result.file.clone(), &result.head)),
        Status::Failed(refusal) => Err(refusal),
        Status::Cancelled => Err(no_job(&state)),
        Status::Queued | Status::Running(_) => {
            let message = "the job has not ended; see its status or events";
            Err(Refusal::new(StatusCode::CONFLICT, "not_done", message))
        }
    }
}

/// Least time between two events of a job.
const EVENT_INTERVAL: Duration = Duration::from_millis(100);
/// Time without events after which a comment keeps proxies from closing the connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

async fn job_events(Shared(state): Shared<App>, Path(id): Path<String>) -> Answer {
    let mut status = status_of(&state, &id)?;
    status.mark_changed();
    let events = stream::unfold(Some(status), move |status| {
        let id = id.clone();
        async move {
            let mut status = status?;
            let text = match timeout(KEEP_ALIVE, status.changed()).await {
                Err(_nothing_new) => return Some((Ok(Bytes::from(":\n\n")), Some(status))),
                Ok(Err(_forgotten)) => Status::Cancelled.to_json(&id),
                Ok(Ok(())) => status.borrow_and_update().to_json(&id),
            };
            let event = Bytes::from(format!("event: status\ndata: {text}\n\n"));
            let has_ended = status.has_changed().is_err() || status.borrow().has_ended();
            if has_ended {
                return Some((Ok::<_, Infallible>(event), None));
            }
            sleep(EVENT_INTERVAL).await;
            Some((Ok(event), Some(status)))
        }
    });
    let headers = [(header::CONTENT_TYPE, "text/event-stream")];
    Ok((headers, Body::from_stream(events)).into_response())
}

async fn models(Shared(state): Shared<App>) -> Response {
    let limits = state.limits();
    let json = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "device": state.engine.networks.device_name(),
        "has_f16": state.engine.networks.has_f16(),
        "instruction_set": state.engine.networks.isa().to_string(),
        "threads": state.engine.threads(),
        "models": Networks::described(),
        "max_body_bytes": limits.max_body_bytes,
        "max_pixels": limits.max_pixels,
        "max_output_pixels": limits.max_output_pixels,
    });
    json_response(StatusCode::OK, &json)
}

async fn ready(Shared(state): Shared<App>) -> Answer {
    if state.is_stopping() {
        let message = "the server is stopping";
        return Err(Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "stopping",
            message,
        ));
    }
    drop(state.engine.enter()?);
    Ok("ready\n".into_response())
}

async fn metrics(Shared(state): Shared<App>) -> String {
    let engine = &state.engine;
    let mut gauges = vec![
        (
            "wdsr_images_running",
            "Images that are being upscaled.",
            engine.running() as u64,
        ),
        (
            "wdsr_images_waiting",
            "Images that wait for others.",
            engine.waiting() as u64,
        ),
        (
            "wdsr_jobs",
            "Jobs and results that are kept.",
            state.jobs.count() as u64,
        ),
        (
            "wdsr_held_bytes",
            "Bytes of bodies and results.",
            state.held.used_bytes(),
        ),
    ];
    gauges.extend(resident_bytes().map(|bytes| {
        (
            "process_resident_memory_bytes",
            "Memory of the process.",
            bytes,
        )
    }));
    engine.metrics.text(&gauges)
}
