//! The equations of the networks, as code that adds operations.

use super::{BatchNorm, Conv, Network, Operation, Value, ValueShape};
use crate::config::{BlockKind, NetworkConfig};

impl Network {
    /// The operations of a network, with batch normalisations or without.
    pub(super) fn build(config: &NetworkConfig, batch_norm: bool) -> Self {
        config
            .validate()
            .unwrap_or_else(|error| panic!("network description: {error}"));
        let input = Value(0);
        let mut network = Self {
            config: config.clone(),
            convs: Vec::new(),
            batch_norms: Vec::new(),
            operations: Vec::new(),
            values: vec![ValueShape {
                channels: 3,
                scale: 1,
            }],
            input,
            output: input,
        };
        network.output = match config.block {
            BlockKind::WdsrA | BlockKind::WdsrB => network.wdsr(input, batch_norm),
            BlockKind::Edsr => network.edsr(input, batch_norm),
        };
        network
    }

    fn wdsr(&mut self, u: Value, batch_norm: bool) -> Value {
        let (features, scale) = (self.config.features, self.config.scale);
        let colours = 3 * scale * scale;
        let head = self.conv("head.0", u, features, 3);
        let body = self.body(head, batch_norm);
        let tail = self.conv("tail.0", body, colours, 3);
        let skip = self.conv("skip.0", u, colours, 5);
        let sum = self.add(tail, skip, 1.0);
        self.shuffle(sum, scale)
    }

    fn edsr(&mut self, u: Value, batch_norm: bool) -> Value {
        let NetworkConfig {
            features,
            blocks,
            scale,
            ..
        } = self.config;
        let head = self.conv("head.0", u, features, 3);
        let body = self.body(head, batch_norm);
        let closing = self.conv(&format!("body.{blocks}"), body, features, 3);
        let mut x = self.add(closing, head, 1.0);
        let stages: &[usize] = match scale {
            1 => &[],
            4 => &[2, 2],
            8 => &[2, 2, 2],
            _ => &[scale],
        };
        for (stage, &factor) in stages.iter().enumerate() {
            let wide = self.conv(
                &format!("tail.0.{}", 2 * stage),
                x,
                features * factor * factor,
                3,
            );
            x = self.shuffle(wide, factor);
        }
        self.conv("tail.1", x, 3, 3)
    }

    /// All residual blocks.
    fn body(&mut self, mut x: Value, batch_norm: bool) -> Value {
        let config = self.config.clone();
        let (n, wide) = (config.features, config.features * config.expansion);
        // Output channels, kernel, and whether a ReLU follows, of each convolution of a block.
        let convs: &[(usize, usize, bool)] = match config.block {
            BlockKind::WdsrA | BlockKind::Edsr => &[(wide, 3, true), (n, 3, false)],
            BlockKind::WdsrB => &[(wide, 1, true), (config.low_rank, 1, false), (n, 3, false)],
        };
        for block in 0..config.blocks {
            let mut branch = x;
            // Position in the published `nn.Sequential`, where norm and ReLU count too.
            let mut position = 0;
            for &(channels, kernel, relu) in convs {
                let name = format!("body.{block}.body.{position}");
                branch = self.push_conv(&name, branch, channels, kernel, relu && !batch_norm);
                if batch_norm {
                    position += 1;
                    branch =
                        self.batch_norm(&format!("body.{block}.body.{position}"), branch, relu);
                }
                position += if relu { 2 } else { 1 };
            }
            x = self.add(branch, x, config.residual_scale);
        }
        x
    }

    fn value(&mut self, channels: usize, scale: usize) -> Value {
        self.values.push(ValueShape { channels, scale });
        Value(self.values.len() - 1)
    }

    fn conv(&mut self, name: &str, input: Value, out_channels: usize, kernel: usize) -> Value {
        self.push_conv(name, input, out_channels, kernel, false)
    }

    fn push_conv(
        &mut self,
        name: &str,
        input: Value,
        out_channels: usize,
        kernel: usize,
        relu: bool,
    ) -> Value {
        let ValueShape {
            channels: in_channels,
            scale,
        } = self.shape(input);
        let output = self.value(out_channels, scale);
        self.convs.push(Conv {
            name: name.to_owned(),
            in_channels,
            out_channels,
            kernel,
        });
        self.operations.push(Operation::Conv {
            conv: self.convs.len() - 1,
            input,
            output,
            relu,
        });
        output
    }

    fn batch_norm(&mut self, name: &str, input: Value, relu: bool) -> Value {
        let ValueShape { channels, scale } = self.shape(input);
        let output = self.value(channels, scale);
        let conv = self.convs.len() - 1;
        self.batch_norms.push(BatchNorm {
            name: name.to_owned(),
            conv,
            channels,
        });
        let norm = self.batch_norms.len() - 1;
        self.operations.push(Operation::BatchNorm {
            norm,
            input,
            output,
            relu,
        });
        output
    }

    fn add(&mut self, branch: Value, identity: Value, factor: f32) -> Value {
        let ValueShape { channels, scale } = self.shape(identity);
        let output = self.value(channels, scale);
        self.operations.push(Operation::Add {
            branch,
            identity,
            output,
            scale: factor,
        });
        output
    }

    fn shuffle(&mut self, input: Value, factor: usize) -> Value {
        if factor == 1 {
            return input;
        }
        let ValueShape { channels, scale } = self.shape(input);
        let output = self.value(channels / (factor * factor), scale * factor);
        self.operations.push(Operation::PixelShuffle {
            input,
            output,
            scale: factor,
        });
        output
    }
}
