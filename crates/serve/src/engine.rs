//! The queue of images, and the threads that upscale them.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wdsr_image::{Deadline, Format, Limits as ReadingLimits, Reader};
use wdsr_model::Isa;
use wdsr_upscale::{Damage, Error, ErrorKind, Summary};

use crate::metrics::Metrics;
use crate::networks::Networks;
use crate::options::Limits;
use crate::refusal::Refusal;
use crate::request::UpscaleRequest;

/// Upscales images, some at a time.
///
/// Each image has a pool of threads of its own, and the system divides the processors among the pools. In a
/// common pool a small image would wait for a large one, whose threads take no other work until its end.
pub(crate) struct Engine {
    networks: Networks,
    limits: Limits,
    threads: usize,
    slots: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// Pools that no image runs on.
    pools: Mutex<Vec<ThreadPool>>,
    pub(crate) metrics: Metrics,
}

/// A place in the queue.
pub(crate) struct Place {
    engine: Arc<Engine>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.engine.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An image to upscale.
pub(crate) struct Upload {
    /// Its name in messages.
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
}

/// The result of an image.
pub(crate) struct Upscaled {
    pub(crate) file: Vec<u8>,
    pub(crate) format: Format,
    /// What the program reports of an image, for programs.
    pub(crate) report: Value,
    /// What the result lacks.
    pub(crate) warnings: Vec<String>,
}

/// Stops the work on an image when it is dropped.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Engine {
    /// # Errors
    /// If the threads cannot be started.
    pub(crate) fn new(
        isa: Isa,
        threads: usize,
        limits: &Limits,
    ) -> Result<Arc<Self>, ThreadPoolBuildError> {
        let engine = Self {
            networks: Networks::new(isa),
            limits: limits.clone(),
            threads,
            slots: Arc::new(Semaphore::new(limits.concurrency)),
            waiting: AtomicUsize::new(0),
            pools: Mutex::default(),
            metrics: Metrics::default(),
        };
        // Too many threads are found at the start.
        let first = engine.take_pool()?;
        engine.return_pool(first);
        Ok(Arc::new(engine))
    }

    fn take_pool(&self) -> Result<ThreadPool, ThreadPoolBuildError> {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        match pools.pop() {
            Some(pool) => Ok(pool),
            None => ThreadPoolBuilder::new().num_threads(self.threads).build(),
        }
    }

    fn return_pool(&self, pool: ThreadPool) {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools.push(pool);
    }

    pub(crate) fn isa(&self) -> Isa {
        self.networks.isa
    }

    /// The threads of an image.
    pub(crate) fn threads(&self) -> usize {
        let pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        let first = pools.first();
        first.map_or(self.threads, ThreadPool::current_num_threads)
    }

    /// Images that wait for others.
    pub(crate) fn waiting(&self) -> usize {
        // Those that are about to start have a place too.
        self.entered()
            .saturating_sub(self.slots.available_permits())
    }

    /// Images that are being upscaled.
    pub(crate) fn running(&self) -> usize {
        self.limits.concurrency - self.slots.available_permits()
    }

    fn entered(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Takes a place in the queue.
    ///
    /// # Errors
    /// If it is full.
    pub(crate) fn enter(self: &Arc<Self>) -> Result<Place, Refusal> {
        let most = self.limits.queue + self.slots.available_permits();
        let enter = |waiting: usize| (waiting < most).then_some(waiting + 1);
        let entered = self
            .waiting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, enter);
        match entered {
            Ok(_) => Ok(Place {
                engine: self.clone(),
            }),
            Err(waiting) => {
                let message = format!("{waiting} images wait already; try again later");
                Err(Refusal::busy(message, self.wait_of(waiting)))
            }
        }
    }

    /// How long so many images may take, by the images so far.
    fn wait_of(&self, images: usize) -> Duration {
        let rounds = images.div_ceil(self.limits.concurrency) as u32;
        let wait = self.metrics.mean_image_time() * rounds;
        wait.clamp(Duration::from_secs(1), Duration::from_secs(60))
    }

