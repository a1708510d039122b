//! Counters, in the text format of Prometheus.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Upper bounds of the times of images, in seconds.
const TIMES_S: [f64; 8] = [0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0];

/// What is counted.
#[derive(Default)]
pub(crate) struct Metrics(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    /// By method, path of the route and status.
    requests: BTreeMap<(String, String, u16), u64>,
    /// By outcome.
    images: BTreeMap<&'static str, u64>,
    /// Images at most as long as each of [`TIMES_S`].
    times: [u64; TIMES_S.len()],
    time: Duration,
}

/// A value that rises and falls: its name, what it is, and the value.
pub(crate) type Gauge = (&'static str, &'static str, u64);

impl Metrics {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn count_request(&self, method: &str, path: &str, status: u16) {
        let key = (method.to_owned(), path.to_owned(), status);
        *self.counts().requests.entry(key).or_default() += 1;
    }

    /// Counts an image that was upscaled or failed in this time.
    pub(crate) fn count_image(&self, outcome: &'static str, time: Duration) {
        let mut counts = self.counts();
        *counts.images.entry(outcome).or_default() += 1;
        counts.time += time;
        for (bound, count) in TIMES_S.iter().zip(&mut counts.times) {
            *count += u64::from(time.as_secs_f64() <= *bound);
        }
    }

    /// The mean time of the images so far; a second before the first.
    pub(crate) fn mean_image_time(&self) -> Duration {
        let counts = self.counts();
        let images = counts.images.values().sum::<u64>() as u32;
        counts
            .time
            .checked_div(images)
            .unwrap_or(Duration::from_secs(1))
    }

    /// The text that Prometheus reads.
    pub(crate) fn text(&self, gauges: &[Gauge]) -> String {
        let counts = self.counts();
        let mut text = String::new();
        let head = |text: &mut String, name: &str, kind: &str, help: &str| {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        };
        let name = "wdsr_requests_total";
        head(&mut text, name, "counter", "Answered requests.");
        for ((method, path, status), count) in &counts.requests {
            let _ = writeln!(
                text,
                "{name}{{method=\"{method}\",path=\"{path}\",status=\"{status}\"}} {count}"
            );
        }
        let name = "wdsr_images_total";
        head(&mut text, name, "counter", "Images by outcome.");
        for (outcome, count) in &counts.images {
            let _ = writeln!(text, "{name}{{outcome=\"{outcome}\"}} {count}");
        }
        let name = "wdsr_image_seconds";
        head(
            &mut text,
            name,
            "histogram",
            "Time of an image, without waiting.",
        );
        for (bound, count) in TIMES_S.iter().zip(counts.times) {
            let _ = writeln!(text, "{name}_bucket{{le=\"{bound}\"}} {count}");
        }
        let images: u64 = counts.images.values().sum();
        let seconds = counts.time.as_secs_f64();
        let _ = writeln!(
            text,
            "{name}_bucket{{le=\"+Inf\"}} {images}\n{name}_sum {seconds}\n{name}_count {images}"
        );
        for (name, help, value) in gauges {
            head(&mut text, name, "gauge", help);
            let _ = writeln!(text, "{name} {value}");
        }
        text
    }
}

/// The memory of the process in bytes, where the system tells.
pub(crate) fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes << 10)
}
