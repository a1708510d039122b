//! A device that computes the networks, and what is answered when it fails.

use std::sync::Arc;

use wdsr_model::{Device, DeviceError, DeviceNetwork, DevicePrecision, Model};
use wdsr_serve::{Access, Limits};

use super::{Running, json, refusal, small};

/// A device that prepares no network.
struct Failing {
    error: DeviceError,
    has_f16: bool,
}

const NAME: &str = "test device";

impl Device for Failing {
    fn name(&self) -> &str {
        NAME
    }

    fn has_f16(&self) -> bool {
        self.has_f16
    }

    fn prepare(
        &self,
        _: &Model,
        _: DevicePrecision,
    ) -> Result<Box<dyn DeviceNetwork>, DeviceError> {
        Err(self.error.clone())
    }

    fn is_optional(&self) -> bool {
        false
    }

    fn warn(&self, _: String) {}

    fn take_warnings(&self) -> Vec<String> {
        Vec::new()
    }
}

fn server(error: DeviceError, has_f16: bool) -> Running {
    let device = Arc::new(Failing { error, has_f16 });
    Running::with(Access::ThisComputer, Some(device), Limits::default())
}

#[test]
fn the_processor_computes_with_a_warning_what_the_memory_of_a_device_does_not_suffice_for() {
    let device = NAME.to_owned();
    let on_device = server(DeviceError::OutOfMemory { device }, true);
    let on_processor = Running::start(Limits::default());
    for (server, device, has_f16) in [(&on_device, NAME, true), (&on_processor, "CPU", false)] {
        let models = json(&server.request("GET /v1/models", b""));
        assert_eq!(models["device"], device);
        assert_eq!(models["has_f16"], has_f16, "{device}");
    }
    for query in ["model=small", "model=photo&strength=0.5&scale=3"] {
        let answers = [&on_device, &on_processor].map(|server| server.upscale(query, &small()));
        let report = answers[0].header("wdsr-report");
        assert!(report.contains("\"device\":\"CPU\""), "{query}: {report}");
        let warnings = answers[0].header("wdsr-warnings");
        let expected = "device test device: its memory does not suffice or its driver failed";
        assert!(warnings.contains(expected), "{query}: {warnings}");
        assert_eq!(answers[1].header("wdsr-warnings"), "", "{query}");
        assert!(answers[0].body == answers[1].body, "{query}: results");
    }
}

#[test]
fn a_lost_device_fails_its_image() {
    let (device, reason) = (NAME.to_owned(), "removed".to_owned());
    let server = server(DeviceError::Lost { device, reason }, true);
    let answer = server.upscale("model=small", &small());
    let (status, code, message) = refusal(&answer);
    assert_eq!((status, &*code), (503, "device_failed"), "{message}");
    let expected = "the image: test device was lost (removed); the next image tries it again";
    assert!(message.starts_with(expected), "{message}");
    // An image that needs no network is resized all the same.
    let answer = server.upscale("model=small&factor=0.5", &small());
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn precisions_of_the_processor_are_refused_on_a_device() {
    let device = NAME.to_owned();
    let server = server(DeviceError::OutOfMemory { device }, false);
    for precision in ["bf16", "int8"] {
        let answer = server.upscale(&format!("model=small&precision={precision}"), &small());
        let (status, code, message) = refusal(&answer);
        assert_eq!((status, &*code), (422, "invalid_request"), "{message}");
        let expected = format!(
            "precision {precision}: test device computes in f32 or f16; choose one of these, or the processor"
        );
        assert_eq!(message, expected);
    }
    let answer = server.upscale("model=small&precision=f16", &small());
    let (status, _, message) = refusal(&answer);
    let expected = "precision f16: test device has no f16 arithmetic; choose f32";
    assert_eq!((status, &*message), (422, expected));
    let answer = server.upscale("model=small&precision=auto", &small());
    assert_eq!(answer.status, 200, "{}", answer.text());
}
