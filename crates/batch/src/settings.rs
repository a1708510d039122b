//! What a result depends on beside its image.

use wdsr_image::{Encoding, Format, MetadataPolicy};
use wdsr_upscale::{Job, Plan, Settings, Wrap};

/// How the networks of a batch compute.
#[derive(Clone, Copy, Debug)]
pub struct Computation<'a> {
    /// Precision of the networks, and whatever else of the arithmetic changes bits of a result, such as a GPU and its driver.
    pub arithmetic: &'a str,
    /// Whether results are averages over flips and rotations.
    pub self_ensemble: bool,
    /// Whether one of the networks has a strength.
    pub have_strength: bool,
    /// Scale and [hash](crate::hash_of_model) of each network.
    pub networks: &'a [(usize, String)],
    /// Those of the networks for damaged images, if each image chooses.
    pub networks_for_damaged: &'a [(usize, String)],
}

/// Program, options and models that a result depends on, as the manifest records them. Results of one image with the same
/// text have the same bytes.
pub fn settings_text(
    job: &Job<'_>,
    settings: &Settings,
    computation: &Computation<'_>,
    format: Format,
) -> String {
    let strength = match (computation.have_strength, settings.strength) {
        (false, _) => String::new(),
        (true, None) => "strength by image, ".to_owned(),
        (true, Some(strength)) => format!("strength {strength}, "),
    };
    let wrap = match settings.wrap {
        Wrap::None => String::new(),
        wrap => format!("wrap {}, ", wrap.name()),
    };
    let metadata = MetadataPolicy::NAMED
        .iter()
        .find(|(_, policy)| *policy == settings.metadata)
        .map_or("", |(name, _)| name);
    let mut models = hashes_of(computation.networks, job.plan());
    if let Some(plan) = job.plan_if_damaged() {
        let hashes = hashes_of(computation.networks_for_damaged, plan);
        models += &format!("; of damaged images {hashes}");
    }
    format!(
        "wdsr {}, {}, self-ensemble {}, alpha {:?}, metadata {metadata}, {wrap}{strength}{}models [{models}], {}, {format}",
        env!("CARGO_PKG_VERSION"),
        computation.arithmetic,
        computation.self_ensemble,
        settings.alpha,
        encoding_text(settings.encoding, format),
        job.plan().target()
    )
}

/// What changes the bytes of a result of this format; empty for the defaults.
fn encoding_text(encoding: Encoding, format: Format) -> String {
    let default = Encoding::DEFAULT;
    match format {
        Format::Jpeg if encoding.jpeg_quality != default.jpeg_quality => {
            format!("quality {}, ", encoding.jpeg_quality)
        }
        Format::Png if encoding.png_compression != default.png_compression => {
            format!("compression {:?}, ", encoding.png_compression)
        }
        _ => String::new(),
    }
}

/// The hashes of the networks that run the passes of a plan.
fn hashes_of(networks: &[(usize, String)], plan: &Plan) -> String {
    let of_scale = |scale: &usize| networks.iter().find(|(of, _)| of == scale);
    let passes = plan.passes().iter().filter_map(of_scale);
    let hashes: Vec<&str> = passes.map(|(_, hash)| hash.as_str()).collect();
    hashes.join(" ")
}