    /// Upscales an image when its turn comes. `progress` gets (work done, work in all) from any thread, first
    /// when the work starts. Dropping the future stops the work.
    pub(crate) async fn upscale(
        self: &Arc<Self>,
        place: Place,
        request: UpscaleRequest,
        upload: Upload,
        progress: impl Fn(usize, usize) + Send + Sync + 'static,
    ) -> Result<Upscaled, Refusal> {
        let slot = self.slots.clone().acquire_owned().await;
        let slot = slot.map_err(|_closed| Refusal::internal())?;
        drop(place);
        let stop = Arc::new(AtomicBool::new(false));
        let _stop_on_drop = StopOnDrop(stop.clone());
        let engine = self.clone();
        let run = move || engine.run(slot, &request, upload, &stop, &progress);
        // A panic is printed by its thread.
        let result = tokio::task::spawn_blocking(run).await;
        result.unwrap_or_else(|_panic| Err(Refusal::internal()))
    }

    /// Upscales an image on a pool. The slot is free when no thread works on the image any more.
    fn run(
        &self,
        _slot: OwnedSemaphorePermit,
        request: &UpscaleRequest,
        upload: Upload,
        stop: &Arc<AtomicBool>,
        progress: &(impl Fn(usize, usize) + Sync),
    ) -> Result<Upscaled, Refusal> {
        let pool = self
            .take_pool()
            .map_err(|_no_threads| Refusal::internal())?;
        progress(0, 1);
        let started = Instant::now();
        let result = pool.install(|| self.upscale_now(request, upload, started, stop, progress));
        self.return_pool(pool);
        let was_stopped = stop.load(Ordering::Relaxed);
        let status = result
            .as_ref()
            .map_or_else(|refusal| refusal.code, |_| "done");
        let status = if was_stopped { "cancelled" } else { status };
        self.metrics.count_image(status, started.elapsed());
        result
    }

    fn upscale_now(
        &self,
        request: &UpscaleRequest,
        upload: Upload,
        started: Instant,
        stop: &Arc<AtomicBool>,
        progress: &(impl Fn(usize, usize) + Sync),
    ) -> Result<Upscaled, Refusal> {
        let timeout = self.limits.timeout;
        let end = started + timeout;
        let name = Path::new(&upload.name).to_owned();
        let refused = |error: Error| match error.kind() {
            ErrorKind::Stopped if Instant::now() >= end => {
                Refusal::timed_out(&upload.name, timeout)
            }
            _ => error.into(),
        };
        let limits = ReadingLimits {
            max_pixels: self.limits.max_pixels,
            deadline: Deadline::at(end).or_when(stop.clone()),
            ..ReadingLimits::default()
        };
        let reader = Reader::from_bytes(upload.bytes, &name, &limits);
        let reader = reader.map_err(|error| refused(error.into()))?;
        let format = request.result_format(reader.format())?;
        let job = self.networks.job(reader, request).map_err(refused)?;
        let flow = |done: usize, total: usize| {
            progress(done, total);
            match limits.deadline.is_over() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        };
        let output = Path::new("the result");
        let (file, summary) = job.into_bytes(output, format, &flow).map_err(refused)?;
        let mut warnings = summary.dropped.clone();
        if self.isa().precision_for(request.precision) != request.precision {
            let (isa, precision) = (self.isa(), request.precision.name());
            warnings.push(format!(
                "precision {precision}: not faster than f32 on this processor ({isa}), so f32 was used"
            ));
        }
        let report = report(request, &summary, started.elapsed());
        Ok(Upscaled {
            file,
            format,
            report,
            warnings,
        })
    }
}

/// The values of a report of `wdsr upscale`.
fn report(request: &UpscaleRequest, summary: &Summary, time: Duration) -> Value {
    let found = match (summary.choice, summary.strength) {
        (Some(choice), _) => Some(choice.damage),
        (None, strength) => strength.map(|strength| strength.damage),
    };
    let damage = found.filter(|damage| *damage != Damage::Given);
    json!({
        "width_px": summary.plan.target().width_px,
        "height_px": summary.plan.target().height_px,
        "steps": summary.plan.to_string(),
        "model": Networks::kind_of(request, summary),
        "strength": summary.strength.map(|strength| strength.value),
        "damage": damage.map(|damage| damage.to_string()),
        "seconds": time.as_secs_f64(),
    })
}
