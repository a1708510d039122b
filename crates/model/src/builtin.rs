//! The built-in models, by name.

use std::path::PathBuf;

use crate::model::Model;

/// A built-in model, named by `kind` and `scale`.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct BuiltinModel {
    /// `base` or `small`, by the size of the network; `photo` for damaged photographs.
    pub kind: &'static str,
    /// Output pixels per input pixel on each side.
    pub scale: usize,
    file: &'static &'static [u8],
}

impl BuiltinModel {
    /// All built-in models, by kind and scale.
    pub const ALL: &[Self] = &[
        Self::new("base", 2, &wdsr_weights::BASE_X2),
        Self::new("base", 3, &wdsr_weights::BASE_X3),
        Self::new("base", 4, &wdsr_weights::BASE_X4),
        Self::new("photo", 2, &wdsr_weights::PHOTO_X2),
        Self::new("photo", 4, &wdsr_weights::PHOTO_X4),
        Self::new("photo", 1, &wdsr_weights::PHOTO_X1),
        Self::new("small", 2, &wdsr_weights::SMALL_X2),
        Self::new("small", 3, &wdsr_weights::SMALL_X3),
        Self::new("small", 4, &wdsr_weights::SMALL_X4),
    ];

    /// The default model.
    pub const DEFAULT: Self = Self::ALL[0];

    /// The kind of the models with a strength, for damaged images.
    pub const FOR_DAMAGED: &str = "photo";

    const fn new(kind: &'static str, scale: usize, file: &'static &'static [u8]) -> Self {
        Self { kind, scale, file }
    }

    /// All kinds, the default first.
    pub fn kinds() -> impl Iterator<Item = &'static str> {
        let repeated = |at: usize| at > 0 && Self::ALL[at - 1].kind == Self::ALL[at].kind;
        (0..Self::ALL.len())
            .filter(move |at| !repeated(*at))
            .map(|at| Self::ALL[at].kind)
    }

    /// The models of a kind: the one to use by default first. Empty if there is no such kind.
    pub fn of_kind(kind: &str) -> Vec<Self> {
        let of_kind = |model: &&Self| model.kind == kind;
        Self::ALL.iter().filter(of_kind).copied().collect()
    }

    /// Its name, such as `small x2`.
    pub fn name(&self) -> String {
        format!("{} x{}", self.kind, self.scale)
    }

    /// The size of its file in bytes.
    pub fn file_bytes(&self) -> usize {
        self.file.len()
    }

    /// Reads the model.
    pub fn load(&self) -> Model {
        let path = format!("models/{}-x{}.safetensors", self.kind, self.scale);
        Model::from_bytes(self.file, &PathBuf::from(path))
            .unwrap_or_else(|e| unreachable!("a test loads every built-in model: {e}"))
    }
}

impl Model {
    /// The default built-in model, [`BuiltinModel::DEFAULT`].
    pub fn builtin() -> Self {
        BuiltinModel::DEFAULT.load()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_have_the_scale_of_their_names() {
        for builtin in BuiltinModel::ALL {
            let model = builtin.load();
            assert_eq!(model.config().scale, builtin.scale, "{}", builtin.name());
            let has_strength = model.strong().is_some();
            assert_eq!(has_strength, builtin.kind == "photo", "{}", builtin.name());
        }
    }

    /// A clean image is upscaled by the very weights of `base`.
    #[test]
    fn photo_is_base_at_strength_0() {
        for builtin in BuiltinModel::of_kind("photo") {
            let of_scale =
                |base: &&BuiltinModel| base.kind == "base" && base.scale == builtin.scale;
            if let Some(base) = BuiltinModel::ALL.iter().find(of_scale) {
                let photo = builtin.load().at_strength(0.0);
                assert_eq!(photo.convs(), base.load().convs(), "{}", builtin.name());
            }
        }
    }

    #[test]
    fn kinds_have_their_scales() {
        let kinds = Vec::from_iter(BuiltinModel::kinds());
        assert_eq!(kinds, ["base", "photo", "small"]);
        for kind in kinds {
            let scales =
                Vec::from_iter(BuiltinModel::of_kind(kind).iter().map(|model| model.scale));
            let expected = if kind == "photo" {
                [2, 4, 1]
            } else {
                [2, 3, 4]
            };
            assert_eq!(scales, expected, "{kind}");
        }
        assert!(BuiltinModel::of_kind("huge").is_empty());
    }
}
