//! `wdsr serve`: upscales the images of HTTP requests.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use wdsr_model::DeviceChoice;
use wdsr_serve::{Access, Ended, Limits, Options, Server, Token};

use crate::device::OpenGpu;
use crate::threads::capped;
use crate::{WrongUsage, exit, progress, signals, units};

/// Serve upscaling over HTTP
///
/// POST /v1/upscale upscales an image as `wdsr upscale` does; POST /v1/jobs is for large ones. The page at / does
/// the same in a browser, /openapi.json describes all routes, /metrics is for Prometheus.
///
/// By default only programs and pages of this computer may send requests. There is no TLS: for requests from
/// elsewhere put a proxy in front that has it.
///
/// The memory stays below --concurrency times --max-memory, plus --max-held. Ctrl-C or SIGTERM finishes the
/// requests that run; a second one drops them.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Address and port to listen on; port 0 for a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Require the token in FILE (Authorization: Bearer TOKEN)
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Serve everyone who reaches the address
    ///
    /// For a proxy that checks who sends requests.
    #[arg(long, conflicts_with = "token_file")]
    no_token: bool,
    /// Number of threads of each image; 0 for one per processor
    #[arg(short = 'j', long, value_name = "N", default_value_t = 0)]
    threads: usize,
    /// What computes the networks: cpu, gpu, gpu:N, or auto for a GPU if there is one
    ///
    /// As for `wdsr upscale`. A GPU is shared by the images that are upscaled at a time.
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: DeviceChoice,
    /// Images to upscale at a time [default: 4]
    ///
    /// Each uses all processors, which the system divides among them.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    concurrency: Option<u16>,
    /// Images that may wait [default: 64]
    ///
    /// Further ones are refused (429, with Retry-After).
    #[arg(long, value_name = "N")]
    queue: Option<u16>,
    /// Limit the body of a request [default: 64M]
    #[arg(long, value_name = "SIZE", value_parser = units::bytes)]
    max_body: Option<u64>,
    /// Refuse images of more pixels (M is 10^6) [default: 16M]
    #[arg(long, value_name = "PIXELS", value_parser = units::pixels)]
    max_pixels: Option<u64>,
    /// Refuse images whose result would have more pixels [default: 256M]
    #[arg(long, value_name = "PIXELS", value_parser = units::pixels)]
    max_output_pixels: Option<u64>,
    /// Limit the memory for each image [default: 1G]
    #[arg(long, value_name = "SIZE", value_parser = units::bytes)]
    max_memory: Option<u64>,
    /// Limit the memory of all bodies and results, also of jobs that ended [default: 1G]
    #[arg(long, value_name = "SIZE", value_parser = units::bytes)]
    max_held: Option<u64>,
    /// Limit the time for each image in seconds, without waiting [default: 60]
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    timeout: Option<Duration>,
    /// Keep the result of a job for TIME [default: 10m]
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    keep: Option<Duration>,
    /// Close connections whose client lags by TIME [default: 15]
    ///
    /// A client has this time for the head of a request, and may lag by it behind 16 KiB each second when it sends a
    /// body or reads an answer.
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    client_timeout: Option<Duration>,
    /// Wait up to TIME for requests that run at the end [default: 30]
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    shutdown_timeout: Option<Duration>,
}

impl Arguments {
    fn limits(&self) -> Limits {
        let default = Limits::default();
        Limits {
            max_body_bytes: self.max_body.unwrap_or(default.max_body_bytes),
            max_pixels: self.max_pixels.unwrap_or(default.max_pixels),
            max_output_pixels: self.max_output_pixels.unwrap_or(default.max_output_pixels),
            max_memory_bytes: self.max_memory.unwrap_or(default.max_memory_bytes),
            timeout: self.timeout.unwrap_or(default.timeout),
            concurrency: self.concurrency.map_or(default.concurrency, usize::from),
            queue: self.queue.map_or(default.queue, usize::from),
            max_held_bytes: self.max_held.unwrap_or(default.max_held_bytes),
            keep_results: self.keep.unwrap_or(default.keep_results),
            client_timeout: self.client_timeout.unwrap_or(default.client_timeout),
            shutdown_timeout: self.shutdown_timeout.unwrap_or(default.shutdown_timeout),
            max_connections: default.max_connections,
        }
    }

    fn access(&self) -> Result<Access, wdsr_serve::Error> {
        Ok(match &self.token_file {
            Some(file) => Access::Token(Token::read(file)?),
            None if self.no_token => Access::Everyone,
            None => Access::ThisComputer,
        })
    }
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let gpu = OpenGpu::open(arguments.device)?;
    let server = Server::bind(Options {
        listen: arguments.listen,
        access: arguments.access()?,
        threads: capped(arguments.threads),
        device: gpu.as_ref().map(OpenGpu::device),
        limits: arguments.limits(),
    });
    let server = server.map_err(|error| match error {
        wdsr_serve::Error::NoToken { .. } => WrongUsage(error.to_string()).into(),
        error => anyhow::Error::from(error),
    })?;
    let stopper = server.stopper();
    signals::listen_to(move |_| {
        progress::note("stopping: finishing the requests that run; stop again to drop them");
        stopper.stop();
    })
    .context("cannot listen for signals")?;
    progress::note(&format!("listening on http://{}/", server.address()));
    if let Some(gpu) = &gpu {
        progress::note(&format!("computing on {}", gpu.device().driver_text()));
    }
    Ok(match server.run() {
        Ended::Finished => ExitCode::SUCCESS,
        Ended::Dropped => ExitCode::from(exit::FAILED),
    })
}
