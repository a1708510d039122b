//! The file is decoded and its graph run in plain loops, by ONNX's definitions of the operators:
//! the result must be our own.

use std::collections::{BTreeMap, HashMap};

use super::*;
use crate::config::NetworkConfig;
use crate::model::ConvWeights;
use crate::network::Network;
use crate::upscale::Upscaler;

/// `[channels, height, width]`, row-major.
#[derive(Clone)]
struct Tensor {
    shape: [usize; 3],
    data: Vec<f32>,
}

impl Tensor {
    /// The sample, zero outside the picture.
    fn at(&self, c: usize, y: isize, x: isize) -> f32 {
        let [_, h, w] = self.shape.map(|side| side as isize);
        if (0..h).contains(&y) && (0..w).contains(&x) {
            self.data[((c as isize * h + y) * w + x) as usize]
        } else {
            0.0
        }
    }

    fn from_fn(shape: [usize; 3], f: impl Fn(usize, usize, usize) -> f32) -> Self {
        let mut data = Vec::with_capacity(shape.iter().product());
        for c in 0..shape[0] {
            for y in 0..shape[1] {
                for x in 0..shape[2] {
                    data.push(f(c, y, x));
                }
            }
        }
        Self { shape, data }
    }

    fn map(&self, f: impl Fn(f32) -> f32) -> Self {
        Self {
            shape: self.shape,
            data: self.data.iter().map(|&v| f(v)).collect(),
        }
    }
}

/// Numbers in -0.5..0.5.
fn noise() -> impl FnMut() -> f32 {
    let mut state = 1_u32;
    move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    }
}

fn model(config: &NetworkConfig) -> Model {
    let mut next = noise();
    let convs = Network::new(config)
        .convs
        .iter()
        .map(|conv| {
            let size = 2.5 / (conv.weights() as f32 / conv.out_channels as f32).sqrt();
            ConvWeights {
                weight: (0..conv.weights()).map(|_| next() * size).collect(),
                bias: (0..conv.out_channels).map(|_| next() * 0.1).collect(),
            }
        })
        .collect();
    let notes = BTreeMap::from([("trained".to_owned(), "never".to_owned())]);
    Model::new(config, convs, notes)
}

fn decoded(model: &Model, precision: OnnxPrecision) -> ModelProto {
    let bytes = model.to_onnx(precision).expect("finite weights");
    ModelProto::decode(bytes.as_slice()).expect("a protobuf message")
}

fn numbers(tensor: &TensorProto) -> Vec<f32> {
    let single = |b: &[u8; 4]| f32::from_le_bytes(*b);
    let half = |b: &[u8; 2]| f16::from_le_bytes(*b).to_f32();
    let bytes = &tensor.raw_data;
    match tensor.data_type() {
        DataType::Float => bytes.as_chunks().0.iter().map(single).collect(),
        DataType::Float16 => bytes.as_chunks().0.iter().map(half).collect(),
        DataType::Undefined => panic!("{} has no type", tensor.name),
    }
}

/// Runs the graph in float32, whatever its precision.
fn run(graph: &GraphProto, input: Tensor) -> Tensor {
    let constants: HashMap<&str, &TensorProto> = graph
        .initializer
        .iter()
        .map(|tensor| (tensor.name.as_str(), tensor))
        .collect();
    let mut values = HashMap::from([("input", input)]);
    for node in &graph.node {
        let attribute = |name: &str| {
            node.attribute
                .iter()
                .find(|attribute| attribute.name == name)
                .unwrap_or_else(|| panic!("{} has no `{name}`", node.name))
        };
        let x = &values[node.input[0].as_str()];
        // The second operand: a value, or a constant of one number per channel or in all.
        let operand = || match constants.get(node.input[1].as_str()) {
            Some(constant) => {
                let v = numbers(constant);
                Tensor::from_fn(x.shape, |c, _, _| v[if v.len() == 1 { 0 } else { c }])
            }
            None => values[node.input[1].as_str()].clone(),
        };
        let zipped = |f: fn(f32, f32) -> f32| {
            let y = operand();
            assert_eq!(x.shape, y.shape, "operands of {}", node.name);
            let data = x.data.iter().zip(&y.data).map(|(a, b)| f(*a, *b)).collect();
            Tensor {
                shape: x.shape,
                data,
            }
        };
        let result = match node.op_type.as_str() {
            "Conv" => {
                let weight = constants[node.input[1].as_str()];
                let bias = numbers(constants[node.input[2].as_str()]);
                let kernel = attribute("kernel_shape").ints.clone();
                let pads = &attribute("pads").ints;
                assert_eq!(weight.dims[1], x.shape[0] as i64, "{}", node.name);
                assert_eq!(weight.dims[2..], kernel, "{}", node.name);
                assert_eq!(*pads, vec![kernel[0] / 2; 4], "{}", node.name);
                convolve(x, weight, &bias)
            }
            "Relu" => x.map(|v| v.max(0.0)),
            "Cast" => x.clone(),
            "Add" => zipped(|a, b| a + b),
            "Sub" => zipped(|a, b| a - b),
            "Mul" => zipped(|a, b| a * b),
            "DepthToSpace" => {
                assert_eq!(attribute("mode").s, b"CRD");
                depth_to_space_crd(x, attribute("blocksize").i as usize)
            }
            other => panic!("operator {other}"),
        };
        values.insert(&node.output[0], result);
    }
    values.remove("output").expect("the output is computed")
}

