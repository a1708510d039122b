//! Accepting connections, and stopping.

use std::future::pending;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Semaphore, watch};
use tokio::time::sleep;
use wdsr_model::Isa;
use wdsr_request::Networks;

use crate::State;
use crate::connection::Connection;
use crate::engine::Engine;
use crate::held::HeldMemory;
use crate::jobs::Jobs;
use crate::options::{Access, Error, Options};
use crate::routes::router;

/// Threads that read and write connections; images have their own.
const CONNECTION_THREADS: usize = 2;
/// Most bytes of the head of a request.
const MAX_HEAD_BYTES: usize = 32 << 10;
/// How long to wait when no connection can be accepted, for want of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// A server that listens.
pub struct Server {
    runtime: Runtime,
    listener: tokio::net::TcpListener,
    address: SocketAddr,
    state: Arc<State>,
    stopper: Stopper,
}

/// Stops a server, from any thread.
#[derive(Clone)]
pub struct Stopper(watch::Sender<u32>);

impl Stopper {
    /// At the first call the server takes no more connections, cancels jobs, and ends when all other requests
    /// are answered, or after [`Limits::shutdown_timeout`](crate::Limits::shutdown_timeout). At the second call
    /// it ends at once.
    pub fn stop(&self) {
        self.0.send_modify(|calls| *calls += 1);
    }
}

/// How a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All requests were answered.
    Finished,
    /// Some were not, for want of time or at a second stop.
    Dropped,
}

impl Server {
    /// Listens on the address; requests wait until [`run`](Self::run).
    ///
    /// # Errors
    /// If the address is not a loopback address and there is no token, if it cannot be listened on, or if
    /// threads cannot be started.
    ///
    /// # Panics
    /// If the limits allow no image at a time or no connection.
    pub fn bind(options: Options) -> Result<Self, Error> {
        let Options {
            listen: address,
            access,
            threads,
            device,
            limits,
        } = options;
        assert!(
            limits.concurrency > 0 && limits.max_connections > 0,
            "images and connections at a time: {limits:?}"
        );
        if matches!(access, Access::ThisComputer) && !address.ip().is_loopback() {
            return Err(Error::NoToken { address });
        }
        let start = |error: &dyn std::fmt::Display| Error::Start(error.to_string());
        let isa = Isa::detect().map_err(|error| start(&error))?;
        let networks = match device {
            Some(device) => Networks::new(isa).on_device(device),
            None => Networks::new(isa),
        };
        let engine = Engine::new(networks, threads, &limits).map_err(|error| start(&error))?;
        let mut runtime = Builder::new_multi_thread();
        let runtime = runtime.worker_threads(CONNECTION_THREADS).enable_all();
        let runtime = runtime.build().map_err(|error| start(&error))?;
        let listen = || {
            let listener = TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            let _of_runtime = runtime.enter();
            let address = listener.local_addr()?;
            Ok((tokio::net::TcpListener::from_std(listener)?, address))
        };
        let (listener, address) = listen().map_err(|source| Error::Listen { address, source })?;
        Ok(Self {
            state: Arc::new(State {
                access,
                engine,
                jobs: Jobs::default(),
                held: HeldMemory::new(limits.max_held_bytes),
                stopping: AtomicBool::new(false),
                limits,
            }),
            runtime,
            listener,
            address,
            stopper: Stopper(watch::Sender::new(0)),
        })
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What stops it.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Serves until it is stopped.
    pub fn run(self) -> Ended {
        let ended = self.runtime.block_on(serve(
            self.listener,
            self.state.clone(),
            self.stopper.0.subscribe(),
        ));
        // What is left is stopped by dropping it; its threads are not waited for.
        self.runtime.shutdown_background();
        ended
    }
}

async fn serve(
    listener: tokio::net::TcpListener,
    state: Arc<State>,
    mut stops: watch::Receiver<u32>,
) -> Ended {
    let limits = state.limits().clone();
    let router = router(state.clone());
    let connections = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(limits.max_connections));
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.client_timeout)
        .max_buf_size(MAX_HEAD_BYTES);
    let accept = async {
        loop {
            let Ok(place) = places.clone().acquire_owned().await else {
                return pending::<()>().await;
            };
            let Ok((stream, _)) = listener.accept().await else {
                sleep(ACCEPT_RETRY).await;
                continue;
            };
            // Answers are written as a whole.
            let _ = stream.set_nodelay(true);
            let stream = TokioIo::new(Connection::new(stream, limits.client_timeout));
            let service = TowerToHyperService::new(router.clone());
            let connection = connections.watch(builder.serve_connection(stream, service));
            tokio::spawn(async move {
                // Errors are those of the client or of its network.
                let _ = connection.await;
                drop(place);
            });
        }
    };
    tokio::select! {
        () = accept => {}
        _ = stops.wait_for(|calls| *calls > 0) => {}
    }
    drop(listener);
    state.stopping.store(true, Ordering::Relaxed);
    state.jobs.cancel_all();
    tokio::select! {
        () = connections.shutdown() => Ended::Finished,
        () = sleep(limits.shutdown_timeout) => Ended::Dropped,
        _ = stops.wait_for(|calls| *calls > 1) => Ended::Dropped,
    }
}
