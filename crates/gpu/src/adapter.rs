//! The adapters of this computer.

use std::fmt;

use wgpu::{Backends, CooperativeScalarType, DeviceType, Features};

use crate::matrices::{MEMORY_BYTES, Matrices, SUBGROUPS};

/// An environment variable that, set to [`MATRICES_OFF`], keeps to vectors: to compare their speed, or for a driver that fails.
pub(crate) const MATRICES_VARIABLE: &str = "WDSR_MATRICES";
pub(crate) const MATRICES_OFF: &str = "off";

/// Threads of a subgroup (SIMD group) of Apple's GPUs: Metal feature set tables.
const APPLE_SUBGROUP: u32 = 32;

/// Threads of a workgroup that every adapter has.
const MAX_THREADS: usize = 256;

/// A graphics processor, or a program that imitates one, as a driver offers it.
#[derive(Clone, Debug)]
pub struct AdapterSummary {
    /// Its number, for [`Choice::Index`]. It changes when drivers are installed or removed.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: AdapterKind,
    /// The interface of its driver: `vulkan`, `metal` or `dx12`.
    pub backend: &'static str,
    /// Name and version of its driver; may be empty.
    pub driver: String,
    /// Largest buffer that a kernel reads or writes, in bytes. Drivers do not tell how much memory there is.
    pub max_buffer_bytes: u64,
    /// Whether it computes in f16.
    pub has_f16: bool,
    /// The matrices that it multiplies in f16.
    pub(crate) matrices: Option<Matrices>,
}

impl AdapterSummary {
    /// Whether products in f16 are of matrices (tensor cores and their like).
    pub fn has_matrices(&self) -> bool {
        self.matrices.is_some()
    }

    /// Name and driver, on which the last bits of a result depend.
    pub fn driver_text(&self) -> String {
        format!("{} by {} {}", self.name, self.backend, self.driver)
    }
}

/// What an adapter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdapterKind {
    /// A card with its own memory.
    Discrete,
    /// A part of the processor, with its memory.
    Integrated,
    /// A card of the host of a virtual machine, or one of unknown kind.
    Other,
    /// A program on the processor, slower than the program's own kernels.
    Software,
}

impl fmt::Display for AdapterKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Discrete => "discrete",
            Self::Integrated => "integrated",
            Self::Other => "other",
            Self::Software => "software",
        })
    }
}

/// Which adapter to open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The first card, else the first integrated one, else another; never software.
    Hardware,
    /// The one with this number in [`adapters`], even if it is software.
    Index(usize),
}

/// The adapters, in the order of their numbers.
pub fn adapters() -> Vec<AdapterSummary> {
    let all = find_all();
    let summaries = all.iter().enumerate();
    summaries
        .map(|(index, adapter)| summary(index, adapter))
        .collect()
}

/// The adapters of all drivers, those of OpenGL excepted.
pub(crate) fn find_all() -> Vec<wgpu::Adapter> {
    let mut description = wgpu::InstanceDescriptor::new_without_display_handle();
    description.backends = Backends::VULKAN | Backends::METAL | Backends::DX12;
    let instance = wgpu::Instance::new(description);
    pollster::block_on(instance.enumerate_adapters(Backends::all()))
}

pub(crate) fn summary(index: usize, adapter: &wgpu::Adapter) -> AdapterSummary {
    let info = adapter.get_info();
    let (limits, features) = (adapter.limits(), adapter.features());
    AdapterSummary {
        index,
        name: info.name,
        kind: match info.device_type {
            DeviceType::DiscreteGpu => AdapterKind::Discrete,
            DeviceType::IntegratedGpu => AdapterKind::Integrated,
            DeviceType::Cpu => AdapterKind::Software,
            DeviceType::VirtualGpu | DeviceType::Other => AdapterKind::Other,
        },
        backend: match info.backend {
            wgpu::Backend::Vulkan => "vulkan",
            wgpu::Backend::Metal => "metal",
            wgpu::Backend::Dx12 => "dx12",
            wgpu::Backend::Noop | wgpu::Backend::Gl | wgpu::Backend::BrowserWebGpu => "other",
        },
        driver: match info.driver_info.is_empty() {
            true => info.driver,
            false => format!("{} {}", info.driver, info.driver_info),
        },
        max_buffer_bytes: limits
            .max_storage_buffer_binding_size
            .min(limits.max_buffer_size),
        has_f16: features.contains(Features::SHADER_F16),
        matrices: matrices(adapter),
    }
}

/// What the kernels need: square matrices of f16 with sums in f32, the largest that there are, and subgroups of one size.
fn matrices(adapter: &wgpu::Adapter) -> Option<Matrices> {
    if std::env::var_os(MATRICES_VARIABLE).is_some() {
        return None;
    }
    let (info, limits) = (adapter.get_info(), adapter.limits());
    let needed = Features::EXPERIMENTAL_COOPERATIVE_MATRIX | Features::SHADER_F16;
    let threads = match info.backend {
        // Metal's limits are those of all its GPUs together.
        wgpu::Backend::Metal if info.name.starts_with("Apple") => APPLE_SUBGROUP,
        _ if info.subgroup_min_size == info.subgroup_max_size => info.subgroup_max_size,
        _ => return None,
    };
    let is_usable = adapter.features().contains(needed)
        && limits.max_compute_workgroup_storage_size as usize >= MEMORY_BYTES
        && threads as usize * SUBGROUPS <= MAX_THREADS;
    let properties = adapter.cooperative_matrix_properties();
    let sides = properties.iter().filter(|of| {
        let is_square = of.m_size == of.n_size && of.m_size == of.k_size;
        let types = (of.ab_type, of.cr_type);
        is_square && types == (CooperativeScalarType::F16, CooperativeScalarType::F32)
    });
    let side = sides.map(|of| of.m_size).max().filter(|_| is_usable)?;
    Some(Matrices {
        side: side as usize,
        threads: threads as usize,
    })
}

/// The adapter of a choice.
pub(crate) fn find(choice: Choice) -> Result<(wgpu::Adapter, AdapterSummary), Vec<AdapterSummary>> {
    let mut all = find_all();
    let summaries: Vec<_> = all.iter().enumerate().map(|(i, a)| summary(i, a)).collect();
    let rank = |summary: &AdapterSummary| match summary.kind {
        AdapterKind::Discrete => Some(0),
        AdapterKind::Integrated => Some(1),
        AdapterKind::Other => Some(2),
        AdapterKind::Software => None,
    };
    let index = match choice {
        Choice::Index(index) => (index < all.len()).then_some(index),
        Choice::Hardware => {
            let ranked = summaries.iter().filter_map(|s| Some((rank(s)?, s.index)));
            ranked.min().map(|(_, index)| index)
        }
    };
    match index {
        Some(index) => Ok((all.swap_remove(index), summaries[index].clone())),
        None => Err(summaries),
    }
}
