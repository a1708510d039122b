//! Requests to upscale an image: the parameters of a query ([`UpscaleRequest`]), the built-in networks
//! ([`Networks`]), and the report of a result ([`Upscaled`]).
//!
//! The server and the browser engine are built on this crate, so one page serves both, and their results and
//! messages are those of the program `wdsr upscale`.
#![forbid(unsafe_code)]

mod error;
mod networks;
mod request;
mod upscaled;

pub use error::Error;
pub use networks::Networks;
pub use request::{PARAMETERS, Parameter, UpscaleRequest};
pub use upscaled::{ResultHead, Upscaled, media_type};
