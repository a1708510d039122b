//! The loops that super-resolution networks spend their time in: convolution, its gradients,
//! pixel shuffle.
//!
//! Feature maps are [`Planes`] (whole maps, for training) or [`Strip`]s (some rows, for
//! inference): one zero-bordered plane per channel, pixels in the vector lanes. Each operation
//! exists as a plain `reference` and as one algorithm over the vector operations of `simd.rs`,
//! compiled for every instruction set in `arch`; [`Isa`] chooses at run time. Nothing here starts a
//! thread: callers give each thread its own image or tile, so no number of threads changes a
//! result.
//!
//! # Unsafe code
//! This is the only crate of the project with `unsafe`: vector loads and stores through pointers,
//! and calls of functions compiled for an instruction set. Two rules keep it sound:
//!
//! - A token of an instruction set (`arch`) exists only where detection found its instructions.
//! - Public functions assert shapes before they build a kernel (`dispatch.rs`), outside the inner
//!   loops; the kernel's type states what its loops rely on. Sizes that overflow panic.

mod aligned;
mod arch;
mod conv2d;
mod direct;
mod dispatch;
mod enlarge;
mod epilogue;
mod int8;
mod isa;
mod outer_product;
mod packing;
mod peak;
mod pixel_shuffle;
mod pixels;
mod plane_tiles;
mod planes;
mod pointwise_pair;
mod precision;
mod rows;
mod scratch;
mod simd;
mod strip;
mod strip_conv;
mod tile;
mod tile_sums;
mod tiles;
mod winograd;

pub use conv2d::{ConvGradients, ConvLayer, PlanesConv};
pub use enlarge::enlarge_bilinear;
pub use epilogue::Epilogue;
pub use int8::{ByteConv, ByteLayer, BytePair, ByteScale, is_short_pair, quantize_strip};
pub use isa::{Isa, UnknownIsa};
pub use peak::multiply_add_burst;
pub use pixel_shuffle::{pixel_shuffle, pixel_unshuffle};
pub use pixels::{PixelConv, PixelPair, convert_strip};
pub use planes::{BORDER_PX, Geometry, Planes, add_scaled};
pub use pointwise_pair::{PairGradients, PlanesPair, StripPair};
pub use precision::Precision;
pub use scratch::Scratch;
pub use strip::{STRIP_ROWS, Strip, StripFormat, StripLayout};
pub use strip_conv::StripConv;
