//! The built-in networks, prepared when they are first used.

use std::sync::{Arc, OnceLock};

use serde_json::{Value, json};
use wdsr_image::Reader;
use wdsr_model::{
    BuiltinModel, Device, Isa, Model, Network, NoInt8, Precision, PrecisionChoice, Upscaler,
};
use wdsr_upscale::{Job, Summary};

use crate::{Error, UpscaleRequest};

/// All built-in networks, and the instruction set or the device that they run on.
pub struct Networks {
    isa: Isa,
    device: Option<Arc<dyn Device>>,
    kinds: Vec<Kind>,
}

/// The name of the processor among devices.
const PROCESSOR: &str = "CPU";

/// The networks of a kind.
struct Kind {
    name: &'static str,
    /// The model of the first scale, which tells the precisions of all.
    first: OnceLock<Model>,
    /// By scale, in f32, bf16 and int8.
    upscalers: [OnceLock<Vec<Upscaler>>; 3],
}

impl Networks {
    /// Networks for an instruction set.
    pub fn new(isa: Isa) -> Self {
        let kinds = BuiltinModel::kinds().map(|name| Kind {
            name,
            first: OnceLock::new(),
            upscalers: Default::default(),
        });
        Self {
            isa,
            device: None,
            kinds: kinds.collect(),
        }
    }

    /// Computes on a device instead of the processor, in its own precision.
    #[must_use]
    pub fn on_device(mut self, device: Arc<dyn Device>) -> Self {
        self.device = Some(device);
        self
    }

    /// The device, for people: `CPU` for the processor.
    pub fn device_name(&self) -> &str {
        self.device
            .as_ref()
            .map_or(PROCESSOR, |device| device.name())
    }

    /// The instruction set.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    fn kind(&self, name: &str) -> &Kind {
        let kind = self.kinds.iter().find(|kind| kind.name == name);
        kind.unwrap_or_else(|| unreachable!("{name} was read as a kind"))
    }

    /// The precision of a kind on the processor, whatever its speed; f32 beside a device.
    ///
    /// # Errors
    /// If the kind has no scales for int8.
    pub(crate) fn precision(
        &self,
        kind: &str,
        choice: PrecisionChoice,
    ) -> Result<Precision, NoInt8> {
        if self.device.is_some() {
            return Ok(Precision::F32);
        }
        let load = || BuiltinModel::of_kind(kind)[0].load();
        let first = self.kind(kind).first.get_or_init(load);
        choice.of_model(kind, first, self.isa)
    }

    /// The networks of a kind, by scale, in a precision or in f32 if that is faster.
    fn of_kind(&self, kind: &str, precision: Precision) -> Vec<&Upscaler> {
        let precision = self.isa.precision_for(precision);
        let at = match precision {
            Precision::F32 => 0,
            Precision::Bf16 => 1,
            Precision::Int8 => 2,
        };
        let prepare = |model: Model| {
            let upscaler = Upscaler::with_isa(&model, self.isa).precision(precision);
            match &self.device {
                Some(device) => upscaler.on_device(device.clone()),
                None => upscaler,
            }
        };
        let upscalers = self.kind(kind).upscalers[at].get_or_init(|| {
            let models = BuiltinModel::of_kind(kind);
            models.iter().map(|model| prepare(model.load())).collect()
        });
        upscalers.iter().collect()
    }

    /// The job of an image.
    pub(crate) fn job(&self, reader: Reader, request: &UpscaleRequest) -> Result<Job<'_>, Error> {
        if let (Some(device), PrecisionChoice::Of(Precision::Bf16 | Precision::Int8)) =
            (&self.device, request.precision)
        {
            let message = format!(
                "precision: bf16 and int8 are of the processor, and {} computes; omit it",
                device.name()
            );
            return Err(Error::Invalid(message));
        }
        let kind = request.kind.unwrap_or(BuiltinModel::DEFAULT.kind);
        let precision = self.precision(kind, request.precision);
        let precision = precision.map_err(|error| Error::Invalid(error.to_string()))?;
        let job = Job::new(reader, &self.of_kind(kind, precision), request.settings)?;
        if request.kind.is_some() {
            return Ok(job);
        }
        let kind = BuiltinModel::FOR_DAMAGED;
        let precision = self.precision(kind, request.precision);
        let mut for_damaged = self.of_kind(kind, precision.unwrap_or(Precision::F32));
        for_damaged.retain(|network| network.scale() > 1);
        Ok(job.for_damaged(&for_damaged)?)
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

    /// The name of the device that computed a result, for people. A device whose memory does not suffice leaves its
    /// work to the processor.
    pub(crate) fn device_of(&self, request: &UpscaleRequest, summary: &Summary) -> &str {
        let Some(kind) = Self::kind_of(request, summary) else {
            return PROCESSOR;
        };
        let passes = summary.plan.passes();
        let mut networks = self.of_kind(kind, Precision::F32).into_iter();
        let is_on_processor = networks
            .any(|network| passes.contains(&network.scale()) && network.device_name().is_none());
        match is_on_processor {
            true => PROCESSOR,
            false => self.device_name(),
        }
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
