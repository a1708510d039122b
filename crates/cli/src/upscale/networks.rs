//! The networks that `-m` names, or those that the program chooses between, ready to run.

use std::path::Path;

use wdsr_image::Reader;
use wdsr_model::{BuiltinModel, Upscaler};
use wdsr_upscale::{Error, Job, Plan, Settings, Summary};

use super::{manifest, report};
use crate::WrongUsage;
use crate::device::Computing;
use crate::models::{self, Choice, ModelArguments};

/// The arguments that networks depend on.
#[derive(Clone, Copy)]
pub(crate) struct NetworkArguments<'a> {
    pub(crate) model: &'a ModelArguments,
    pub(crate) strength: Option<f32>,
}

/// Networks of different scales, and how they compute.
pub(crate) struct Networks<'a> {
    pub(crate) computing: Computing<'a>,
    chosen: Group,
    /// Those for damaged images, if no model is named.
    for_damaged: Option<Group>,
}

/// The models of one name.
struct Group {
    /// The built-in kind, or the file.
    name: String,
    networks: Vec<Network>,
}

struct Network {
    model_hash: String,
    upscaler: Upscaler,
}

impl<'a> Networks<'a> {
    pub(crate) fn load(arguments: NetworkArguments<'a>) -> anyhow::Result<Self> {
        let computing = Computing::fastest(arguments.model)?;
        let model = arguments.model.model.as_deref();
        // A strength is that of the model that has one.
        let implied = (arguments.strength).map(|_| Path::new(BuiltinModel::FOR_DAMAGED));
        let group = |model: Option<&Path>| Group::load(&computing, model);
        let chosen = group(model.or(implied))?;
        let for_damaged = match model.or(implied) {
            Some(_) => None,
            None => Some(group(Some(Path::new(BuiltinModel::FOR_DAMAGED)))?.that_upscale()),
        };
        let loaded = Self {
            computing,
            chosen,
            for_damaged,
        };
        if arguments.strength.is_some() && !loaded.have_strength() {
            let message = "--strength: this model has no strength; -m photo has one";
            return Err(WrongUsage(message.to_owned()).into());
        }
        Ok(loaded)
    }

    /// Whether results depend on a strength.
    pub(super) fn have_strength(&self) -> bool {
        let mut networks = self.chosen.networks.iter();
        networks.any(|network| network.upscaler.has_strength())
    }

    /// The strength for all frames of a video: that of --strength, or 0 for models without one.
    ///
    /// # Errors
    /// [`WrongUsage`] if the model needs one.
    pub(crate) fn strength_of_frames(&self, given: Option<f32>) -> Result<f32, WrongUsage> {
        if self.have_strength() && given.is_none() {
            let message = "video: frames of different strengths would flicker; give --strength";
            return Err(WrongUsage(message.to_owned()));
        }
        Ok(given.unwrap_or_default())
    }

    pub(crate) fn upscalers(&self) -> Vec<&Upscaler> {
        self.chosen.upscalers()
    }

    /// The scale of one pass.
    pub(super) fn scale(&self) -> usize {
        self.chosen.networks[0].upscaler.scale()
    }

    /// The job of an image.
    pub(super) fn job(&self, reader: Reader, settings: Settings) -> Result<Job<'_>, Error> {
        let job = Job::new(reader, &self.chosen.upscalers(), settings)?;
        match &self.for_damaged {
            Some(group) => job.for_damaged(&group.upscalers()),
            None => Ok(job),
        }
    }

    /// The name of the models that made a result.
    pub(super) fn name_of(&self, summary: &Summary) -> &str {
        let is_for_damaged = summary.choice.is_some_and(|choice| choice.is_for_damaged);
        let group = self.for_damaged.as_ref().filter(|_| is_for_damaged);
        &group.unwrap_or(&self.chosen).name
    }

    /// The device that computed an image, for its line; `None` without `--device`. Its warnings are printed.
    pub(crate) fn device_used(&self) -> Option<String> {
        let gpu = self.computing.gpu.as_ref()?;
        let groups = [Some(&self.chosen), self.for_damaged.as_ref()];
        let mut networks = groups
            .into_iter()
            .flatten()
            .flat_map(|group| &group.networks);
        let is_short_of_memory = networks.any(|network| network.upscaler.device_name().is_none());
        Some(match gpu.print_warnings() || is_short_of_memory {
            true => "the processor".to_owned(),
            false => gpu.name().to_owned(),
        })
    }

    /// The hashes of the models that run the passes of a plan for frames.
    pub(crate) fn hashes_of_plan(&self, plan: &Plan) -> String {
        self.chosen.hashes_of(plan)
    }

    /// The hashes of the models that run the passes of a job.
    pub(super) fn hashes_of(&self, job: &Job<'_>) -> String {
        let mut hashes = self.chosen.hashes_of(job.plan());
        if let (Some(group), Some(plan)) = (&self.for_damaged, job.plan_if_damaged()) {
            hashes += &format!("; of damaged images {}", group.hashes_of(plan));
        }
        hashes
    }
}

impl Group {
    fn load(computing: &Computing<'_>, model: Option<&Path>) -> anyhow::Result<Self> {
        let mut networks = Vec::new();
        for Choice { model, .. } in models::choose(model)? {
            networks.push(Network {
                model_hash: manifest::hash_of_model(&model)?,
                upscaler: computing.upscaler(&model)?,
            });
        }
        let default = Path::new(BuiltinModel::DEFAULT.kind);
        Ok(Self {
            name: report::shown(model.unwrap_or(default)),
            networks,
        })
    }

    /// Without those of scale 1.
    fn that_upscale(mut self) -> Self {
        self.networks.retain(|network| network.upscaler.scale() > 1);
        self
    }

    fn upscalers(&self) -> Vec<&Upscaler> {
        self.networks.iter().map(|n| &n.upscaler).collect()
    }

    /// The hashes of the models that run the passes of a plan.
    fn hashes_of(&self, plan: &Plan) -> String {
        let of_scale = |scale: &usize| {
            let mut networks = self.networks.iter();
            networks.find(|network| network.upscaler.scale() == *scale)
        };
        let networks = plan.passes().iter().filter_map(of_scale);
        let hashes = networks.map(|network| network.model_hash.as_str());
        hashes.collect::<Vec<_>>().join(" ")
    }
}
