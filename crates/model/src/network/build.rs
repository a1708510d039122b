//! The equations of the networks, as code that adds operations.

use super::{Activation, BatchNorm, Conv, Network, Operation, Value, ValueShape};
use crate::config::{BlockKind, NetworkConfig, RRDB_SCALE};

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
            BlockKind::Compact => network.compact(input),
            BlockKind::MsrResNet => network.msr_resnet(input),
            BlockKind::Rrdb => network.rrdb(input),
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
            features, blocks, ..
        } = self.config;
        let head = self.conv("head.0", u, features, 3);
        let body = self.body(head, batch_norm);
        let closing = self.conv(&format!("body.{blocks}"), body, features, 3);
        let sum = self.add(closing, head, 1.0);
        let x = self.upsample(sum, Activation::None, |stage| {
            format!("tail.0.{}", 2 * stage)
        });
        self.conv("tail.1", x, 3, 3)
    }

    fn compact(&mut self, u: Value) -> Value {
        let NetworkConfig {
            features,
            blocks,
            scale,
            ..
        } = self.config;
        let mut x = u;
        // Positions in the published `nn.ModuleList`, where each PReLU follows its convolution.
        for position in (0..=blocks).map(|conv| 2 * conv) {
            x = self.push_conv(
                &format!("body.{position}"),
                x,
                features,
                3,
                Activation::PRelu,
            );
            if let Some(conv) = self.convs.last_mut() {
                conv.slopes = Some(format!("body.{}", position + 1));
            }
        }
        let last = self.conv(&format!("body.{}", 2 * blocks + 2), x, 3 * scale * scale, 3);
        let enlarged = self.repeat(u, scale * scale);
        let sum = self.add(last, enlarged, 1.0);
        self.shuffle(sum, scale)
    }

    fn msr_resnet(&mut self, u: Value) -> Value {
        let NetworkConfig {
            features, scale, ..
        } = self.config;
        let leaky = Activation::LeakyRelu(0.1);
        let head = self.push_conv("conv_first", u, features, 3, leaky);
        let body = self.body(head, false);
        let wide = self.upsample(body, leaky, |stage| format!("upconv{}", stage + 1));
        let x = self.push_conv("conv_hr", wide, features, 3, leaky);
        let last = self.conv("conv_last", x, 3, 3);
        let base = self.value(3, scale);
        self.operations.push(Operation::Enlarge {
            input: u,
            output: base,
            scale,
        });
        self.add(last, base, 1.0)
    }

    fn rrdb(&mut self, u: Value) -> Value {
        let NetworkConfig {
            features,
            blocks,
            scale,
            ..
        } = self.config;
        let leaky = Activation::LeakyRelu(0.2);
        let head = self.conv("conv_first", u, features, 3);
        let mut x = head;
        for block in 0..blocks {
            let mut branch = x;
            for dense in 1..=3 {
                branch = self.dense_block(&format!("body.{block}.rdb{dense}"), branch, leaky);
            }
            x = self.add(branch, x, RRDB_SCALE);
        }
        let closing = self.conv("conv_body", x, features, 3);
        let mut x = self.add(closing, head, 1.0);
        for stage in 1..=scale.ilog2() {
            let repeated = self.repeat(x, 4);
            let enlarged = self.shuffle(repeated, 2);
            x = self.push_conv(&format!("conv_up{stage}"), enlarged, features, 3, leaky);
        }
        let x = self.push_conv("conv_hr", x, features, 3, leaky);
        self.conv("conv_last", x, 3, 3)
    }

    fn dense_block(&mut self, name: &str, x: Value, leaky: Activation) -> Value {
        let NetworkConfig {
            features, growth, ..
        } = self.config;
        let mut all = x;
        for conv in 1..=4 {
            let added = self.push_conv(&format!("{name}.conv{conv}"), all, growth, 3, leaky);
            all = self.concat(all, added);
        }
        let branch = self.conv(&format!("{name}.conv5"), all, features, 3);
        self.add(branch, x, self.config.residual_scale)
    }

    /// A convolution and a pixel shuffle for each factor of the scale.
    fn upsample(
        &mut self,
        mut x: Value,
        activation: Activation,
        name: fn(usize) -> String,
    ) -> Value {
        let NetworkConfig {
            features, scale, ..
        } = self.config;
        let stages: &[usize] = match scale {
            1 => &[],
            4 => &[2, 2],
            8 => &[2, 2, 2],
            _ => &[scale],
        };
        for (stage, &factor) in stages.iter().enumerate() {
            let wide = features * factor * factor;
            let wide = self.push_conv(&name(stage), x, wide, 3, activation);
            x = self.shuffle(wide, factor);
        }
        x
    }

    /// All residual blocks.
    fn body(&mut self, mut x: Value, batch_norm: bool) -> Value {
        let config = self.config.clone();
        let (n, wide) = (config.features, config.features * config.expansion);
        // Output channels, kernel, and whether a ReLU follows, of each convolution of a block.
        let convs: &[(usize, usize, bool)] = match config.block {
            BlockKind::WdsrA | BlockKind::Edsr | BlockKind::MsrResNet => {
                &[(wide, 3, true), (n, 3, false)]
            }
            BlockKind::WdsrB => &[(wide, 1, true), (config.low_rank, 1, false), (n, 3, false)],
            BlockKind::Compact | BlockKind::Rrdb => unreachable!("a network without such blocks"),
        };
        for block in 0..config.blocks {
            let mut branch = x;
            // Position in the published `nn.Sequential`, where norm and ReLU count too.
            let mut position = 0;
            for &(channels, kernel, relu) in convs {
                let name = match config.block {
                    BlockKind::MsrResNet => format!("body.{block}.conv{}", position / 2 + 1),
                    _ => format!("body.{block}.body.{position}"),
                };
                let activation = match relu && !batch_norm {
                    true => Activation::Relu,
                    false => Activation::None,
                };
                branch = self.push_conv(&name, branch, channels, kernel, activation);
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
        self.push_conv(name, input, out_channels, kernel, Activation::None)
    }

    fn push_conv(
        &mut self,
        name: &str,
        input: Value,
        out_channels: usize,
        kernel: usize,
        activation: Activation,
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
            slopes: None,
        });
        self.operations.push(Operation::Conv {
            conv: self.convs.len() - 1,
            input,
            output,
            activation,
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

    fn concat(&mut self, first: Value, second: Value) -> Value {
        let ValueShape { channels, scale } = self.shape(first);
        let output = self.value(channels + self.shape(second).channels, scale);
        self.operations.push(Operation::Concat {
            first,
            second,
            output,
        });
        output
    }

    fn repeat(&mut self, input: Value, times: usize) -> Value {
        let ValueShape { channels, scale } = self.shape(input);
        let output = self.value(channels * times, scale);
        self.operations.push(Operation::Repeat {
            input,
            output,
            times,
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
