//! The parameters of a request, in one table that reads them and describes them.

use serde_json::{Value, json};
use wdsr_image::{Format, MetadataPolicy, PngCompression};
use wdsr_model::{BuiltinModel, PrecisionChoice};
use wdsr_upscale::{AlphaMethod, MAX_SIDE_PX, Settings, Size, SizeRequest, Wrap};

use crate::Error;

/// What an image is upscaled to, and how.
pub struct UpscaleRequest {
    /// The kind of the models; `None` chooses by image.
    pub(crate) kind: Option<&'static str>,
    pub(crate) precision: PrecisionChoice,
    pub(crate) format: Option<Format>,
    pub(crate) settings: Settings,
    sets_quality: bool,
    sets_compression: bool,
    /// The parameter that gives the size.
    size_by: Option<&'static str>,
}

/// A parameter.
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// What it sets.
    pub summary: &'static str,
    /// What its values are, as in "expected ...".
    expected: &'static str,
    /// The JSON schema of its values.
    pub schema: fn() -> Value,
    /// Sets a value; `None` if it is not as expected.
    set: fn(&mut UpscaleRequest, &str) -> Option<()>,
}

fn side() -> Value {
    json!({ "type": "integer", "minimum": 1, "maximum": MAX_SIDE_PX })
}

fn parse_side(text: &str) -> Option<usize> {
    text.parse()
        .ok()
        .filter(|side| (1..=MAX_SIDE_PX).contains(side))
}

/// Values by their names.
fn choice<T: Copy>(choices: &[(&str, T)], text: &str) -> Option<T> {
    let mut choices = choices.iter();
    choices
        .find(|(name, _)| *name == text)
        .map(|(_, value)| *value)
}

/// All parameters of requests that upscale.
pub const PARAMETERS: &[Parameter] = &[
    Parameter {
        name: "model",
        summary: "Built-in models. By default photo for images with marks of JPEG or noise, and base for others.",
        expected: "base, photo or small",
        schema: || json!({ "enum": Vec::from_iter(BuiltinModel::kinds()) }),
        set: |request, text| {
            request.kind = Some(BuiltinModel::kinds().find(|kind| *kind == text)?);
            Some(())
        },
    },
    Parameter {
        name: "scale",
        summary: "Upscale by this factor; 1 only restores (model=photo). At most one parameter gives the size.",
        expected: "1, 2, 3, 4 or 8 (factor takes any other)",
        schema: || json!({ "enum": [1, 2, 3, 4, 8] }),
        set: |request, text| {
            let scales = [("1", 1.0), ("2", 2.0), ("3", 3.0), ("4", 4.0), ("8", 8.0)];
            request.settings.size = SizeRequest::Factor(choice(&scales, text)?);
            Some(())
        },
    },
    Parameter {
        name: "factor",
        summary: "Upscale by this factor, which may be fractional.",
        expected: "a number above 0 such as 2.7",
        schema: || json!({ "type": "number", "exclusiveMinimum": 0 }),
        set: |request, text| {
            let factor: f64 = text.parse().ok()?;
            let is_valid = factor.is_finite() && factor > 0.0;
            request.settings.size = is_valid.then_some(SizeRequest::Factor(factor))?;
            Some(())
        },
    },
    Parameter {
        name: "width",
        summary: "Upscale to this width in pixels; the height follows in proportion.",
        expected: "a number of pixels, 1 or more",
        schema: side,
        set: |request, text| {
            request.settings.size = SizeRequest::Width(parse_side(text)?);
            Some(())
        },
    },
    Parameter {
        name: "height",
        summary: "Upscale to this height in pixels; the width follows in proportion.",
        expected: "a number of pixels, 1 or more",
        schema: side,
        set: |request, text| {
            request.settings.size = SizeRequest::Height(parse_side(text)?);
            Some(())
        },
    },
    Parameter {
        name: "longest",
        summary: "Upscale to this length of the longer side in pixels; the other follows in proportion.",
        expected: "a number of pixels, 1 or more",
        schema: side,
        set: |request, text| {
            request.settings.size = SizeRequest::Longest(parse_side(text)?);
            Some(())
        },
    },
    Parameter {
        name: "size",
        summary: "Upscale to exactly this size. An image that it would stretch by more than a pixel is refused.",
        expected: "WIDTHxHEIGHT such as 3840x2160",
        schema: || json!({ "type": "string", "pattern": "^[1-9][0-9]*x[1-9][0-9]*$" }),
        set: |request, text| {
            let (width, height) = text.split_once('x')?;
            let (width_px, height_px) = (parse_side(width)?, parse_side(height)?);
            request.settings.size = SizeRequest::Exactly(Size {
                width_px,
                height_px,
            });
            Some(())
        },
    },
    Parameter {
        name: "format",
        summary: "Format of the result. By default that of the image; png for formats that are only read.",
        expected: "png, jpg, webp, tif, bmp or gif",
        schema: || json!({ "enum": ["png", "jpg", "jpeg", "webp", "tif", "tiff", "bmp", "gif"] }),
        set: |request, text| {
            let format: Format = text.parse().ok()?;
            request.format = Some(format.is_written().then_some(format)?);
            Some(())
        },
    },
    Parameter {
        name: "quality",
        summary: "Quality of JPEG results; 95 by default.",
        expected: "1 to 100",
        schema: || json!({ "type": "integer", "minimum": 1, "maximum": 100 }),
        set: |request, text| {
            let quality: u8 = text.parse().ok()?;
            request.settings.encoding.jpeg_quality =
                (1..=100).contains(&quality).then_some(quality)?;
            request.sets_quality = true;
            Some(())
        },
    },
    Parameter {
        name: "compression",
        summary: "Compression of PNG results; fast by default.",
        expected: "none, fastest, fast, balanced or high",
        schema: || json!({ "enum": ["none", "fastest", "fast", "balanced", "high"] }),
        set: |request, text| {
            request.settings.encoding.png_compression = choice(&PngCompression::NAMED, text)?;
            request.sets_compression = true;
            Some(())
        },
    },
    Parameter {
        name: "metadata",
        summary: "Which metadata to copy: all (keep, the default), only the colour profile (strip), or all without \
                  positions (strip-gps).",
        expected: "keep, strip or strip-gps",
        schema: || json!({ "enum": ["keep", "strip", "strip-gps"] }),
        set: |request, text| {
            request.settings.metadata = choice(&MetadataPolicy::NAMED, text)?;
            Some(())
        },
    },
    Parameter {
        name: "strength",
        summary: "How much damage to remove; implies model=photo. By default read off each image.",
        expected: "a number from 0 to 1 such as 0.5",
        schema: || json!({ "type": "number", "minimum": 0, "maximum": 1 }),
        set: |request, text| {
            let strength: f32 = text.parse().ok()?;
            let is_valid = (0.0..=1.0).contains(&strength);
            request.settings.strength = Some(is_valid.then_some(strength)?);
            Some(())
        },
    },
    Parameter {
        name: "precision",
        summary: "Number format of the network's arithmetic; f32 by default, and where bf16 or int8 is not faster. \
                  photo has no int8; auto is the fastest that a model has; f16 is for GPUs.",
        expected: "f32, bf16, f16, int8 or auto",
        schema: || json!({ "enum": PrecisionChoice::NAMED.map(|(name, _)| name) }),
        set: |request, text| {
            request.precision = choice(&PrecisionChoice::NAMED, text)?;
            Some(())
        },
    },
    Parameter {
        name: "alpha",
        summary: "How to upscale alpha; by the network by default.",
        expected: "network or lanczos",
        schema: || json!({ "enum": ["network", "lanczos"] }),
        set: |request, text| {
            let methods = [
                ("network", AlphaMethod::Network),
                ("lanczos", AlphaMethod::Lanczos),
            ];
            request.settings.alpha = choice(&methods, text)?;
            Some(())
        },
    },
    Parameter {
        name: "wrap",
        summary: "Which edges continue at the opposite side: none, x (panoramas) or xy (textures).",
        expected: "none, x or xy",
        schema: || json!({ "enum": ["none", "x", "xy"] }),
        set: |request, text| {
            request.settings.wrap = choice(
                &[("none", Wrap::None), ("x", Wrap::X), ("xy", Wrap::Xy)],
                text,
            )?;
            Some(())
        },
    },
];

