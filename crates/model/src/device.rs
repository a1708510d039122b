//! Processors beside the one that runs the program, such as GPUs.
//!
//! An [`Upscaler`](crate::Upscaler) that is given a [`Device`] cuts images into tiles, hands them to the device, and checks
//! what comes back. The crate `wdsr-gpu` has the devices.

use std::ops::Range;
use std::str::FromStr;

use crate::config::BlockKind;
use crate::model::Model;

/// What shall compute networks: the value of `--device`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// This processor.
    #[default]
    Cpu,
    /// A GPU if there is one, else this processor.
    Auto,
    /// A GPU, by its number if one is given.
    Gpu(Option<usize>),
}

/// A text that names no device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected auto, cpu, gpu, or gpu:N with a number of `wdsr devices`")]
pub struct UnknownDevice;

impl FromStr for DeviceChoice {
    type Err = UnknownDevice;

    fn from_str(text: &str) -> Result<Self, UnknownDevice> {
        let index = text.strip_prefix("gpu:").map(str::parse);
        match (text, index) {
            ("cpu", _) => Ok(Self::Cpu),
            ("auto", _) => Ok(Self::Auto),
            ("gpu", _) => Ok(Self::Gpu(None)),
            (_, Some(Ok(index))) => Ok(Self::Gpu(Some(index))),
            _ => Err(UnknownDevice),
        }
    }
}

/// The number format of maps and products on a device. Sums are f32 in both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DevicePrecision {
    /// 32-bit floating point.
    #[default]
    F32,
    /// 16-bit floating point.
    F16,
}

impl DevicePrecision {
    /// Its name: `f32` or `f16`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
        }
    }
}

/// A processor that computes networks.
pub trait Device: Send + Sync {
    /// Its name for people.
    fn name(&self) -> &str;

    /// Its name and driver, on which the last bits of a result depend.
    fn driver_text(&self) -> String {
        self.name().to_owned()
    }

    /// Whether it computes in f16.
    fn has_f16(&self) -> bool {
        false
    }

    /// Prepares a model, in f16 only if the device has it. After a loss of the device ([`DeviceError::Lost`]) it is opened
    /// again.
    ///
    /// # Errors
    /// If the device cannot compute the model.
    fn prepare(
        &self,
        model: &Model,
        precision: DevicePrecision,
    ) -> Result<Box<dyn DeviceNetwork>, DeviceError>;

    /// Whether the processor computes, with a warning, what the device cannot prepare; else that is an error.
    fn is_optional(&self) -> bool;

    /// Receives a warning about results that another processor had to compute.
    fn warn(&self, message: String);

    /// The warnings since the last call.
    fn take_warnings(&self) -> Vec<String>;
}

/// A model that is prepared for a device.
pub trait DeviceNetwork: Send + Sync {
    /// Most pixels of a tile, with its halo.
    fn max_tile_pixels(&self) -> usize;

    /// The number of processors, if the device is several like the one that runs the program, which compute tiles by
    /// [`Upscaler::compute_tile`](crate::Upscaler::compute_tile). Their tiles lie side by side and have halos so large that the
    /// result is that of one processor, bit for bit.
    fn processors(&self) -> Option<usize> {
        None
    }

    /// Starts the work on a tile. Two tiles are under way at a time, so that transfers and work overlap; of several
    /// processors, one for each.
    ///
    /// # Errors
    /// If the device fails. After [`DeviceError::OutOfMemory`] a smaller tile may succeed.
    fn start(&self, tile: &DeviceTile) -> Result<Box<dyn PendingTile + '_>, DeviceError>;
}

/// The work on a tile.
pub trait PendingTile {
    /// Waits for the result, and calls `read` once with it: R G B interleaved, row-major, of the wanted pixels at the network's
    /// scale, without the mean. A wait may call `progress` with the number of pixels that are done of all tiles under way.
    ///
    /// # Errors
    /// If the device failed; `read` is then not called.
    fn finish(
        self: Box<Self>,
        progress: &dyn Fn(usize),
        read: &mut dyn FnMut(&[f32]),
    ) -> Result<(), DeviceError>;
}

/// A part of an image with its halo.
#[derive(Clone, Debug)]
pub struct DeviceTile {
    /// R, G, B minus the mean, and 0; row-major.
    pub pixels: Vec<[f32; 4]>,
    /// Its width with the halo.
    pub width_px: usize,
    /// Columns, of the tile, whose result is wanted.
    pub columns: Range<usize>,
    /// Rows, of the tile, whose result is wanted.
    pub rows: Range<usize>,
}

impl DeviceTile {
    /// Its height with the halo.
    pub fn height_px(&self) -> usize {
        self.pixels.len() / self.width_px
    }

    /// The tile of a part of the wanted pixels, with a halo of `radius_px` where there is one.
    pub(crate) fn part(
        &self,
        columns: Range<usize>,
        rows: Range<usize>,
        radius_px: usize,
    ) -> DeviceTile {
        let x = with_halo(&columns, radius_px, self.width_px);
        let y = with_halo(&rows, radius_px, self.height_px());
        let row = |y: usize| &self.pixels[y * self.width_px..][x.clone()];
        DeviceTile {
            pixels: y.clone().flat_map(row).copied().collect(),
            width_px: x.len(),
            columns: columns.start - x.start..columns.end - x.start,
            rows: rows.start - y.start..rows.end - y.start,
        }
    }
}

/// A range with `radius` on both sides, within `0..len`.
pub(crate) fn with_halo(range: &Range<usize>, radius: usize, len: usize) -> Range<usize> {
    range.start.saturating_sub(radius)..(range.end + radius).min(len)
}

/// Why a device did not compute.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// Its memory does not suffice.
    #[error("{device} has not enough memory")]
    OutOfMemory {
        /// The device.
        device: String,
    },
    /// It was removed, or its driver restarted it.
    #[error(
        "{device} was lost ({reason}); the next image tries it again. If this repeats, update its driver or use \
         --device cpu"
    )]
    Lost {
        /// The device.
        device: String,
        /// What the driver says.
        reason: String,
    },
    /// Devices do not compute networks of this kind.
    #[error("{device} does not compute networks of kind {}; use --device cpu", .kind.name())]
    Unsupported {
        /// The device.
        device: String,
        /// The kind of the network.
        kind: BlockKind,
    },
    /// It or its driver refused the work.
    #[error("{device} failed: {reason}; update its driver or use --device cpu")]
    Failed {
        /// The device.
        device: String,
        /// What the driver says.
        reason: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_choices_are_parsed() {
        for (text, choice) in [
            ("cpu", DeviceChoice::Cpu),
            ("auto", DeviceChoice::Auto),
            ("gpu", DeviceChoice::Gpu(None)),
            ("gpu:12", DeviceChoice::Gpu(Some(12))),
        ] {
            assert_eq!(text.parse(), Ok(choice), "{text}");
        }
        for text in ["", "gpu:", "gpu:-1", "gpu0", "cuda"] {
            assert!(text.parse::<DeviceChoice>().is_err(), "{text}");
        }
    }
}
