//! The networks that `-m` names, or those that the program chooses between, ready to run.

use std::path::Path;

use wdsr_batch::Computation;
use wdsr_image::{Format, Reader};
use wdsr_model::{BuiltinModel, Isa, PrecisionOn, Upscaler};
use wdsr_upscale::{Error, Job, Plan, Settings, Summary};

use super::report;
use crate::WrongUsage;
use crate::device::Computing;
use crate::models::{self, Choice, ModelArguments, PrecisionArgument};
use crate::progress;

/// The arguments that networks depend on.
#[derive(Clone, Copy)]
pub(crate) struct NetworkArguments<'a> {
    pub(crate) model: &'a ModelArguments,
    pub(crate) strength: Option<f32>,
}

/// Networks of different scales, and how they compute.
pub(crate) struct Networks<'a> {
    computing: Computing<'a>,
    chosen: Group,
    /// Those for damaged images, if no model is named.
    for_damaged: Option<Group>,
}

/// The models of one name.
struct Group {
    /// The built-in kind, or the file.
    name: String,
    /// That of the processor.
    precision: PrecisionOn,
    networks: Vec<Network>,
}

struct Network {
    model_hash: String,
    upscaler: Upscaler,
}

impl Network {
    fn scale_and_hash(&self) -> (usize, String) {
        (self.upscaler.scale(), self.model_hash.clone())
    }
}

impl<'a> Networks<'a> {
    pub(crate) fn load(arguments: NetworkArguments<'a>) -> anyhow::Result<Self> {
        let computing = Computing::open(arguments.model)?;
        let model = arguments.model.model.as_deref();
        // A strength is that of the model that has one.
        let implied = (arguments.strength).map(|_| Path::new(BuiltinModel::FOR_DAMAGED));
        let precision = arguments.model.precision;
        let group = |model: Option<&Path>, precision: PrecisionArgument| {
            Group::load(&computing, model, precision)
        };
        let chosen = group(model.or(implied), precision)?;
        let for_damaged = match model.or(implied) {
            Some(_) => None,
            None => {
                let kind = BuiltinModel::FOR_DAMAGED;
                let precision = match precision {
                    PrecisionArgument::Int8 => {
                        progress::note(&format!(
                            "--precision int8: {kind}, for images with damage, has no int8; it runs in f32"
                        ));
                        PrecisionArgument::F32
                    }
                    other => other,
                };
                Some(group(Some(Path::new(kind)), precision)?.that_upscale())
            }
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

    /// Precision of the chosen models, and a GPU with its driver, on which the bits of a result depend. Models for damaged images
    /// may have another precision.
    pub(crate) fn arithmetic_text(&self) -> String {
        self.chosen.precision.text()
    }

    /// The scale of one pass.
    pub(super) fn scale(&self) -> usize {
        self.chosen.networks[0].upscaler.scale()
    }

    /// What a result depends on beside its image, as the manifest records it.
    pub(super) fn settings_text(
        &self,
        job: &Job<'_>,
        settings: &Settings,
        self_ensemble: bool,
        format: Format,
    ) -> String {
        let of_group = |group: &Group| group.networks.iter().map(Network::scale_and_hash).collect();
        let networks: Vec<_> = of_group(&self.chosen);
        let computation = Computation {
            arithmetic: &self.arithmetic_text(),
            self_ensemble,
            have_strength: self.have_strength(),
            networks: &networks,
            networks_for_damaged: &self.for_damaged.as_ref().map_or(Vec::new(), of_group),
        };
        wdsr_batch::settings_text(job, settings, &computation, format)
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
}

impl Group {
    fn load(
        computing: &Computing<'_>,
        model: Option<&Path>,
        precision: PrecisionArgument,
    ) -> anyhow::Result<Self> {
        let mut networks = Vec::new();
        let choices = models::choose(model)?;
        let Choice { name, model: first } = &choices[0];
        let precision = computing.precision(precision, name, first)?;
        let precision = models::or_f32(precision, Isa::detect()?);
        for Choice { model, .. } in choices {
            networks.push(Network {
                model_hash: wdsr_batch::hash_of_model(&model)?,
                upscaler: computing.upscaler(&model, &precision)?,
            });
        }
        let default = Path::new(BuiltinModel::DEFAULT.kind);
        Ok(Self {
            name: report::shown(model.unwrap_or(default)),
            precision,
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