fn convolve(x: &Tensor, weight: &TensorProto, bias: &[f32]) -> Tensor {
    let [out, channels, kernel] = [0, 1, 2].map(|axis| weight.dims[axis] as usize);
    let w = numbers(weight);
    let [_, height, width] = x.shape;
    let reach = (kernel / 2) as isize;
    Tensor::from_fn([out, height, width], |o, y, column| {
        let mut sum = f64::from(bias[o]);
        for i in 0..channels {
            for ky in 0..kernel {
                for kx in 0..kernel {
                    let (sy, sx) = (y as isize + ky as isize, column as isize + kx as isize);
                    let factor = w[((o * channels + i) * kernel + ky) * kernel + kx];
                    sum += f64::from(factor) * f64::from(x.at(i, sy - reach, sx - reach));
                }
            }
        }
        sum as f32
    })
}

fn depth_to_space_crd(x: &Tensor, block: usize) -> Tensor {
    let [channels, height, width] = x.shape;
    let shape = [channels / (block * block), height * block, width * block];
    Tensor::from_fn(shape, |c, y, column| {
        let channel = (c * block + y % block) * block + column % block;
        x.at(channel, (y / block) as isize, (column / block) as isize)
    })
}

fn configs() -> Vec<NetworkConfig> {
    vec![
        NetworkConfig::wdsr_b(5, 2, 2),
        NetworkConfig::wdsr_a(4, 1, 3),
        NetworkConfig {
            residual_scale: 0.1,
            mean: [0.5, 0.25, 0.125],
            ..NetworkConfig::wdsr_a(3, 2, 4)
        },
        NetworkConfig::edsr(4, 2, 4),
        NetworkConfig::edsr(3, 1, 3),
        NetworkConfig::wdsr_b(5, 1, 1),
        NetworkConfig::edsr(3, 0, 8),
    ]
}

/// Largest difference between the graph's output and the upscaler's, for noise in 0..1.
fn difference(config: &NetworkConfig, precision: OnnxPrecision) -> f32 {
    let model = model(config);
    let (width, height) = (7, 5);
    let mut next = noise();
    let pixels: Vec<f32> = (0..3 * width * height).map(|_| next() + 0.5).collect();
    let input = Tensor::from_fn([3, height, width], |c, y, x| {
        pixels[3 * (y * width + x) + c]
    });
    let graph = decoded(&model, precision).graph.expect("a graph");
    let output = run(&graph, input);
    let scale = config.scale;
    assert_eq!(output.shape, [3, height * scale, width * scale]);
    let expected = Upscaler::new(&model)
        .expect("an instruction set")
        .upscale(&pixels, width, height)
        .expect("a picture");
    let mut largest = 0.0_f32;
    for (at, expected) in expected.into_iter().enumerate() {
        let (pixel, c) = (at / 3, at % 3);
        let (y, x) = (pixel / (width * scale), pixel % (width * scale));
        largest = largest.max((output.at(c, y as isize, x as isize) - expected).abs());
    }
    largest
}

#[test]
fn the_graph_computes_what_the_upscaler_does() {
    for config in configs() {
        let largest = difference(&config, OnnxPrecision::F32);
        assert!(largest <= 1e-5, "{}: {largest}", config.label());
    }
}

