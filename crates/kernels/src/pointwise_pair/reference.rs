//! The definition of the pair, pixel by pixel.

use super::PointwisePair;
use crate::strip::{Scratch, Strip};

pub(super) fn pointwise_pair(
    pair: &PointwisePair,
    input: &Strip,
    output: &mut Strip,
    scratch: &mut Scratch,
) {
    let wide = &mut scratch.floats(pair.wide_channels)[..pair.wide_channels];
    for y in 0..output.rows() {
        for x in 0..output.width_px() {
            for (h, value) in wide.iter_mut().enumerate() {
                let mut sum = pair.expand_bias[h];
                for i in 0..pair.in_channels {
                    sum += pair.expand[h * pair.in_channels + i] * input.row(i, y)[x];
                }
                *value = sum.max(0.0);
            }
            for o in 0..pair.out_channels {
                let mut sum = pair.reduce_bias[o];
                for (h, value) in wide.iter().enumerate() {
                    sum += pair.reduce[o * pair.wide_channels + h] * value;
                }
                output.row_mut(o, y)[x] = sum;
            }
        }
    }
}
