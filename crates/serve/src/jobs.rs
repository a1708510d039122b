//! Jobs: images whose results are fetched later.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use wdsr_request::ResultHead;

use crate::refusal::Refusal;

/// Most jobs that are remembered. Beyond it the oldest that ended is forgotten.
const MAX_JOBS: usize = 1000;

/// What became of a job.
#[derive(Clone)]
pub(crate) enum Status {
    Queued,
    /// Thousandths of the work.
    Running(u16),
    Done(Arc<JobResult>),
    Failed(Refusal),
    Cancelled,
}

/// The result of a job.
pub(crate) struct JobResult {
    /// The file, which counts as held memory.
    pub(crate) file: Bytes,
    pub(crate) head: ResultHead,
}

impl Status {
    pub(crate) fn has_ended(&self) -> bool {
        !matches!(self, Self::Queued | Self::Running(_))
    }

    pub(crate) fn to_json(&self, id: &str) -> Value {
        let mut json = match self {
            Self::Queued => json!({ "status": "queued", "progress": 0.0 }),
            Self::Running(thousandths) => {
                json!({ "status": "running", "progress": f64::from(*thousandths) / 1000.0 })
            }
            Self::Done(result) => json!({
                "status": "done",
                "progress": 1.0,
                "report": result.head.report,
                "warnings": result.head.warnings,
                "bytes": result.file.len(),
            }),
            Self::Failed(refusal) => json!({ "status": "failed", "error": refusal.to_json() }),
            Self::Cancelled => json!({ "status": "cancelled" }),
        };
        json["id"] = id.into();
        json
    }
}

struct Job {
    /// Dropping the task's future stops the work.
    task: AbortHandle,
    status: watch::Sender<Status>,
    created: Instant,
}

/// All jobs, by id.
#[derive(Default)]
pub(crate) struct Jobs(Mutex<HashMap<String, Job>>);

impl Jobs {
    fn jobs(&self) -> MutexGuard<'_, HashMap<String, Job>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new id, which cannot be guessed.
    pub(crate) fn new_id() -> Result<String, Refusal> {
        let mut random = [0_u8; 16];
        getrandom::fill(&mut random).map_err(|_no_random| Refusal::internal())?;
        Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Adds a job whose work `start` spawns.
    pub(crate) fn add(
        &self,
        id: &str,
        status: watch::Sender<Status>,
        start: impl FnOnce() -> AbortHandle,
    ) {
        let mut jobs = self.jobs();
        if jobs.len() >= MAX_JOBS {
            remove_oldest(&mut jobs, Status::has_ended);
        }
        let job = Job {
            task: start(),
            status,
            created: Instant::now(),
        };
        jobs.insert(id.to_owned(), job);
    }

    /// The status of a job, as it changes.
    pub(crate) fn status(&self, id: &str) -> Option<watch::Receiver<Status>> {
        self.jobs().get(id).map(|job| job.status.subscribe())
    }

    /// Forgets a job, whose work stops. Returns whether there was one.
    pub(crate) fn remove(&self, id: &str) -> bool {
        let removed = self.jobs().remove(id);
        removed.is_some_and(|job| {
            job.end();
            true
        })
    }

    /// Forgets the oldest result. Returns whether there was one.
    pub(crate) fn drop_oldest_result(&self) -> bool {
        let is_done = |status: &Status| matches!(status, Status::Done(_));
        remove_oldest(&mut self.jobs(), is_done)
    }

    /// Stops all jobs.
    pub(crate) fn cancel_all(&self) {
        self.jobs().drain().for_each(|(_, job)| job.end());
    }

    /// Forgets a job some time after it has ended.
    pub(crate) async fn remove_after(&self, id: &str, time: Duration) {
        tokio::time::sleep(time).await;
        self.remove(id);
    }

    pub(crate) fn count(&self) -> usize {
        self.jobs().len()
    }
}

impl Job {
    /// Stops the work, or frees the memory of the result.
    fn end(self) {
        self.task.abort();
        self.status.send_replace(Status::Cancelled);
    }
}

fn remove_oldest(jobs: &mut HashMap<String, Job>, may_go: impl Fn(&Status) -> bool) -> bool {
    let candidates = jobs.iter().filter(|(_, job)| may_go(&job.status.borrow()));
    let oldest = candidates.min_by_key(|(_, job)| job.created);
    let Some(id) = oldest.map(|(id, _)| id.clone()) else {
        return false;
    };
    jobs.remove(&id).is_some_and(|job| {
        job.end();
        true
    })
}
