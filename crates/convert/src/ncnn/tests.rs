//! The files are read and run in plain loops, by ncnn's definitions of the layers. The result
//! must equal that of the upscaler.

use std::collections::{BTreeMap, HashMap};

use wdsr_model::NetworkConfig;

use super::*;
use crate::interpreter::{Tensor, check_formats, difference, model};

/// A line of a `.param` file.
struct Layer<'a> {
    kind: &'a str,
    name: &'a str,
    inputs: Vec<&'a str>,
    outputs: Vec<&'a str>,
    parameters: HashMap<u32, f32>,
}

impl<'a> Layer<'a> {
    fn parse(line: &'a str) -> Self {
        let mut words = line.split(' ');
        let mut word = || {
            words
                .next()
                .unwrap_or_else(|| panic!("`{line}` is cut short"))
        };
        let (kind, name) = (word(), word());
        let number = |word: &str| -> f32 {
            let value = word.parse();
            value.unwrap_or_else(|e| panic!("{word}: {e}"))
        };
        let counts = [number(word()), number(word())].map(|count| count as usize);
        let [inputs, outputs] = counts.map(|count| (0..count).map(|_| word()).collect());
        let parameters = words
            .map(|word| {
                let (key, value) = word.split_once('=').expect("key=value");
                (key.parse().expect("a number"), number(value))
            })
            .collect();
        Self {
            kind,
            name,
            inputs,
            outputs,
            parameters,
        }
    }

    /// A parameter, or ncnn's default if it is absent.
    fn parameter(&self, key: u32, default: usize) -> usize {
        let value = self.parameters.get(&key);
        value.map_or(default, |value| *value as usize)
    }
}

/// The layers. Checks the counts in the header, and that every blob is written and read once.
fn layers(param: &str) -> Vec<Layer<'_>> {
    let mut lines = param.lines();
    assert_eq!(lines.next(), Some("7767517"));
    let counts = lines.next().expect("counts");
    let layers: Vec<Layer> = lines.map(Layer::parse).collect();
    let mut unread: Vec<&str> = Vec::new();
    let mut written: Vec<&str> = Vec::new();
    for layer in &layers {
        for input in &layer.inputs {
            let at = unread.iter().position(|blob| blob == input);
            let at = at.unwrap_or_else(|| panic!("{} reads {input}, which is missing", layer.name));
            unread.remove(at);
        }
        for output in &layer.outputs {
            assert!(!written.contains(output), "{output} is written twice");
            written.push(output);
            unread.push(output);
        }
    }
    assert_eq!(unread, ["output"], "blobs left");
    assert_eq!(counts, format!("{} {}", layers.len(), written.len()));
    let mut names: Vec<&str> = layers.iter().map(|layer| layer.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), layers.len(), "names are unique");
    layers
}

/// Reads a `.bin` file from its beginning, as ncnn's `ModelBin::load`.
struct Bin<'a>(&'a [u8]);

impl Bin<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (first, rest) = self.0.split_first_chunk().expect("more numbers");
        self.0 = rest;
        *first
    }

    fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count)
            .map(|_| f32::from_le_bytes(self.take()))
            .collect()
    }

    /// Numbers after a tag.
    fn weights(&mut self, count: usize) -> Vec<f32> {
        match u32::from_le_bytes(self.take()) {
            0 => self.floats(count),
            0x0130_6B47 => {
                let halves = |_| f16::from_le_bytes(self.take()).to_f32();
                let weights = (0..count.next_multiple_of(2)).map(halves);
                let mut weights: Vec<f32> = weights.collect();
                weights.truncate(count);
                weights
            }
            tag => panic!("tag {tag:x}"),
        }
    }
}