#[test]
fn float16_weights_change_the_output_by_their_rounding_only() {
    for config in configs() {
        let largest = difference(&config, OnnxPrecision::F16);
        assert!(
            (1e-7..=2e-3).contains(&largest),
            "{}: {largest}",
            config.label()
        );
    }
}

#[test]
fn header_and_metadata_are_the_documented_ones() {
    let config = NetworkConfig::wdsr_b(5, 1, 3);
    let model = model(&config);
    let file = decoded(&model, OnnxPrecision::F32);
    assert_eq!((file.ir_version, file.opset_import.len()), (8, 1));
    assert_eq!(file.opset_import[0].version, 17);
    assert_eq!(file.opset_import[0].domain, "");
    let remark = |key: &str| {
        file.metadata_props
            .iter()
            .find(|entry| entry.key == key)
            .map(|entry| entry.value.as_str())
    };
    let described: NetworkConfig =
        serde_json::from_str(remark("config").expect("a description")).expect("JSON");
    assert_eq!(described, *model.config());
    assert_eq!(remark("trained"), Some("never"));

    let graph = file.graph.expect("a graph");
    let side = |name: &str| DimensionValue::DimParam(name.to_owned());
    for (values, name, height, width) in [
        (&graph.input, "input", "height", "width"),
        (&graph.output, "output", "output_height", "output_width"),
    ] {
        assert_eq!(values.len(), 1);
        assert_eq!(values[0].name, name);
        let tensor = values[0].r#type.clone().and_then(|t| t.tensor_type);
        let tensor = tensor.expect("a tensor");
        assert_eq!(tensor.elem_type(), DataType::Float);
        let dims: Vec<_> = tensor
            .shape
            .expect("a shape")
            .dim
            .into_iter()
            .flat_map(|dim| dim.value)
            .collect();
        let three = DimensionValue::DimValue(3);
        assert_eq!(dims, [side("batch"), three, side(height), side(width)]);
    }
}

#[test]
fn every_weight_is_stored_under_its_key_and_used_once() {
    let config = NetworkConfig::wdsr_b(5, 2, 2);
    let model = model(&config);
    let graph = decoded(&model, OnnxPrecision::F32).graph.expect("a graph");
    let find = |name: String| {
        let tensor = graph.initializer.iter().find(|t| t.name == name);
        let tensor = tensor.unwrap_or_else(|| panic!("{name} is missing"));
        let uses = graph.node.iter().flat_map(|node| &node.input);
        assert_eq!(uses.filter(|input| **input == name).count(), 1, "{name}");
        numbers(tensor)
    };
    for (conv, weights) in model.network().convs.iter().zip(model.convs()) {
        assert_eq!(find(format!("{}.weight", conv.name)), weights.weight);
        assert_eq!(find(format!("{}.bias", conv.name)), weights.bias);
    }
    // And the mean.
    assert_eq!(graph.initializer.len(), 2 * model.convs().len() + 1);
}

#[test]
fn names_are_unique_and_made_before_they_are_used() {
    for precision in [OnnxPrecision::F32, OnnxPrecision::F16] {
        for config in configs() {
            let graph = decoded(&model(&config), precision).graph.expect("a graph");
            let mut known: Vec<&str> = vec!["input"];
            known.extend(graph.initializer.iter().map(|t| t.name.as_str()));
            let mut names: Vec<&str> = Vec::new();
            for node in &graph.node {
                for input in &node.input {
                    assert!(known.contains(&input.as_str()), "{input} in {}", node.name);
                }
                let output = node.output[0].as_str();
                assert!(!known.contains(&output), "{output} is made twice");
                assert!(!names.contains(&node.name.as_str()), "{} twice", node.name);
                known.push(output);
                names.push(&node.name);
            }
        }
    }
}

#[test]
fn a_weight_outside_float16_is_refused() {
    let config = NetworkConfig::wdsr_a(2, 1, 2);
    let mut convs = model(&config).convs().to_vec();
    convs[1].weight[3] = -70_000.0;
    let model = Model::new(&config, convs, BTreeMap::new());
    assert!(model.to_onnx(OnnxPrecision::F32).is_ok());
    let error = model.to_onnx(OnnxPrecision::F16).expect_err("out of range");
    assert_eq!(
        error.to_string(),
        "tensor `body.0.body.0.weight` holds -70000, float16 reaches +-65504; \
         write the model in float32"
    );
}
