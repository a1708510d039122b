//! The built-in networks, prepared when they are first used.

use std::sync::{Arc, OnceLock};

use serde_json::{Value, json};
use wdsr_image::Reader;
use wdsr_model::{
    BuiltinModel, Device, DevicePrecision, Isa, Model, Network, Precision, PrecisionChoice,
    PrecisionError, PrecisionOn, Upscaler,
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
    /// By scale, by [`place_of`] their precision.
    upscalers: [OnceLock<Vec<Upscaler>>; 3],
}

/// Where the networks of a precision are kept. Either all networks are on a device or none.
fn place_of(on: &PrecisionOn) -> usize {
    match on {
        PrecisionOn::Processor(Precision::F32) | PrecisionOn::Device(_, DevicePrecision::F32) => 0,
        PrecisionOn::Processor(Precision::Bf16) | PrecisionOn::Device(_, DevicePrecision::F16) => 1,
        PrecisionOn::Processor(Precision::Int8) => 2,
    }
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

    /// Computes on a device instead of the processor.
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

    /// Whether there is a device, and it computes in f16.
    pub fn has_f16(&self) -> bool {
        self.device.as_ref().is_some_and(|device| device.has_f16())
    }

    /// The instruction set.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    fn kind(&self, name: &str) -> &Kind {
        let kind = self.kinds.iter().find(|kind| kind.name == name);
        kind.unwrap_or_else(|| unreachable!("{name} was read as a kind"))
    }

    /// The precision of a kind, whatever its speed.
    ///
    /// # Errors
    /// If the device or the processor lacks it, or the kind has no scales for int8.
    pub(crate) fn precision(
        &self,
        kind: &str,
        choice: PrecisionChoice,
    ) -> Result<PrecisionOn, PrecisionError> {
        let load = || BuiltinModel::of_kind(kind)[0].load();
        let first = self.kind(kind).first.get_or_init(load);
        choice.on(self.device.as_ref(), kind, first, self.isa)
    }

    /// The precision that computes: f32 where the processor computes another not faster, or a kind that an image
    /// chooses has no scales for int8.
    fn used_precision(&self, kind: &str, choice: PrecisionChoice) -> PrecisionOn {
        match self.precision(kind, choice) {
            Ok(on) if !on.is_slower_than_f32(self.isa) => on,
            _ => PrecisionOn::F32,
        }
    }

    /// The networks of a kind, by scale.
    fn of_kind(&self, kind: &str, choice: PrecisionChoice) -> Vec<&Upscaler> {
        let on = self.used_precision(kind, choice);
        let prepare = |model: Model| Upscaler::with_isa(&model, self.isa).computed(&on);
        let upscalers = self.kind(kind).upscalers[place_of(&on)].get_or_init(|| {
            let models = BuiltinModel::of_kind(kind);
            models.iter().map(|model| prepare(model.load())).collect()
        });
        upscalers.iter().collect()
    }

    /// The job of an image.
    pub(crate) fn job(&self, reader: Reader, request: &UpscaleRequest) -> Result<Job<'_>, Error> {
        let kind = request.kind.unwrap_or(BuiltinModel::DEFAULT.kind);
        if let Err(error) = self.precision(kind, request.precision) {
            return Err(Error::Invalid(error.to_string()));
        }
        let networks = self.of_kind(kind, request.precision);
        let job = Job::new(reader, &networks, request.settings)?;
        if request.kind.is_some() {
            return Ok(job);
        }
        let mut for_damaged = self.of_kind(BuiltinModel::FOR_DAMAGED, request.precision);
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
        let mut networks = self.of_kind(kind, request.precision).into_iter();
        let is_on_processor = networks
            .any(|network| passes.contains(&network.scale()) && network.device_name().is_none());
        match is_on_processor {
            true => PROCESSOR,
            false => self.device_name(),
        }
    }

    /// The number format of the networks that made a result; `None` if there was no pass.
    pub(crate) fn precision_of(
        &self,
        request: &UpscaleRequest,
        summary: &Summary,
    ) -> Option<&'static str> {
        let kind = Self::kind_of(request, summary)?;
        // The processor computes in f32 what a device cannot.
        let is_on_device = self.device_of(request, summary) == self.device_name();
        Some(match is_on_device {
            true => self.used_precision(kind, request.precision).name(),
            false => Precision::F32.name(),
        })
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
