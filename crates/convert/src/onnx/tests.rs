//! The file is decoded and its graph run in plain loops, by ONNX's definitions of the operators.
//! The result must equal that of the upscaler.

use std::collections::{BTreeMap, HashMap};

use half::f16;
use wdsr_model::NetworkConfig;

use super::*;
use crate::interpreter::{Tensor, check_formats, configs, difference, model};

fn decoded(model: &Model, format: WeightFormat) -> ModelProto {
    let bytes = to_onnx(model, format).expect("finite weights");
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

/// Runs the graph in float32, whatever its number format.
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
        let zipped = |f: fn(f32, f32) -> f32| x.zip(&operand(), f);
        let result = match node.op_type.as_str() {
            "Conv" => {
                let weight = constants[node.input[1].as_str()];
                let bias = numbers(constants[node.input[2].as_str()]);
                let kernel = attribute("kernel_shape").ints.clone();
                let pads = &attribute("pads").ints;
                assert_eq!(weight.dims[1], x.shape[0] as i64, "{}", node.name);
                assert_eq!(weight.dims[2..], kernel, "{}", node.name);
                assert_eq!(*pads, vec![kernel[0] / 2; 4], "{}", node.name);
                x.convolve(
                    &numbers(weight),
                    &bias,
                    kernel[0] as usize,
                    pads[0] as usize,
                )
            }
            "Relu" => x.map(|v| v.max(0.0)),
            "Resize" => {
                assert_eq!(node.input[1], "", "no region of interest");
                let scales = numbers(constants[node.input[2].as_str()]);
                assert_eq!(scales[..2], [1.0; 2]);
                assert_eq!(attribute("mode").s, b"linear");
                x.enlarge(scales[3] as usize)
            }
            "PRelu" => x.prelu(&numbers(constants[node.input[1].as_str()])),
            "Cast" => x.clone(),
            "Add" => zipped(|a, b| a + b),
            "Sub" => zipped(|a, b| a - b),
            "Mul" => zipped(|a, b| a * b),
            "Concat" => {
                assert_eq!(attribute("axis").i, 1, "channels");
                x.concat(&operand())
            }
            "DepthToSpace" => {
                assert_eq!(attribute("mode").s, b"CRD");
                x.pixel_shuffle(attribute("blocksize").i as usize)
            }
            other => panic!("operator {other}"),
        };
        values.insert(&node.output[0], result);
    }
    values.remove("output").expect("the output is computed")
}

fn graph_difference(config: &NetworkConfig, format: WeightFormat) -> f32 {
    let model = model(config);
    let graph = decoded(&model, format).graph.expect("a graph");
    difference(&model, |input| run(&graph, input))
}

#[test]
fn graph_computes_the_same_as_the_upscaler() {
    check_formats(graph_difference);
}

#[test]
fn header_and_metadata_are_as_documented() {
    let config = NetworkConfig::wdsr_b(5, 1, 3);
    let model = model(&config);
    let file = decoded(&model, WeightFormat::F32);
    assert_eq!((file.ir_version, file.opset_import.len()), (8, 1));
    assert_eq!(file.opset_import[0].version, 17);
    assert_eq!(file.opset_import[0].domain, "");
    let entry = |key: &str| {
        file.metadata_props
            .iter()
            .find(|property| property.key == key)
            .map(|property| property.value.as_str())
    };
    let described: NetworkConfig =
        serde_json::from_str(entry("config").expect("a description")).expect("JSON");
    assert_eq!(described, *model.config());
    assert_eq!(entry("trained"), Some("never"));

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
fn weights_are_stored_under_their_keys_and_used_once() {
    let config = NetworkConfig::wdsr_b(5, 2, 2);
    let model = model(&config);
    let graph = decoded(&model, WeightFormat::F32).graph.expect("a graph");
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
fn names_are_unique_and_values_are_computed_before_use() {
    for format in [WeightFormat::F32, WeightFormat::F16] {
        for config in configs() {
            let graph = decoded(&model(&config), format).graph.expect("a graph");
            let mut known: Vec<&str> = vec!["input"];
            known.extend(graph.initializer.iter().map(|t| t.name.as_str()));
            let mut names: Vec<&str> = Vec::new();
            for node in &graph.node {
                // An empty name is an input that is left out.
                for input in node.input.iter().filter(|input| !input.is_empty()) {
                    assert!(known.contains(&input.as_str()), "{input} in {}", node.name);
                }
                let output = node.output[0].as_str();
                assert!(!known.contains(&output), "{output} is computed twice");
                assert!(!names.contains(&node.name.as_str()), "{} twice", node.name);
                known.push(output);
                names.push(&node.name);
            }
        }
    }
}

#[test]
fn weights_outside_float16_are_rejected() {
    let config = NetworkConfig::wdsr_a(2, 1, 2);
    let mut convs = model(&config).convs().to_vec();
    convs[1].weight[3] = -70_000.0;
    let model = Model::new(&config, convs, BTreeMap::new());
    assert!(to_onnx(&model, WeightFormat::F32).is_ok());
    let error = to_onnx(&model, WeightFormat::F16).expect_err("out of range");
    assert_eq!(
        error.to_string(),
        "tensor `body.0.body.0.weight` contains -70000, outside the range of float16 (+-65504); \
         write the model in float32"
    );
}
