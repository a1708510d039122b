//! The networks that `-m` names, ready to run.

use wdsr_model::{Isa, Precision, Upscaler};
use wdsr_upscale::Plan;

use super::{Arguments, manifest};
use crate::WrongUsage;
use crate::models::{self, Choice};

/// Networks of different scales, and how they compute.
pub(super) struct Networks {
    pub(super) precision: Precision,
    networks: Vec<Network>,
}

struct Network {
    model_hash: String,
    upscaler: Upscaler,
}

impl Networks {
    pub(super) fn load(arguments: &Arguments) -> anyhow::Result<Self> {
        let precision = arguments.model.precision.or_f32(Isa::detect()?);
        let mut networks = Vec::new();
        for Choice { model, .. } in models::choose(arguments.model.model.as_deref())? {
            networks.push(Network {
                model_hash: manifest::hash_of_model(&model)?,
                upscaler: arguments.model.upscaler_of(&model, precision)?,
            });
        }
        let loaded = Self {
            precision,
            networks,
        };
        if arguments.strength.is_some() && !loaded.have_strength() {
            let message = "--strength: this model has no strength; -m photo has one";
            return Err(WrongUsage(message.to_owned()).into());
        }
        Ok(loaded)
    }

    /// Whether results depend on a strength.
    pub(super) fn have_strength(&self) -> bool {
        let mut networks = self.networks.iter();
        networks.any(|network| network.upscaler.has_strength())
    }

    pub(super) fn upscalers(&self) -> Vec<&Upscaler> {
        self.networks.iter().map(|n| &n.upscaler).collect()
    }

    /// The hashes of the models that run the passes of a plan.
    pub(super) fn hashes_of(&self, plan: &Plan) -> Vec<&str> {
        let of_scale = |scale: &usize| {
            let mut networks = self.networks.iter();
            networks.find(|network| network.upscaler.scale() == *scale)
        };
        let networks = plan.passes().iter().filter_map(of_scale);
        networks
            .map(|network| network.model_hash.as_str())
            .collect()
    }
}
