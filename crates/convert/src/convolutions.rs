//! From named tensors to plain convolutions: weight normalisation is folded in.
//!
//! w = g v / |v| per output channel, the norm over input channels and kernel, without an epsilon
//! (Salimans and Kingma 2016; `torch.nn.utils.weight_norm`, dim 0).

use std::collections::{BTreeMap, BTreeSet};

use wdsr_model::ConvWeights;

use crate::state_dict::shortened;
use crate::tensor::{Array, Tensors};

/// The form of the weights in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// `weight`
    Plain,
    /// `weight_g`, `weight_v`
    WeightNorm,
    /// `parametrizations.weight.original0` (g), `original1` (v)
    Parametrized,
}

impl Form {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain weights",
            Self::WeightNorm => "weight_g and weight_v folded",
            Self::Parametrized => "parametrizations folded",
        }
    }
}

/// A convolution of a file, `[out, in, kernel, kernel]`.
#[derive(Clone, Debug)]
pub(crate) struct FileConv {
    pub(crate) shape: [usize; 4],
    pub(crate) weights: ConvWeights,
}

/// Convolutions by their names without `.weight`.
pub(crate) type Convolutions = BTreeMap<String, FileConv>;

/// Suffixes of tensor names.
const BIAS: &str = ".bias";
const FORMS: [(Form, &[&str]); 3] = [
    (Form::Plain, &[".weight"]),
    (Form::WeightNorm, &[".weight_g", ".weight_v"]),
    (
        Form::Parametrized,
        &[
            ".parametrizations.weight.original0",
            ".parametrizations.weight.original1",
        ],
    ),
];

/// What the tensors of a file are.
pub(crate) struct Folded {
    pub(crate) convs: Convolutions,
    /// The form of the first convolution's weights.
    pub(crate) form: Form,
    /// Slopes of PReLUs, by their names without `.weight`.
    pub(crate) slopes: BTreeMap<String, Vec<f32>>,
}

/// All convolutions and slopes of the tensors.
///
/// # Errors
/// If a tensor does not belong to a convolution or PReLU, one is missing, a shape is not of a
/// convolution, or a number is not finite.
pub(crate) fn fold(mut tensors: Tensors) -> Result<Folded, String> {
    let slopes = take_slopes(&mut tensors)?;
    let ends = FORMS.iter().flat_map(|(_, parts)| *parts).chain([&BIAS]);
    let mut names = BTreeSet::new();
    for tensor in tensors.keys() {
        let mut conv = ends.clone().filter_map(|end| tensor.strip_suffix(end));
        names.insert(conv.next().ok_or_else(|| unknown(tensor))?.to_owned());
    }
    let mut convolutions = Convolutions::new();
    let mut first_form = None;
    for name in names {
        let (form, conv) = take(&mut tensors, &name)
            .map_err(|e| format!("convolution `{}`: {e}", shortened(&name)))?;
        first_form.get_or_insert(form);
        convolutions.insert(name, conv);
    }
    Ok(Folded {
        convs: convolutions,
        form: first_form.unwrap_or(Form::Plain),
        slopes,
    })
}

/// Removes the slopes of PReLUs: vectors `NAME.weight` without a `NAME.bias`.
fn take_slopes(tensors: &mut Tensors) -> Result<BTreeMap<String, Vec<f32>>, String> {
    let names = tensors.iter().filter_map(|(key, tensor)| {
        let name = key.strip_suffix(".weight")?;
        let is_vector = tensor.shape.len() == 1;
        (is_vector && !tensors.contains_key(&format!("{name}{BIAS}"))).then(|| name.to_owned())
    });
    let mut slopes = BTreeMap::new();
    for name in names.collect::<Vec<_>>() {
        let Some(Array { values, .. }) = tensors.remove(&format!("{name}.weight")) else {
            continue;
        };
        if let Some(value) = values.iter().find(|value| !value.is_finite()) {
            return Err(format!(
                "slopes `{}`: expected finite weights, found {value}",
                shortened(&name)
            ));
        }
        slopes.insert(name, values);
    }
    Ok(slopes)
}

fn unknown(tensor: &str) -> String {
    let tensor = shortened(tensor);
    if tensor.ends_with(".running_mean") {
        return format!(
            "tensor `{tensor}` belongs to a batch normalisation; fold it into the convolutions first"
        );
    }
    format!(
        "tensor `{tensor}` does not belong to a convolution of the known layouts; save the weights of \
         the network alone"
    )
}

fn take(tensors: &mut Tensors, name: &str) -> Result<(Form, FileConv), String> {
    let mut forms = FORMS.iter().filter(|(_, parts)| {
        parts
            .iter()
            .any(|part| tensors.contains_key(&format!("{name}{part}")))
    });
    let (Some((form, parts)), None) = (forms.next(), forms.next()) else {
        return Err(
            "expected its weights in one form, plain or with weight normalisation".to_owned(),
        );
    };
    let mut part = |end: &str| {
        tensors
            .remove(&format!("{name}{end}"))
            .ok_or_else(|| format!("`{end}` is missing"))
    };
    let bias = part(BIAS)?;
    let weight = match parts {
        [weight] => part(weight)?,
        [gain, direction, ..] => fold_gain(&part(gain)?, &part(direction)?)?,
        [] => unreachable!("every form has parts"),
    };
    let shape: [usize; 4] = weight.shape[..]
        .try_into()
        .map_err(|_| format!("expected weights [out, in, k, k], found {:?}", weight.shape))?;
    if bias.shape != shape[..1] {
        return Err(format!(
            "expected a bias of shape {:?}, found {:?}",
            &shape[..1],
            bias.shape
        ));
    }
    if let Some(value) = bias
        .values
        .iter()
        .chain(&weight.values)
        .find(|value| !value.is_finite())
    {
        return Err(format!("expected finite weights, found {value}"));
    }
    let weights = ConvWeights {
        weight: weight.values,
        bias: bias.values,
        slopes: Vec::new(),
    };
    Ok((*form, FileConv { shape, weights }))
}

/// g v / |v| for g of shape `[out, 1, 1, 1]` and v of shape `[out, in, k, k]`.
fn fold_gain(gain: &Array, direction: &Array) -> Result<Array, String> {
    let out = direction.shape.first().copied().unwrap_or(0);
    if gain.values.len() != out || gain.shape.first() != Some(&out) || out == 0 {
        return Err(format!(
            "expected gains [out, 1, 1, 1] of directions [out, in, k, k], found {:?} of {:?}",
            gain.shape, direction.shape
        ));
    }
    let per_channel = direction.values.len() / out;
    let mut values = Vec::with_capacity(direction.values.len());
    for (channel, gain) in gain.values.iter().enumerate() {
        let v = &direction.values[channel * per_channel..][..per_channel];
        let norm = v.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        if norm == 0.0 {
            return Err(format!(
                "the direction of channel {channel} is zero, expected at least one other number"
            ));
        }
        let factor = f64::from(*gain) / norm;
        values.extend(v.iter().map(|v| (f64::from(*v) * factor) as f32));
    }
    Ok(Array {
        shape: direction.shape.clone(),
        values,
    })
}
