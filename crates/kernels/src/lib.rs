//! The loops that super-resolution networks spend their time in: convolution, its gradients,
//! pixel shuffle.
//!
//! Everything works on [`Planes`]: one zero-bordered plane per channel, pixels in the vector
//! lanes. Each operation exists as a plain `reference` and as one SIMD algorithm compiled for
//! every instruction set; [`Isa`] chooses at run time. Nothing here starts a thread: callers
//! give each thread its own image or tile, so no count of threads changes a result.
//!
//! This is the only crate of the project with `unsafe` code: vector loads and stores through
//! pointers, and calls into functions compiled for an instruction set that [`Isa`] has
//! detected.

mod conv2d;
mod epilogue;
mod isa;
mod outer_product;
mod peak;
mod pixel_shuffle;
mod planes;
mod pointwise_pair;
mod precision;
mod simd;
mod strip;
mod strip_conv;
mod tile;
mod winograd;

pub use conv2d::{PackedConv2d, conv2d, conv2d_backward_weight};
pub use epilogue::Epilogue;
pub use isa::{Isa, UnknownIsa};
pub use peak::multiply_add_burst;
pub use pixel_shuffle::{pixel_shuffle, pixel_unshuffle};
pub use planes::{BORDER_PX, Geometry, Planes, add_scaled};
pub use pointwise_pair::{Gradients as PairGradients, PointwisePair, StripPair};
pub use precision::Precision;
pub use strip::{Room, STRIP_ROWS, Scratch, Strip};
pub use strip_conv::StripConv;
