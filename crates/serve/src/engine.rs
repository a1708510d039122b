//! The queue of images, and the threads that upscale them.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::{JoinHandle, spawn_blocking};
use wdsr_image::{Deadline, Limits as ReadingLimits};
use wdsr_request::{Error, Networks, ResultHead, UpscaleRequest, Upscaled};
use wdsr_upscale::ErrorKind;

use crate::metrics::Metrics;
use crate::options::Limits;
use crate::parts::{Parts, parts};
use crate::refusal::Refusal;

/// Upscales images, some at a time.
///
/// Each image has a pool of threads of its own, and the system divides the processors among the pools. In a
/// common pool a small image would wait for a large one, whose threads take no other work until its end.
pub(crate) struct Engine {
    pub(crate) networks: Networks,
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

/// The answer of [`Engine::stream`].
pub(crate) enum Streamed {
    /// A result that is not complete yet.
    Parts {
        head: ResultHead,
        /// The first parts.
        first: [Bytes; 2],
        parts: Parts,
        /// Its result says whether the parts are all.
        work: Work<Option<Upscaled>>,
    },
    Whole(Upscaled),
}

/// Work on an image, which stops when this is dropped.
pub(crate) struct Work<T> {
    result: JoinHandle<Result<T, Refusal>>,
    _stop_on_drop: StopOnDrop,
}

impl<T> Work<T> {
    /// A panic is printed by its thread.
    pub(crate) async fn result(self) -> Result<T, Refusal> {
        let Self {
            result,
            _stop_on_drop,
        } = self;
        result
            .await
            .unwrap_or_else(|_panic| Err(Refusal::internal()))
    }
}

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
        networks: Networks,
        threads: usize,
        limits: &Limits,
    ) -> Result<Arc<Self>, ThreadPoolBuildError> {
        let engine = Self {
            networks,
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
        let work = self.start(
            place,
            upload,
            progress,
            move |networks, image, limits, flow| networks.upscale(&request, image, limits, flow),
        );
        work.await?.result().await
    }

    /// Upscales an image when its turn comes, and returns as soon as the first part of the result is there, if its
    /// format can be sent while it is computed. Dropping the future or the parts stops the work.
    pub(crate) async fn stream(
        self: &Arc<Self>,
        place: Place,
        request: UpscaleRequest,
        upload: Upload,
    ) -> Result<Streamed, Refusal> {
        let (sender, mut parts) = parts();
        let (send_head, head) = oneshot::channel();
        let work = self.start(
            place,
            upload,
            |_, _| {},
            move |networks, image, limits, flow| {
                let start = |head| {
                    // Who does not wait for the head any more does not wait for parts either.
                    let _ = send_head.send(head);
                    sender
                };
                networks.upscale_into(&request, image, limits, start, flow)
            },
        );
        let work = work.await?;
        // What ends with the first part is complete, or is answered by an error: a file that fails early may flush
        // its beginning.
        let (first, second) = (parts.recv().await, parts.recv().await);
        match (first, second, head.await) {
            (Some(first), Some(second), Ok(head)) => {
                let first = [first, second];
                Ok(Streamed::Parts {
                    head,
                    first,
                    parts,
                    work,
                })
            }
            (first, _, head) => match (work.result().await?, first, head) {
                (Some(result), ..) => Ok(Streamed::Whole(result)),
                (None, Some(file), Ok(head)) => Ok(Streamed::Whole(Upscaled {
                    file: file.into(),
                    head,
                })),
                _ => Err(Refusal::internal()),
            },
        }
    }

    /// Starts work on an image when its turn comes.
    async fn start<T: Send + 'static>(
        self: &Arc<Self>,
        place: Place,
        upload: Upload,
        progress: impl Fn(usize, usize) + Send + Sync + 'static,
        work: impl FnOnce(
            &Networks,
            (&str, Vec<u8>),
            &ReadingLimits,
            &wdsr_model::Progress<'_>,
        ) -> Result<T, Error>
        + Send
        + 'static,
    ) -> Result<Work<T>, Refusal> {
        let slot = self.slots.clone().acquire_owned().await;
        let slot = slot.map_err(|_closed| Refusal::internal())?;
        drop(place);
        let stop = Arc::new(AtomicBool::new(false));
        let stop_on_drop = StopOnDrop(stop.clone());
        let engine = self.clone();
        Ok(Work {
            result: spawn_blocking(move || engine.run(slot, upload, &stop, &progress, work)),
            _stop_on_drop: stop_on_drop,
        })
    }

    /// Runs work on an image on a pool. The slot is free when no thread works on the image any more.
    fn run<T: Send>(
        &self,
        _slot: OwnedSemaphorePermit,
        upload: Upload,
        stop: &Arc<AtomicBool>,
        progress: &(impl Fn(usize, usize) + Sync),
        work: impl FnOnce(
            &Networks,
            (&str, Vec<u8>),
            &ReadingLimits,
            &wdsr_model::Progress<'_>,
        ) -> Result<T, Error>
        + Send,
    ) -> Result<T, Refusal> {
        let pool = self
            .take_pool()
            .map_err(|_no_threads| Refusal::internal())?;
        progress(0, 1);
        let (started, timeout) = (Instant::now(), self.limits.timeout);
        let end = started + timeout;
        let limits = ReadingLimits {
            max_pixels: self.limits.max_pixels,
            deadline: Deadline::at(end).or_when(stop.clone()),
            ..ReadingLimits::default()
        };
        let flow = |done: usize, total: usize| {
            progress(done, total);
            match limits.deadline.is_over() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        };
        let Upload { name, bytes } = upload;
        let result = pool.install(|| work(&self.networks, (&name, bytes), &limits, &flow));
        self.return_pool(pool);
        let result = result.map_err(|error| match &error {
            Error::Upscale(cause)
                if cause.kind() == ErrorKind::Stopped && Instant::now() >= end =>
            {
                Refusal::timed_out(&name, timeout)
            }
            _ => error.into(),
        });
        let was_stopped = stop.load(Ordering::Relaxed);
        let status = result
            .as_ref()
            .map_or_else(|refusal| refusal.code, |_| "done");
        let status = if was_stopped { "cancelled" } else { status };
        self.metrics.count_image(status, started.elapsed());
        result
    }
}
