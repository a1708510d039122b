//! Starting from a model's weights: fine-tuning, another scale, a deeper body.
//!
//! Convolutions are matched by the part they play (head, the n-th convolution of a block, tail,
//! ...) and taken where their shapes agree; the others keep their random weights. Weight
//! normalisation begins at v = w, g = |w|, which is the same function.

use std::fmt;

use wdsr_model::{BlockKind, ConvWeights, Model, Network, NetworkConfig};

use crate::parameters::{Layout, block_of};

/// What a training took from the model it started from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Convolutions with the model's weights.
    pub taken: Vec<String>,
    /// Convolutions with random weights.
    pub drawn: Vec<String>,
    /// Blocks that begin as the identity.
    pub inserted: Vec<usize>,
    /// Why the function is not the model's even where all weights are taken.
    pub differences: Vec<String>,
}

impl fmt::Display for Taken {
    /// One line, such as `taken: head.0, body.0 to body.7; drawn at random: tail.0, skip.0`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "taken: {}", spans(&self.taken))?;
        if !self.inserted.is_empty() {
            let names: Vec<String> = self.inserted.iter().map(|b| format!("body.{b}")).collect();
            write!(f, "; inserted as identity: {}", names.join(", "))?;
        }
        if !self.drawn.is_empty() {
            write!(f, "; drawn at random: {}", spans(&self.drawn))?;
        }
        for difference in &self.differences {
            write!(f, "; {difference}")?;
        }
        Ok(())
    }
}

/// The names, the convolutions of a block as one and neighbouring blocks as a span.
fn spans(names: &[String]) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut open: Option<(usize, usize)> = None;
    let close = |open: &mut Option<(usize, usize)>, parts: &mut Vec<String>| {
        if let Some((first, last)) = open.take() {
            parts.push(match first == last {
                true => format!("body.{first}"),
                false => format!("body.{first} to body.{last}"),
            });
        }
    };
    for name in names {
        match (block_of(name), &mut open) {
            (Some(block), Some((_, last))) if block == *last || block == *last + 1 => *last = block,
            (Some(block), _) => {
                close(&mut open, &mut parts);
                open = Some((block, block));
            }
            (None, _) => {
                close(&mut open, &mut parts);
                parts.push(name.clone());
            }
        }
    }
    close(&mut open, &mut parts);
    parts.join(", ")
}

/// The part a convolution plays, whatever the depth and the normalisation of its network.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// The n-th convolution of a block.
    Block {
        block: usize,
        nth: usize,
    },
    /// EDSR's convolution after the body.
    Closing,
    Named(String),
}

fn parts(network: &Network) -> Vec<Part> {
    let closing = format!("body.{}", network.config.blocks);
    let mut last = None;
    let mut nth = 0;
    let part = |name: &str| match block_of(name) {
        Some(block) => {
            nth = if last == Some(block) { nth + 1 } else { 0 };
            last = Some(block);
            Part::Block { block, nth }
        }
        None if name == closing => Part::Closing,
        None => Part::Named(name.to_owned()),
    };
    let names: Vec<&str> = network.convs.iter().map(|c| c.name.as_str()).collect();
    names.into_iter().map(part).collect()
}

/// Puts a model's weights into fresh parameters of a network made by
/// [`Network::for_training`](wdsr_model::Network::for_training). With `insert_blocks` the model's
/// blocks are spread evenly over the network's, and those between begin as the identity.
///
/// # Errors
/// When nothing fits, or blocks are to be inserted and the networks differ in more than depth.
pub fn start_from(
    model: &Model,
    insert_blocks: bool,
    network: &Network,
    layout: &Layout,
    parameters: &mut [f32],
) -> Result<Taken, String> {
    let (from, to) = (model.config(), &network.config);
    let block_from = if insert_blocks {
        spread(from, to)?
    } else {
        (0..to.blocks).map(Some).collect()
    };
    let mut taken = Taken {
        differences: differences(from, to),
        ..Taken::default()
    };
    let source_parts = parts(model.network());
    for (at, (part, conv)) in parts(network).into_iter().zip(&network.convs).enumerate() {
        let wanted = match part {
            Part::Block { block, nth } => match block_from[block] {
                Some(block) => Part::Block { block, nth },
                None => {
                    if nth == 0 {
                        taken.inserted.push(block);
                    }
                    // The body of a block is zero when its last convolution is.
                    if nth + 1 == convs_of_a_block(to.block) {
                        layout.set_zero(at, parameters);
                    }
                    continue;
                }
            },
            other => other,
        };
        let found = source_parts.iter().position(|part| *part == wanted);
        let found = found
            .filter(|found| model.network().convs[*found].weight_shape() == conv.weight_shape());
        match found {
            Some(found) => {
                let weights: &ConvWeights = &model.convs()[found];
                layout.set_conv(at, weights, parameters);
                taken.taken.push(conv.name.clone());
            }
            None => taken.drawn.push(conv.name.clone()),
        }
    }
    if taken.taken.is_empty() {
        return Err(format!(
            "no convolution of {} fits {} by name and shape; train from the start, or take a model \
             of the same kind and width",
            from.label(),
            to.label()
        ));
    }
    Ok(taken)
}

fn convs_of_a_block(kind: BlockKind) -> usize {
    match kind {
        BlockKind::WdsrA | BlockKind::Edsr => 2,
        BlockKind::WdsrB => 3,
    }
}

/// For each block of the deeper network the model's block it takes, or none.
fn spread(from: &NetworkConfig, to: &NetworkConfig) -> Result<Vec<Option<usize>>, String> {
    let alike = NetworkConfig {
        blocks: to.blocks,
        norm: to.norm,
        ..from.clone()
    };
    if alike != *to || to.blocks <= from.blocks {
        return Err(format!(
            "start.insert_blocks makes {} deeper and changes nothing else, but the recipe's \
             network is {} (widths, scale, mean and residual_scale must agree)",
            from.label(),
            to.label()
        ));
    }
    let mut blocks = vec![None; to.blocks];
    for block in 0..from.blocks {
        blocks[block * to.blocks / from.blocks] = Some(block);
    }
    Ok(blocks)
}

/// What makes the same weights another function.
fn differences(from: &NetworkConfig, to: &NetworkConfig) -> Vec<String> {
    let mut differences = Vec::new();
    if from.mean != to.mean {
        differences.push(format!(
            "mean is {:?}, the model's {:?}",
            to.mean, from.mean
        ));
    }
    if from.residual_scale != to.residual_scale {
        let (from, to) = (from.residual_scale, to.residual_scale);
        differences.push(format!("residual_scale is {to}, the model's {from}"));
    }
    if to.norm == wdsr_model::Norm::Batch {
        let note = "batch normalisation begins anew and changes the function";
        differences.push(note.to_owned());
    }
    differences
}
