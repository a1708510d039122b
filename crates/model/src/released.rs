//! The models that come with the library, by name.

use std::path::PathBuf;

use crate::model::Model;

/// A model that comes with the library: `kind` and `scale` name it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Released {
    /// Size of the network: `small` or `base`.
    pub kind: &'static str,
    /// Output pixels per input pixel on each side.
    pub scale: usize,
    file: &'static [u8],
}

impl Released {
    /// All of them; of each kind first the one that is meant where no scale is named.
    pub const ALL: &[Self] = &[
        Self {
            kind: "small",
            scale: 2,
            file: wdsr_weights::SMALL_X2,
        },
        Self {
            kind: "small",
            scale: 3,
            file: wdsr_weights::SMALL_X3,
        },
        Self {
            kind: "small",
            scale: 4,
            file: wdsr_weights::SMALL_X4,
        },
    ];

    /// The model meant where none is named.
    pub const DEFAULT: Self = Self::ALL[0];

    /// Name for people, such as `small x2`.
    pub fn name(&self) -> String {
        format!("{} x{}", self.kind, self.scale)
    }

    /// The model.
    pub fn load(&self) -> Model {
        let path = format!("models/{}-x{}.safetensors", self.kind, self.scale);
        Model::from_bytes(self.file, &PathBuf::from(path))
            .unwrap_or_else(|e| unreachable!("a test loads every released model: {e}"))
    }
}

impl Model {
    /// The default model, [`Released::DEFAULT`].
    pub fn embedded() -> Self {
        Released::DEFAULT.load()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_what_their_names_say() {
        for released in Released::ALL {
            let model = released.load();
            assert_eq!(model.config().scale, released.scale, "{}", released.name());
        }
    }
}
