//! Starting from a model's weights: fine-tuning, another scale, a deeper body.
//!
//! Convolutions are matched by their role (head, the n-th convolution of a block, tail, ...) and
//! copied where their shapes match; the others stay random. With weight normalisation v = w and
//! g = |w|, which is the same function.

use std::fmt;

use wdsr_model::{BlockKind, Model, Network, NetworkConfig, Norm};

use crate::error::StartError;
use crate::parameters::{ParameterLayout, block_of};

/// Which weights were copied from a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StartSummary {
    /// Convolutions copied from the model.
    pub copied: Vec<String>,
    /// Convolutions initialised at random.
    pub random: Vec<String>,
    /// Blocks that start as the identity.
    pub inserted: Vec<usize>,
    /// Reasons why the function differs from the model's even if all weights are copied.
    pub differences: Vec<String>,
}

impl fmt::Display for StartSummary {
    /// One line, such as `copied head.0, body.0 to body.7; random: tail.0, skip.0`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "copied {}", spans(&self.copied))?;
        if !self.inserted.is_empty() {
            let names: Vec<String> = self.inserted.iter().map(|b| format!("body.{b}")).collect();
            write!(f, "; inserted as identity: {}", names.join(", "))?;
        }
        if !self.random.is_empty() {
            write!(f, "; random: {}", spans(&self.random))?;
        }
        for difference in &self.differences {
            write!(f, "; {difference}")?;
        }
        Ok(())
    }
}

/// The names, with the convolutions of a block as one and neighbouring blocks as a span.
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

/// The role of a convolution, independent of depth and normalisation.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Role {
    /// The n-th convolution of a block.
    Block { block: usize, nth: usize },
    /// EDSR's convolution after the body.
    AfterBody,
    /// Any other.
    Named(String),
}

fn roles(network: &Network) -> Vec<Role> {
    let after_body = format!("body.{}", network.config.blocks);
    let mut last = None;
    let mut nth = 0;
    let mut role = |name: &str| match block_of(name) {
        Some(block) => {
            nth = if last == Some(block) { nth + 1 } else { 0 };
            last = Some(block);
            Role::Block { block, nth }
        }
        None if name == after_body => Role::AfterBody,
        None => Role::Named(name.to_owned()),
    };
    network.convs.iter().map(|conv| role(&conv.name)).collect()
}

/// Copies a model's weights into the initial parameters of a network made by
/// [`Network::for_training`]. With `insert_blocks` the model's blocks are spread evenly over the
/// network's, and the blocks between them start as the identity.
///
/// # Errors
/// If nothing fits, or blocks are to be inserted and the networks differ in more than depth.
pub fn start_from(
    model: &Model,
    insert_blocks: bool,
    network: &Network,
    layout: &ParameterLayout,
    parameters: &mut [f32],
) -> Result<StartSummary, StartError> {
    let (from, to) = (model.config(), &network.config);
    let source_blocks = if insert_blocks {
        spread(from, to)?
    } else {
        (0..to.blocks).map(Some).collect()
    };
    let mut summary = StartSummary {
        differences: differences(from, to),
        ..StartSummary::default()
    };
    let source_roles = roles(model.network());
    for (at, (role, conv)) in roles(network).into_iter().zip(&network.convs).enumerate() {
        let source_role = match role {
            Role::Block { block, nth } => match source_blocks[block] {
                Some(block) => Role::Block { block, nth },
                None => {
                    if nth == 0 {
                        summary.inserted.push(block);
                    }
                    // A block is the identity if its last convolution is zero.
                    if nth + 1 == convs_of_block(to.block) {
                        layout.set_zero(at, parameters);
                    }
                    continue;
                }
            },
            other => other,
        };
        // What the training of a model with a strength ended with.
        let convs = model.strong().unwrap_or(model.convs());
        let fits =
            |source: &usize| model.network().convs[*source].weight_shape() == conv.weight_shape();
        let source = source_roles.iter().position(|role| *role == source_role);
        match source.filter(fits) {
            Some(source) => {
                layout.set_conv(at, &convs[source], parameters);
                summary.copied.push(conv.name.clone());
            }
            None => summary.random.push(conv.name.clone()),
        }
    }
    if summary.copied.is_empty() {
        return Err(StartError::NothingFits {
            model: from.label(),
            network: to.label(),
        });
    }
    Ok(summary)
}

fn convs_of_block(kind: BlockKind) -> usize {
    match kind {
        BlockKind::WdsrA | BlockKind::Edsr => 2,
        BlockKind::WdsrB => 3,
        BlockKind::Compact | BlockKind::MsrResNet | BlockKind::Rrdb => unreachable!("not trained"),
    }
}

/// The model's block for each block of the deeper network; none for a block that is inserted.
fn spread(from: &NetworkConfig, to: &NetworkConfig) -> Result<Vec<Option<usize>>, StartError> {
    let same_but_depth = NetworkConfig {
        blocks: to.blocks,
        norm: to.norm,
        ..from.clone()
    };
    if same_but_depth != *to || to.blocks <= from.blocks {
        return Err(StartError::NotDeeper {
            model: from.label(),
            network: to.label(),
        });
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
        let (from, to) = (from.mean, to.mean);
        differences.push(format!("mean is {to:?}, the model's is {from:?}"));
    }
    if from.residual_scale != to.residual_scale {
        let (from, to) = (from.residual_scale, to.residual_scale);
        differences.push(format!("residual_scale is {to}, the model's is {from}"));
    }
    if to.norm == Norm::Batch {
        let note = "batch normalisation is reset, which changes the function";
        differences.push(note.to_owned());
    }
    differences
}
