//! Jobs: status, events, results, cancelling, forgetting.

use std::time::Duration;

use serde_json::Value;
use wdsr_image::Colour;
use wdsr_serve::Limits;

use super::{Running, image, json, png, refusal, small};

/// Starts a job and returns its path.
fn start(server: &Running, query: &str, file: &[u8]) -> String {
    let answer = server.request(&format!("POST /v1/jobs?{query}"), file);
    assert_eq!(answer.status, 202, "{}", answer.text());
    let path = answer.header("location").to_owned();
    assert_eq!(
        format!("/v1/jobs/{}", json(&answer)["id"].as_str().expect("an id")),
        path
    );
    path
}

/// The statuses of a job until it ends.
fn events(server: &Running, path: &str) -> Vec<Value> {
    let answer = server.request(&format!("GET {path}/events"), b"");
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (200, "text/event-stream")
    );
    let text = answer.text();
    let events = text.split("\n\n").filter(|event| !event.is_empty());
    let data = events.map(|event| {
        event
            .strip_prefix("event: status\ndata: ")
            .expect("an event")
    });
    data.map(|data| serde_json::from_str(data).expect("JSON"))
        .collect()
}

#[test]
fn a_job_reports_its_progress_and_keeps_its_result() {
    let server = Running::start(Limits::default());
    let file = png(&image(400, 300, Colour::Rgb));
    let path = start(&server, "model=small&scale=2", &file);
    let events = events(&server, &path);
    let last = events.last().expect("events");
    assert_eq!(
        (&last["status"], &last["report"]["width_px"]),
        (&"done".into(), &800.into()),
        "{last}"
    );
    let progress = Vec::from_iter(events.iter().filter_map(|event| event["progress"].as_f64()));
    assert!(
        progress.is_sorted() && progress.len() == events.len(),
        "{progress:?}"
    );
    let direct = server.upscale("model=small&scale=2", &file);
    for _ in 0..2 {
        let result = server.request(&format!("GET {path}/result"), b"");
        assert_eq!(
            (result.status, result.header("content-type")),
            (200, "image/png")
        );
        assert!(result.body == direct.body);
    }
    assert_eq!(
        json(&server.request(&format!("GET {path}"), b""))["status"],
        "done"
    );
    assert!(server.metric("wdsr_held_bytes") >= direct.body.len() as f64);
    assert_eq!(server.request(&format!("DELETE {path}"), b"").status, 204);
    server.wait_for("wdsr_held_bytes", 0.0);
    for request in [
        format!("GET {path}"),
        format!("GET {path}/result"),
        format!("DELETE {path}"),
    ] {
        assert_eq!(refusal(&server.request(&request, b"")).0, 404, "{request}");
    }
}

#[test]
fn a_failed_job_tells_why() {
    let server = Running::start(Limits::default());
    let path = start(&server, "", b"no image");
    let last = events(&server, &path).pop().expect("events");
    assert_eq!(
        (&last["status"], &last["error"]["code"]),
        (&"failed".into(), &"unsupported_format".into())
    );
    let (status, code, message) = refusal(&server.request(&format!("GET {path}/result"), b""));
    assert_eq!((status, &*code), (415, "unsupported_format"));
    assert!(
        message.starts_with("the image is not an image that can be read"),
        "{message}"
    );
    // Wrong parameters are found before there is a job.
    assert_eq!(
        server.request("POST /v1/jobs?scale=5", &small()).status,
        422
    );
}

#[test]
fn a_cancelled_job_stops_and_its_events_end() {
    let server = Running::start(Limits {
        concurrency: 1,
        ..Limits::default()
    });
    let large = png(&image(1500, 1500, Colour::Rgb));
    let paths = [(); 2].map(|()| start(&server, "model=base&scale=4", &large));
    server.wait_for("wdsr_images_running", 1.0);
    let (status, code, _) = refusal(&server.request(&format!("GET {}/result", paths[0]), b""));
    assert_eq!((status, &*code), (409, "not_done"));
    let mut listener = server.connect();
    listener
        .send_head(&format!("GET {}/events", paths[0]), &[])
        .expect("sent");
    listener.receive_head().expect("an answer");
    listener.chunk().expect("an event");
    // The one that waits first.
    for path in paths.iter().rev() {
        assert_eq!(server.request(&format!("DELETE {path}"), b"").status, 204);
    }
    server.wait_for("wdsr_images_running", 0.0);
    let mut last = Vec::new();
    while let Some(chunk) = listener.chunk().expect("an event") {
        last = chunk;
    }
    let last = String::from_utf8_lossy(&last).into_owned();
    assert!(last.contains("\"status\":\"cancelled\""), "{last}");
    assert_eq!(server.metric("wdsr_jobs"), 0.0);
}

#[test]
fn results_are_forgotten_after_some_time_and_when_memory_is_short() {
    let server = Running::start(Limits {
        keep_results: Duration::from_millis(300),
        ..Limits::default()
    });
    let path = start(&server, "model=small", &small());
    assert_eq!(
        events(&server, &path).last().expect("events")["status"],
        "done"
    );
    server.wait_for("wdsr_jobs", 0.0);
    server.wait_for("wdsr_held_bytes", 0.0);

    let result_bytes = server
        .upscale("model=small&compression=none", &small())
        .body
        .len() as u64;
    let max_held_bytes = 2 * result_bytes + 100;
    let server = Running::start(Limits {
        max_held_bytes,
        ..Limits::default()
    });
    let paths = [(); 3].map(|()| {
        let path = start(&server, "model=small&compression=none", &small());
        assert_eq!(
            events(&server, &path).last().expect("events")["status"],
            "done"
        );
        path
    });
    let statuses = paths.map(|path| server.request(&format!("GET {path}/result"), b"").status);
    assert_eq!(statuses, [404, 200, 200]);
}
