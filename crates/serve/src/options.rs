//! Where the server listens, whom it serves, and its limits.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use subtle::ConstantTimeEq;
use wdsr_model::Device;
use wdsr_upscale::Settings;

/// What [`Server::bind`](crate::Server::bind) needs.
#[derive(Clone)]
pub struct Options {
    /// The address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Who may send requests.
    pub access: Access,
    /// Threads of an image; 0 for one per processor.
    pub threads: usize,
    /// The device that computes the networks; `None` for the processor.
    pub device: Option<Arc<dyn Device>>,
    /// The limits.
    pub limits: Limits,
}

/// Who may send requests.
#[derive(Clone, Debug)]
pub enum Access {
    /// Programs and browsers of this computer. The address must be a loopback address. Requests of pages of
    /// other sites are refused.
    ThisComputer,
    /// Whoever sends the token in the header `Authorization: Bearer TOKEN`.
    Token(Token),
    /// Everyone.
    Everyone,
}

/// A secret that requests must have.
#[derive(Clone)]
pub struct Token(Vec<u8>);

/// Fewest bytes of a token.
const MIN_TOKEN_BYTES: usize = 16;

impl Token {
    /// Reads a token from a file; white space around it is ignored.
    ///
    /// # Errors
    /// If the file cannot be read, or the token is short or has characters that a header cannot hold.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = fs::read_to_string(path).map_err(|source| Error::TokenFile {
            path: path.to_owned(),
            source,
        })?;
        let token = text.trim().as_bytes();
        if token.len() < MIN_TOKEN_BYTES || !token.iter().all(u8::is_ascii_graphic) {
            return Err(Error::BadToken {
                path: path.to_owned(),
                found_bytes: token.len(),
            });
        }
        Ok(Self(token.to_vec()))
    }

    /// Whether a text is the token, in a time that does not depend on where they differ.
    pub(crate) fn is(&self, text: &[u8]) -> bool {
        self.0.ct_eq(text).into()
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

/// Limits of requests and of the whole server.
///
/// The memory of the server stays below `concurrency * max_memory_bytes + max_held_bytes`, beside the networks.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Most bytes of a request's body.
    pub max_body_bytes: u64,
    /// Most pixels of an image.
    pub max_pixels: u64,
    /// Most pixels of a result.
    pub max_output_pixels: u64,
    /// Most memory for upscaling an image.
    pub max_memory_bytes: u64,
    /// Most time for upscaling an image.
    pub timeout: Duration,
    /// Most images that are upscaled at a time. Each runs on all threads; the system divides the processors.
    pub concurrency: usize,
    /// Most images that wait.
    pub queue: usize,
    /// Most bytes of bodies and results in memory, those of jobs included.
    pub max_held_bytes: u64,
    /// How long the result of a job is kept.
    pub keep_results: Duration,
    /// How long a client may take to send the head of a request, and by how much it may lag behind 16 KiB each
    /// second when it sends a body or reads a response.
    pub client_timeout: Duration,
    /// How long running requests may take at the end.
    pub shutdown_timeout: Duration,
    /// Most connections; further ones wait.
    pub max_connections: usize,
}

impl Limits {
    /// The settings of a request without parameters.
    pub(crate) fn settings(&self) -> Settings {
        Settings {
            max_output_pixels: self.max_output_pixels,
            max_memory_bytes: Some(self.max_memory_bytes),
            ..Settings::default()
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_body_bytes: 64 << 20,
            max_pixels: 16_000_000,
            max_output_pixels: 256_000_000,
            max_memory_bytes: 1 << 30,
            timeout: Duration::from_secs(60),
            concurrency: 4,
            queue: 64,
            max_held_bytes: 1 << 30,
            keep_results: Duration::from_secs(600),
            client_timeout: Duration::from_secs(15),
            shutdown_timeout: Duration::from_secs(30),
            max_connections: 512,
        }
    }
}

/// The server cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address is reached from other computers, and anyone may send requests.
    #[error(
        "{address} is reached from other computers, and there is no token; give --token-file FILE, or --no-token \
         if a proxy checks who sends requests"
    )]
    NoToken {
        /// The address.
        address: SocketAddr,
    },
    /// The token's file cannot be read.
    #[error("cannot read the token {}: {source}", path.display())]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The token is short, or is no text for a header.
    #[error(
        "{}: expected a token of {MIN_TOKEN_BYTES} or more visible ASCII characters, found {found_bytes} bytes; \
         `openssl rand -hex 32` makes one",
        path.display()
    )]
    BadToken {
        /// The file.
        path: PathBuf,
        /// The length of the token.
        found_bytes: usize,
    },
    /// The address is in use, or does not belong to this computer.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The cause.
        source: io::Error,
    },
    /// Threads cannot be started, or the environment variable `WDSR_ISA` names no instruction set.
    #[error("cannot start: {0}")]
    Start(String),
}
