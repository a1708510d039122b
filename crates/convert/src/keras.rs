//! Weights of krasserm/super-resolution as Keras saves them in HDF5, converted to PyTorch's names and
//! order.
//!
//! The file has a group for each layer, their names in order in the attribute `layer_names` (of the
//! root, or of `model_weights` where the whole model was saved). A convolution under
//! `tensorflow_addons.layers.WeightNormalization` has `kernel` (v, `[k, k, in, out]`), `g` and `bias`.
//! TensorFlow's `depth_to_space` reads channel (dy s + dx) 3 + c where PyTorch's pixel shuffle reads
//! c s^2 + dy s + dx, so the output channels of tail and skip are reordered.
//!
//! Source: krasserm/super-resolution `model/wdsr.py`, `model/common.py`; Keras `hdf5_format.py`.

use hdf5_pure::{AttrValue, File, Group};

use crate::tensor::{Array, Tensors, elements_of};

/// A convolution: `[k, k, in, out]` directions, gains and biases.
struct Layer {
    kernel: Array,
    gain: Array,
    bias: Array,
}

/// Reads the weights as tensors of the official layout.
///
/// # Errors
/// What was expected and what was found.
pub(crate) fn read(bytes: &[u8]) -> Result<Tensors, String> {
    let damaged = |e| format!("not a complete HDF5 file ({e}); download it again");
    let file = File::from_bytes(bytes.to_vec()).map_err(damaged)?;
    let root = file.root();
    let group = root.group("model_weights").unwrap_or(root);
    let mut budget = bytes.len();
    let mut layers = Vec::new();
    for name in layer_names(&group)? {
        let found = group
            .group(&name)
            .map_err(|e| format!("layer `{name}`: {e}"))?;
        if let Some(layer) =
            layer(&found, &mut budget).map_err(|e| format!("layer `{name}`: {e}"))?
        {
            layers.push(layer);
        }
    }
    named(layers)
}

/// The attribute `layer_names`, which Keras splits into `layer_names0`, `layer_names1`, ... if it is
/// long.
fn layer_names(group: &Group) -> Result<Vec<String>, String> {
    let attributes = group
        .attrs()
        .map_err(|e| format!("not a complete HDF5 file ({e}); download it again"))?;
    let texts = |key: &str| match attributes.get(key)? {
        AttrValue::StringArray(texts)
        | AttrValue::AsciiStringArray(texts)
        | AttrValue::VarLenStringArray(texts)
        | AttrValue::VarLenAsciiStringArray(texts) => Some(texts.clone()),
        AttrValue::StringArraySized { values, .. }
        | AttrValue::AsciiStringArraySized { values, .. } => Some(values.clone()),
        _ => None,
    };
    let names = texts("layer_names").unwrap_or_else(|| {
        (0..)
            .map_while(|part| texts(&format!("layer_names{part}")))
            .flatten()
            .collect()
    });
    if names.is_empty() {
        return Err("expected weights saved by Keras, found no `layer_names`; save them by `model.save_weights`".to_owned());
    }
    Ok(names)
}

/// The convolution in a layer's group, if there is one. Its datasets are in nested groups that repeat
/// the layer's name.
fn layer(group: &Group, budget: &mut usize) -> Result<Option<Layer>, String> {
    const DEEPEST: usize = 3;
    let mut at = group.clone();
    for _ in 0..DEEPEST {
        let datasets = at.datasets().map_err(|e| e.to_string())?;
        if datasets.iter().any(|name| name == "kernel:0") {
            let mut take = |name: &str| dataset(&at, name, budget);
            return Ok(Some(Layer {
                kernel: take("kernel:0")?,
                gain: take("g:0").map_err(|e| {
                    format!("{e}; expected WDSR, whose convolutions have weight normalisation")
                })?,
                bias: take("bias:0")?,
            }));
        }
        match &at.groups().map_err(|e| e.to_string())?[..] {
            [inner] => at = at.group(inner).map_err(|e| e.to_string())?,
            _ => return Ok(None),
        }
    }
    Ok(None)
}