/// The parameters of which at most one is given.
const SIZES: [&str; 6] = ["scale", "factor", "width", "height", "longest", "size"];

impl UpscaleRequest {
    /// Reads the query of a URL. `settings` are those without parameters: the defaults, and limits.
    ///
    /// # Errors
    /// If a parameter is unknown or invalid, or two exclude each other.
    pub fn of_query(query: &str, settings: Settings) -> Result<Self, Error> {
        let mut request = Self {
            kind: None,
            precision: PrecisionChoice::F32,
            format: None,
            settings,
            sets_quality: false,
            sets_compression: false,
            size_by: None,
        };
        let mut given = Vec::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let Some(parameter) = PARAMETERS.iter().find(|known| known.name == name) else {
                let known = Vec::from_iter(PARAMETERS.iter().map(|known| known.name)).join(", ");
                let message = format!("unknown parameter \"{name}\"; expected {known}");
                return Err(Error::Invalid(message));
            };
            let (name, expected) = (parameter.name, parameter.expected);
            if given.contains(&name) {
                return Err(Error::Invalid(format!("{name} is given twice")));
            }
            given.push(name);
            if let Some(other) = request.size_by.filter(|_| SIZES.contains(&name)) {
                let message =
                    format!("{other} and {name} both give the size; expected one of them");
                return Err(Error::Invalid(message));
            }
            if SIZES.contains(&name) {
                request.size_by = Some(name);
            }
            if (parameter.set)(&mut request, &value).is_none() {
                let message = format!("{name}: expected {expected}, found \"{value}\"");
                return Err(Error::Invalid(message));
            }
        }
        if request.settings.strength.is_some() {
            let kind = request.kind.get_or_insert(BuiltinModel::FOR_DAMAGED);
            if *kind != BuiltinModel::FOR_DAMAGED {
                let message = "strength: this model has no strength; model=photo has one";
                return Err(Error::Invalid(message.to_owned()));
            }
        }
        Ok(request)
    }

    /// Computes in f32 where f16 was requested. Returns whether it was.
    pub fn replace_f16(&mut self) -> bool {
        let is_f16 = self.precision == PrecisionChoice::F16;
        if is_f16 {
            self.precision = PrecisionChoice::F32;
        }
        is_f16
    }

    /// The format of the result of an image of the format `input`.
    ///
    /// # Errors
    /// If a parameter has no effect on it.
    pub(crate) fn result_format(&self, input: Format) -> Result<Format, Error> {
        let format = self.format.unwrap_or(input.of_result());
        let is_unused = |is_set: bool, of: Format| is_set && format != of;
        for (name, is_set, of) in [
            ("quality", self.sets_quality, Format::Jpeg),
            ("compression", self.sets_compression, Format::Png),
        ] {
            if is_unused(is_set, of) {
                return Err(Error::Invalid(format!(
                    "{name} is for {of}, and the result is {format}; omit it, or choose format={}",
                    of.extension()
                )));
            }
        }
        Ok(format)
    }
}
