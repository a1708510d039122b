//! The model that the library carries.

use std::path::Path;

use crate::model::Model;

impl Model {
    /// The default model, `small` x2: WDSR-B, 32 features, 8 blocks.
    pub fn embedded() -> Self {
        Self::from_bytes(
            wdsr_weights::SMALL_X2,
            Path::new("models/small-x2.safetensors"),
        )
        .unwrap_or_else(|e| unreachable!("the embedded model is checked by a test: {e}"))
    }
}
