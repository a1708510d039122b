//! The built-in networks, prepared when they are first used.

use std::sync::OnceLock;

use serde_json::{Value, json};
use wdsr_image::Reader;
use wdsr_model::{BuiltinModel, Isa, Model, Network, Precision, Upscaler};
use wdsr_upscale::{Error, Job, Summary};

use crate::UpscaleRequest;

/// All built-in networks, and the instruction set that they run on.
pub struct Networks {
    isa: Isa,
    kinds: Vec<(&'static str, [OnceLock<Vec<Upscaler>>; 2])>,
}

impl Networks {
    /// Networks for an instruction set.
    pub fn new(isa: Isa) -> Self {
        let kinds = BuiltinModel::kinds().map(|kind| (kind, Default::default()));
        Self {
            isa,
            kinds: kinds.collect(),
        }
    }

    /// The instruction set.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The networks of a kind, by scale.
    fn of_kind(&self, kind: &str, precision: Precision) -> &[Upscaler] {
        let known = self.kinds.iter().find(|(known, _)| *known == kind);
        let (kind, by_precision) =
            known.unwrap_or_else(|| unreachable!("{kind} was read as a kind"));
        let prepared = &by_precision[usize::from(precision == Precision::Bf16)];
        let prepare = |model: Model| Upscaler::with_isa(&model, self.isa).precision(precision);
        prepared.get_or_init(|| {
            let models = BuiltinModel::of_kind(kind);
            models.iter().map(|model| prepare(model.load())).collect()
        })
    }

    /// The job of an image.
    pub(crate) fn job(&self, reader: Reader, request: &UpscaleRequest) -> Result<Job<'_>, Error> {
        let precision = self.isa.precision_for(request.precision);
        let kind = request.kind.unwrap_or(BuiltinModel::DEFAULT.kind);
        let networks = Vec::from_iter(self.of_kind(kind, precision));
        let job = Job::new(reader, &networks, request.settings)?;
        if request.kind.is_some() {
            return Ok(job);
        }
        let for_damaged = self.of_kind(BuiltinModel::FOR_DAMAGED, precision);
        let upscaling = for_damaged.iter().filter(|network| network.scale() > 1);
        job.for_damaged(&Vec::from_iter(upscaling))
    }

    /// The kind of the models that made a result; `None` if there was no pass.
    pub(crate) fn kind_of(request: &UpscaleRequest, summary: &Summary) -> Option<&'static str> {
        let is_for_damaged = summary.choice.is_some_and(|choice| choice.is_for_damaged);
        let kind = match is_for_damaged {
            true => BuiltinModel::FOR_DAMAGED,
            false => request.kind.unwrap_or(BuiltinModel::DEFAULT.kind),
        };
        (!summary.plan.passes().is_empty()).then_some(kind)
    }

    /// The models, for programs.
    pub fn described() -> Value {
        let described = |builtin: &BuiltinModel| {
            let model = builtin.load();
            json!({
                "kind": builtin.kind,
                "scale": builtin.scale,
                "network": model.config().label(),
                "parameters": Network::new(model.config()).parameters(),
                "has_strength": model.strong().is_some(),
            })
        };
        BuiltinModel::ALL.iter().map(described).collect()
    }
}
