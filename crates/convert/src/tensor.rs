//! Tensors as f32, from the number formats and views in files.

use std::collections::BTreeMap;

use half::{bf16, f16};

/// A tensor's values in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Array {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f32>,
}

/// Tensors by their names.
pub(crate) type Tensors = BTreeMap<String, Array>;

/// The number format of a stored element, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Element {
    F16,
    Bf16,
    F32,
    F64,
    /// Integers and booleans of the given number of bytes: counters, never weights.
    Integer(usize),
}

impl Element {
    /// From the name of PyTorch's storage class.
    pub(crate) fn of_storage(class: &str) -> Option<Self> {
        Some(match class {
            "torch.HalfStorage" => Self::F16,
            "torch.BFloat16Storage" => Self::Bf16,
            "torch.FloatStorage" => Self::F32,
            "torch.DoubleStorage" => Self::F64,
            "torch.ByteStorage" | "torch.CharStorage" | "torch.BoolStorage" => Self::Integer(1),
            "torch.ShortStorage" => Self::Integer(2),
            "torch.IntStorage" => Self::Integer(4),
            "torch.LongStorage" => Self::Integer(8),
            _ => return None,
        })
    }

    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::F16 | Self::Bf16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
            Self::Integer(bytes) => bytes,
        }
    }

    /// The number at `index`; NaN for integers.
    fn read(self, bytes: &[u8], index: usize) -> f32 {
        fn at<const N: usize>(bytes: &[u8], index: usize) -> [u8; N] {
            std::array::from_fn(|byte| bytes[index * N + byte])
        }
        match self {
            Self::F16 => f16::from_le_bytes(at(bytes, index)).to_f32(),
            Self::Bf16 => bf16::from_le_bytes(at(bytes, index)).to_f32(),
            Self::F32 => f32::from_le_bytes(at(bytes, index)),
            Self::F64 => f64::from_le_bytes(at(bytes, index)) as f32,
            Self::Integer(_) => f32::NAN,
        }
    }
}

/// The number of elements of a shape.
///
/// # Errors
/// If it overflows.
pub(crate) fn elements_of(shape: &[usize]) -> Result<usize, String> {
    shape
        .iter()
        .try_fold(1_usize, |product, side| product.checked_mul(*side))
        .ok_or_else(|| format!("the number of elements of shape {shape:?} overflows"))
}

/// The tensor of a view of a storage; offset and strides in elements.
///
/// # Errors
/// If the view reaches beyond the storage, or has more elements.
pub(crate) fn gather(
    bytes: &[u8],
    element: Element,
    offset: usize,
    shape: &[usize],
    strides: &[usize],
) -> Result<Array, String> {
    let stored = bytes.len() / element.bytes();
    let count = elements_of(shape)?;
    if shape.len() != strides.len() {
        return Err(format!(
            "expected as many strides as sides of the shape, found shape {shape:?} with strides \
             {strides:?}"
        ));
    }
    let last = shape
        .iter()
        .zip(strides)
        .try_fold(offset, |last, (side, stride)| {
            last.checked_add(side.saturating_sub(1).checked_mul(*stride)?)
        });
    if count > 0 && last.is_none_or(|last| last >= stored) || count > stored {
        return Err(format!(
            "shape {shape:?}, strides {strides:?} and offset {offset} reach beyond its {stored} \
             stored numbers"
        ));
    }
    let mut index = vec![0; shape.len()];
    let mut values = Vec::with_capacity(count);
    let mut at = offset;
    for _ in 0..count {
        values.push(element.read(bytes, at));
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            at += strides[axis];
            if index[axis] < shape[axis] {
                break;
            }
            at -= index[axis] * strides[axis];
            index[axis] = 0;
        }
    }
    Ok(Array {
        shape: shape.to_vec(),
        values,
    })
}

/// Strides of a row-major tensor.
pub(crate) fn row_major(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1_usize; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis].saturating_mul(shape[axis]);
    }
    strides
}
