//! The networks that `-m` names, ready to run.

use wdsr_model::{Isa, Precision, Upscaler};
use wdsr_upscale::{Plan, SizeRequest};

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
        let mut first_name = None;
        for Choice { name, model } in models::choose(arguments.model.model.as_deref())? {
            first_name.get_or_insert(name);
            networks.push(Network {
                model_hash: manifest::hash_of_model(&model)?,
                upscaler: arguments.model.upscaler_of(&model, precision)?,
            });
        }
        if let Some(name) = first_name
            && arguments.size.request() != SizeRequest::OnePass
            && networks.iter().all(|network| network.upscaler.scale() == 1)
        {
            let message = format!("model {name} has scale 1; omit the size");
            return Err(WrongUsage(message).into());
        }
        Ok(Self {
            precision,
            networks,
        })
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