fn dataset(group: &Group, name: &str, budget: &mut usize) -> Result<Array, String> {
    let describe = |e| format!("`{name}`: {e}");
    let dataset = group.dataset(name).map_err(|e| describe(e.to_string()))?;
    let shape = dataset.shape().map_err(|e| describe(e.to_string()))?;
    let shape: Vec<usize> = shape
        .iter()
        .map(|side| usize::try_from(*side).map_err(|e| describe(e.to_string())))
        .collect::<Result<_, _>>()?;
    let count = elements_of(&shape).map_err(describe)?;
    *budget = budget
        .checked_sub(count)
        .ok_or_else(|| format!("`{name}`: shape {shape:?} is larger than the file"))?;
    let values = dataset.read_f32().map_err(|e| describe(e.to_string()))?;
    if values.len() != count {
        return Err(format!(
            "`{name}`: shape {shape:?}, found {} numbers",
            values.len()
        ));
    }
    Ok(Array { shape, values })
}

/// Names the convolutions, which are in the order in which the model was built, as the official
/// implementation. The skip is the one of 5x5; the tail is the last of the others.
fn named(mut layers: Vec<Layer>) -> Result<Tensors, String> {
    for layer in &layers {
        if layer.kernel.shape.len() != 4 {
            return Err(format!(
                "expected kernels [k, k, in, out], found {:?}",
                layer.kernel.shape
            ));
        }
    }
    let side = |layer: &Layer| layer.kernel.shape[0];
    let (Some(skip), true) = (
        layers.iter().position(|layer| side(layer) == 5),
        layers.len() >= 5,
    ) else {
        return Err(format!(
            "expected a WDSR with a 5x5 skip and a block, found {} convolutions",
            layers.len()
        ));
    };
    let skip = layers.remove(skip);
    let (body, tail) = layers.split_at(layers.len() - 1);
    let (head, body) = body.split_at(1);
    // Positions in the block's `nn.Sequential`, where the ReLU counts too.
    let places: &[usize] = if side(&body[0]) == 1 {
        &[0, 2, 3]
    } else {
        &[0, 2]
    };
    let mut tensors = Tensors::new();
    put(&mut tensors, "head.0", &head[0], false)?;
    for (at, layer) in body.iter().enumerate() {
        let (block, place) = (at / places.len(), places[at % places.len()]);
        put(
            &mut tensors,
            &format!("body.{block}.body.{place}"),
            layer,
            false,
        )?;
    }
    put(&mut tensors, "tail.0", &tail[0], true)?;
    put(&mut tensors, "skip.0", &skip, true)?;
    Ok(tensors)
}

/// Adds a convolution in PyTorch's order: `weight_v` `[out, in, k, k]`, `weight_g`, `bias`. With
/// `shuffled` a pixel shuffle follows it.
fn put(tensors: &mut Tensors, name: &str, layer: &Layer, shuffled: bool) -> Result<(), String> {
    let [height, width, inputs, outputs] = layer.kernel.shape[..] else {
        unreachable!("kernels have four sides here");
    };
    let (gain, bias) = (&layer.gain.values, &layer.bias.values);
    if gain.len() != outputs || bias.len() != outputs {
        return Err(format!(
            "convolution `{name}`: expected {outputs} gains and biases, found {} and {}",
            gain.len(),
            bias.len()
        ));
    }
    // The output channel of TensorFlow for each one of PyTorch.
    const COLOURS: usize = 3;
    let order: Vec<usize> = if shuffled && outputs % COLOURS == 0 {
        let places = outputs / COLOURS;
        (0..outputs)
            .map(|channel| channel % places * COLOURS + channel / places)
            .collect()
    } else {
        (0..outputs).collect()
    };
    let mut direction = Vec::with_capacity(layer.kernel.values.len());
    for output in &order {
        for input in 0..inputs {
            for tap in 0..height * width {
                direction.push(layer.kernel.values[(tap * inputs + input) * outputs + output]);
            }
        }
    }
    let of_channels = |values: &[f32]| order.iter().map(|channel| values[*channel]).collect();
    for (end, shape, values) in [
        ("weight_v", vec![outputs, inputs, height, width], direction),
        ("weight_g", vec![outputs, 1, 1, 1], of_channels(gain)),
        ("bias", vec![outputs], of_channels(bias)),
    ] {
        tensors.insert(format!("{name}.{end}"), Array { shape, values });
    }
    Ok(())
}
