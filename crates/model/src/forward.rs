//! The forward pass in use: no value is kept longer than it is needed.

use wdsr_kernels::{Epilogue, Isa, PackedConv2d, Planes, conv2d, pixel_shuffle};

use crate::model::Model;
use crate::network::{Network, Operation, Value};

/// A model with its weights arranged for one instruction set.
pub struct Forward {
    network: Network,
    convs: Vec<PackedConv2d>,
    /// Buffer of each value; values that are not alive together share one.
    buffer_of: Vec<usize>,
    buffers: usize,
}

/// The buffers of a forward pass, one per thread, kept from one tile to the next.
#[derive(Default)]
pub struct Workspace {
    buffers: Vec<Option<Planes>>,
}

impl Forward {
    /// Arranges the weights.
    pub fn new(model: &Model, isa: Isa) -> Self {
        let network = model.network().clone();
        let convs = network
            .convs
            .iter()
            .zip(model.convs())
            .map(|(conv, w)| {
                let (i, o) = (conv.in_channels, conv.out_channels);
                PackedConv2d::forward(isa, &w.weight, &w.bias, i, o, conv.kernel)
            })
            .collect();
        let (buffer_of, buffers) = share_buffers(&network);
        Self {
            network,
            convs,
            buffer_of,
            buffers,
        }
    }

    /// The network.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Runs the network on a picture or tile.
    ///
    /// # Shapes
    /// - input: 3 planes, R G B in 0..1 minus the mean
    /// - result: 3 planes `scale` times as wide and high, to which the mean is still to be added
    ///
    /// # Panics
    /// When the input has not 3 planes.
    pub fn run<'w>(&self, input: Planes, workspace: &'w mut Workspace) -> &'w Planes {
        assert_eq!(input.channels(), 3, "input planes");
        let (width_px, height_px) = (input.width_px(), input.height_px());
        workspace.buffers.resize_with(self.buffers, || None);
        workspace.buffers[self.buffer_of[self.network.input.0]] = Some(input);
        for operation in &self.network.operations {
            match *operation {
                Operation::Conv {
                    conv,
                    input,
                    output,
                    relu,
                } => {
                    let epilogue = if relu {
                        Epilogue::Relu
                    } else {
                        Epilogue::Store
                    };
                    let mut target = self.take(output, width_px, height_px, workspace);
                    conv2d(
                        self.get(input, workspace),
                        &self.convs[conv],
                        &mut target,
                        epilogue,
                    );
                    self.put(output, target, workspace);
                }
                Operation::BatchNorm { .. } => {
                    unreachable!("a network in use has its batch normalisations folded")
                }
                Operation::Add {
                    branch,
                    identity,
                    output,
                    scale,
                } => {
                    // `share_buffers` gives the sum the branch's buffer.
                    let mut sum = self.take(branch, width_px, height_px, workspace);
                    add_scaled(&mut sum, scale, self.get(identity, workspace));
                    self.put(output, sum, workspace);
                }
                Operation::PixelShuffle {
                    input,
                    output,
                    scale,
                } => {
                    let mut target = self.take(output, width_px, height_px, workspace);
                    pixel_shuffle(self.get(input, workspace), scale, &mut target);
                    self.put(output, target, workspace);
                }
            }
        }
        self.get(self.network.output, workspace)
    }

    /// Takes a value's buffer out to write it, in the value's size.
    fn take(&self, value: Value, width_px: usize, height_px: usize, w: &mut Workspace) -> Planes {
        let shape = self.network.shape(value);
        let (width_px, height_px) = (width_px * shape.scale, height_px * shape.scale);
        match w.buffers[self.buffer_of[value.0]].take() {
            Some(mut planes) => {
                planes.resize(shape.channels, width_px, height_px);
                planes
            }
            None => Planes::zeros(shape.channels, width_px, height_px),
        }
    }

    fn put(&self, value: Value, planes: Planes, workspace: &mut Workspace) {
        workspace.buffers[self.buffer_of[value.0]] = Some(planes);
    }

    fn get<'w>(&self, value: Value, workspace: &'w Workspace) -> &'w Planes {
        workspace.buffers[self.buffer_of[value.0]]
            .as_ref()
            .unwrap_or_else(|| unreachable!("value {} is used before it is made", value.0))
    }
}

/// `sum = scale * sum + term`, pixel by pixel.
///
/// # Panics
/// When the shapes differ.
pub fn add_scaled(sum: &mut Planes, scale: f32, term: &Planes) {
    assert_eq!(sum.geometry(), term.geometry(), "planes of a sum");
    assert_eq!(sum.channels(), term.channels(), "planes of a sum");
    for (sum, term) in sum.as_mut_slice().iter_mut().zip(term.as_slice()) {
        *sum = scale * *sum + term;
    }
}

/// Assigns a buffer to each value, so that values alive together have different ones and only
/// values of one shape share one. The sum of an `Add` takes its branch's buffer.
fn share_buffers(network: &Network) -> (Vec<usize>, usize) {
    let mut last_use = vec![0; network.values.len()];
    last_use[network.output.0] = usize::MAX;
    for (at, operation) in network.operations.iter().enumerate() {
        for value in operation.inputs() {
            last_use[value.0] = last_use[value.0].max(at);
        }
    }
    let mut buffer_of = vec![usize::MAX; network.values.len()];
    let mut shapes = vec![network.shape(network.input)];
    buffer_of[network.input.0] = 0;
    let mut free: Vec<usize> = Vec::new();
    for (at, operation) in network.operations.iter().enumerate() {
        let output = operation.output();
        buffer_of[output.0] = match *operation {
            Operation::Add { branch, .. } => buffer_of[branch.0],
            _ => {
                let shape = network.shape(output);
                match free.iter().position(|&buffer| shapes[buffer] == shape) {
                    Some(position) => free.swap_remove(position),
                    None => {
                        shapes.push(shape);
                        shapes.len() - 1
                    }
                }
            }
        };
        for value in operation.inputs() {
            let buffer = buffer_of[value.0];
            if last_use[value.0] == at && buffer != buffer_of[output.0] && !free.contains(&buffer) {
                free.push(buffer);
            }
        }
    }
    (buffer_of, shapes.len())
}
