//! The HTTP server of `wdsr serve`: upscales the images of requests by [`wdsr_upscale`], as the program
//! `wdsr upscale` does, with jobs for large images, metrics, an OpenAPI document and a page.
//!
//! [`Server::bind`] takes [`Options`], [`Server::run`] serves until a [`Stopper`] stops it. There is no TLS; a
//! proxy in front of the server does it. `docs/server.md` describes the routes.
#![forbid(unsafe_code)]

mod connection;
mod engine;
mod guard;
mod held;
mod jobs;
mod metrics;
mod openapi;
mod options;
mod page;
mod parts;
mod refusal;
mod routes;
mod server;
mod upload;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub use options::{Access, Error, Limits, Options, Token};
pub use server::{Ended, Server, Stopper};

/// What all requests share.
struct State {
    access: Access,
    limits: Limits,
    engine: Arc<engine::Engine>,
    jobs: jobs::Jobs,
    held: Arc<held::HeldMemory>,
    stopping: AtomicBool,
}

impl State {
    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}