/// Runs the files in float32, whatever their number format.
fn run(files: &NcnnFiles, input: Tensor) -> Tensor {
    let mut bin = Bin(&files.bin);
    let mut input = Some(input);
    let mut blobs: HashMap<&str, Tensor> = HashMap::new();
    for layer in layers(&files.param) {
        let inputs: Vec<Tensor> = layer
            .inputs
            .iter()
            .map(|blob| blobs.remove(blob).expect("written"))
            .collect();
        let result = match layer.kind {
            "Input" => {
                assert_eq!(layer.outputs, ["data"]);
                input.take().expect("one input")
            }
            "Split" => inputs[0].clone(),
            "Convolution" => {
                let (outputs, count) = (layer.parameter(0, 0), layer.parameter(6, 0));
                assert_eq!(layer.parameter(5, 0), 1, "biases");
                let weight = bin.weights(count);
                let bias = bin.floats(outputs);
                let sum = inputs[0].convolve(
                    &weight,
                    &bias,
                    layer.parameter(1, 0),
                    layer.parameter(4, 0),
                );
                match layer.parameter(9, 0) {
                    0 => sum,
                    1 => sum.map(|v| v.max(0.0)),
                    other => panic!("activation {other}"),
                }
            }
            "Interp" => {
                assert_eq!(layer.parameter(0, 0), 2, "bilinear");
                assert_eq!(layer.parameter(1, 0), layer.parameter(2, 0), "factors");
                inputs[0].enlarge(layer.parameter(1, 0))
            }
            "PReLU" => {
                let slopes = bin.floats(layer.parameter(0, 0));
                inputs[0].prelu(&slopes)
            }
            "BinaryOp" if layer.parameter(1, 0) == 1 => {
                assert_eq!(layer.parameter(0, 0), 2, "multiplication");
                let factor = layer.parameters[&2];
                inputs[0].map(|v| factor * v)
            }
            "Concat" => {
                assert_eq!(layer.parameter(0, 0), 0, "axis");
                inputs[0].concat(&inputs[1])
            }
            "BinaryOp" => {
                assert_eq!(layer.parameter(0, 0), 0, "addition");
                inputs[0].zip(&inputs[1], |a, b| a + b)
            }
            "PixelShuffle" => {
                assert_eq!(layer.parameter(1, 0), 0, "mode");
                inputs[0].pixel_shuffle(layer.parameter(0, 1))
            }
            other => panic!("layer {other}"),
        };
        for output in layer.outputs {
            blobs.insert(output, result.clone());
        }
    }
    assert!(bin.0.is_empty(), "{} bytes left", bin.0.len());
    blobs.remove("output").expect("the output is computed")
}

fn file_difference(config: &NetworkConfig, format: WeightFormat) -> f32 {
    let model = model(config);
    let files = to_ncnn(&model, format).expect("finite weights");
    difference(&model, |input| run(&files, input))
}

#[test]
fn files_compute_the_same_as_the_upscaler() {
    check_formats(file_difference);
}

#[test]
fn param_text_is_as_documented() {
    let model = model(&NetworkConfig {
        low_rank: 3,
        ..NetworkConfig::wdsr_b(4, 1, 2)
    });
    let files = to_ncnn(&model, WeightFormat::F32).expect("finite weights");
    let expected = "\
7767517
13 15
Input data 0 1 data
Convolution subtract_mean 1 1 data value_0 0=3 1=1 4=0 5=1 6=9
Split value_0.split 1 2 value_0 value_0_0 value_0_1
Convolution head.0 1 1 value_0_0 value_1 0=4 1=3 4=1 5=1 6=108
Split value_1.split 1 2 value_1 value_1_0 value_1_1
Convolution body.0.body.0 1 1 value_1_0 value_2 0=24 1=1 4=0 5=1 6=96 9=1
Convolution body.0.body.2 1 1 value_2 value_3 0=3 1=1 4=0 5=1 6=72
Convolution body.0.body.3 1 1 value_3 value_4 0=4 1=3 4=1 5=1 6=108
BinaryOp value_5.add 2 1 value_4 value_1_1 value_5 0=0
Convolution tail.0 1 1 value_5 value_6 0=12 1=3 4=1 5=1 6=432
Convolution skip.0 1 1 value_0_1 value_7 0=12 1=5 4=2 5=1 6=900
BinaryOp value_8.add 2 1 value_6 value_7 value_8 0=0
PixelShuffle value_9.pixel_shuffle 1 1 value_8 output 0=2
";
    assert_eq!(files.param, expected);
}

#[test]
fn weights_outside_float16_are_rejected() {
    let config = NetworkConfig::wdsr_a(2, 1, 2);
    let mut convs = model(&config).convs().to_vec();
    convs[1].weight[3] = -70_000.0;
    let model = Model::new(&config, convs, BTreeMap::new());
    assert!(to_ncnn(&model, WeightFormat::F32).is_ok());
    let error = to_ncnn(&model, WeightFormat::F16).expect_err("out of range");
    assert!(
        error
            .to_string()
            .contains("`body.0.body.0.weight` contains -70000"),
        "{error}"
    );
}
