//! The parameters of a training: weight (plain, or as gain and direction under weight normalisation)
//! and bias of each convolution, factor and offset of each batch normalisation.
//!
//! Weight normalisation follows Salimans and Kingma 2016, equations 2 and 3, per output channel:
//! w = g v / |v|; with the gradient dw: dg = dw . v / |v|, dv = g / |v| (dw - dg v / |v|).
//! PyTorch's `weight_norm(dim=0)` starts at g = |v| and adds no epsilon.

mod branches;
mod gradients;
mod initial;
mod layout;
mod running_statistics;

pub use branches::EDGE_FILTERS;
pub use gradients::Gradients;
pub(crate) use initial::block_of;
pub use layout::{BATCH_NORM_EPSILON, ParameterLayout, ParameterTensor};
pub use running_statistics::{BATCH_NORM_MOMENTUM, RunningStatistics};
