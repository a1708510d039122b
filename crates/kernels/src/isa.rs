//! The instruction set that the kernels run on, chosen at run time.

use std::env::{self, VarError};
use std::fmt;
#[cfg(target_arch = "aarch64")]
use std::sync::OnceLock;

#[cfg(target_arch = "aarch64")]
use crate::arch::neon::{Neon, NeonBf16, NeonDot};
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
use crate::arch::wasm::Wasm;
#[cfg(target_arch = "x86_64")]
use crate::arch::{
    amx::Amx,
    avx2::{Avx2, AvxVnni},
    avx512::{Avx512, Avx512Bf16, Avx512Vnni},
};
#[cfg(target_arch = "aarch64")]
use crate::peak;
use crate::precision::Precision;

/// An instruction set that this processor supports.
///
/// Values come from [`Isa::detect`] and [`Isa::available`] alone, so a value proves that its
/// instructions may be executed. The order is from slowest to fastest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Isa(pub(crate) Level);

/// An instruction set with the token that proves it. Ordered from slowest to fastest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Level {
    /// Plain loops, the definition of each operation.
    Reference,
    /// 256-bit vectors with fused multiply-add.
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    /// AVX2 with dot products of bytes.
    #[cfg(target_arch = "x86_64")]
    AvxVnni(AvxVnni),
    /// 512-bit vectors: AVX-512F, which every AVX-512 processor has.
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    /// AVX-512 with dot products of bytes, and AVX-512BW.
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni(Avx512Vnni),
    /// The same with dot products of bfloat16.
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16(Avx512Bf16),
    /// The same with products of tiles of bfloat16 and of bytes.
    #[cfg(target_arch = "x86_64")]
    Amx(Amx),
    /// 128-bit vectors with fused multiply-add.
    #[cfg(target_arch = "aarch64")]
    Neon(Neon),
    /// NEON with dot products of bytes.
    #[cfg(target_arch = "aarch64")]
    NeonDot(NeonDot),
    /// The same with dot products of bfloat16, and of unsigned and signed bytes.
    #[cfg(target_arch = "aarch64")]
    NeonBf16(NeonBf16),
    /// 128-bit vectors of WebAssembly.
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    Wasm(Wasm),
    /// Tiles in plain Rust, for tests, beside the fastest vectors of the processor.
    EmulatedAmx,
}

/// `WDSR_ISA` names no instruction set of this program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownIsa(pub String);

impl fmt::Display for UnknownIsa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "WDSR_ISA is `{}`, expected one of: reference, avx2, avxvnni, avx512, avx512vnni, avx512bf16, amx, neon, neondot, \
             neonbf16, simd128, relaxedsimd",
            self.0
        )
    }
}

impl std::error::Error for UnknownIsa {}

impl Isa {
    /// The plain loops; always available.
    pub const REFERENCE: Isa = Isa(Level::Reference);

    /// Every instruction set of this processor, slowest first; AMX only if `WDSR_ISA` is `amx`.
    pub fn available() -> Vec<Isa> {
        let levels = [
            Some(Level::Reference),
            #[cfg(target_arch = "x86_64")]
            Avx2::detect().map(Level::Avx2),
            #[cfg(target_arch = "x86_64")]
            AvxVnni::detect().map(Level::AvxVnni),
            #[cfg(target_arch = "x86_64")]
            Avx512::detect().map(Level::Avx512),
            #[cfg(target_arch = "x86_64")]
            Avx512Vnni::detect().map(Level::Avx512Vnni),
            #[cfg(target_arch = "x86_64")]
            Avx512Bf16::detect().map(Level::Avx512Bf16),
            #[cfg(target_arch = "x86_64")]
            Self::amx(),
            #[cfg(target_arch = "aarch64")]
            Neon::detect().map(Level::Neon),
            #[cfg(target_arch = "aarch64")]
            NeonDot::detect().map(Level::NeonDot),
            #[cfg(target_arch = "aarch64")]
            NeonBf16::detect().map(Level::NeonBf16),
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            Wasm::detect().map(Level::Wasm),
        ];
        levels.into_iter().flatten().map(Isa).collect()
    }

    /// AMX, if the environment asks for it: its kernels have run in plain Rust alone, on no such processor yet.
    #[cfg(target_arch = "x86_64")]
    fn amx() -> Option<Level> {
        let is_named = env::var_os("WDSR_ISA").is_some_and(|name| name == "amx");
        is_named.then(Amx::detect).flatten().map(Level::Amx)
    }

    /// The fastest instruction set of this processor, or a slower one that the environment
    /// variable `WDSR_ISA` names ([`Isa::name`]). The variable
    /// can only lower the choice, but for AMX, which it has to name: if it names a set that the processor lacks, the result is the
    /// fastest one that the processor has.
    ///
    /// # Errors
    /// If `WDSR_ISA` is set to an unknown name.
    pub fn detect() -> Result<Isa, UnknownIsa> {
        let available = Isa::available();
        let fastest = available[available.len() - 1];
        match env::var("WDSR_ISA") {
            Err(VarError::NotPresent) => Ok(fastest),
            Err(VarError::NotUnicode(name)) => Err(UnknownIsa(name.display().to_string())),
            Ok(name) => match name.as_str() {
                "reference" => Ok(Isa::REFERENCE),
                "avx2" | "avxvnni" | "avx512" | "avx512vnni" | "avx512bf16" | "amx" | "neon"
                | "neondot" | "neonbf16" | "simd128" | "relaxedsimd" => Ok(available
                    .into_iter()
                    .find(|isa| isa.name() == name)
                    .unwrap_or(fastest)),
                _ => Err(UnknownIsa(name)),
            },
        }
    }

    /// Tiles of Intel AMX in plain Rust, for tests on any processor.
    #[doc(hidden)]
    pub fn emulated_amx() -> Isa {
        Isa(Level::EmulatedAmx)
    }

    /// Whether it multiplies tiles of bfloat16 and of bytes: kernels of pixels run on it.
    pub fn has_tiles(self) -> bool {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Level::Amx(_) => true,
            Level::EmulatedAmx => true,
            _ => false,
        }
    }

    /// This instruction set, or the vectors beside its tiles: all that f32 uses.
    #[must_use]
    pub fn without_tiles(self) -> Isa {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Level::Amx(amx) => Isa(Level::Avx512Bf16(amx.avx512bf16())),
            Level::EmulatedAmx => {
                let mut available = Isa::available();
                available.retain(|isa| !isa.has_tiles());
                available[available.len() - 1]
            }
            _ => self,
        }
    }

    /// What computes beside bytes: this instruction set without tiles, or the plain loops where its multiply-adds round twice, so
    /// that all have the same bits.
    #[must_use]
    pub(crate) fn with_one_rounding(self) -> Isa {
        match self.without_tiles().0 {
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            Level::Wasm(wasm) if !wasm.rounds_once() => Self::REFERENCE,
            level => Isa(level),
        }
    }

    /// Whether networks are faster in bfloat16 than in f32. On x86-64 the processor's family tells: AMD's multiply twice as
    /// many bfloat16 as floats in a cycle, Intel's half as many without tiles. On ARM a measurement of less than a millisecond
    /// tells, once in the life of the process.
    pub fn has_bf16(self) -> bool {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512Bf16(simd) => simd.is_faster_than_f32(),
            #[cfg(target_arch = "x86_64")]
            Level::Amx(_) => true,
            #[cfg(target_arch = "aarch64")]
            Level::NeonBf16(_) => {
                static IS_FASTER: OnceLock<bool> = OnceLock::new();
                *IS_FASTER.get_or_init(|| peak::is_bf16_faster(self))
            }
            _ => false,
        }
    }

    /// Whether networks are faster in int8 than in f32: with dot products of bytes, and on AVX2, but not on AVX-512 without them,
    /// which would use AVX2's kernels. The instruction set alone decides, so that a processor gives the same bits each time.
    pub fn has_int8(self) -> bool {
        match self.0 {
            Level::Reference => false,
            #[cfg(target_arch = "x86_64")]
            Level::Avx512(_) => false,
            #[cfg(target_arch = "aarch64")]
            Level::Neon(_) => false,
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            Level::Wasm(_) => false,
            Level::EmulatedAmx => self.without_tiles().has_int8(),
            #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
            _ => true,
        }
    }

    /// The precision to compute in if `wanted` is chosen for its speed: f32 where that is faster.
    pub fn precision_for(self, wanted: Precision) -> Precision {
        let is_faster = match wanted {
            Precision::F32 => false,
            Precision::Bf16 => self.has_bf16(),
            Precision::Int8 => self.has_int8(),
        };
        if is_faster { wanted } else { Precision::F32 }
    }

    /// `reference`, `avx2`, `avxvnni`, `avx512`, `avx512vnni`, `avx512bf16`, `amx`, `neon`, `neondot`, `neonbf16`,
    /// `simd128` or `relaxedsimd`.
    pub fn name(self) -> &'static str {
        match self.0 {
            Level::Reference => "reference",
            #[cfg(target_arch = "x86_64")]
            Level::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Level::AvxVnni(_) => "avxvnni",
            #[cfg(target_arch = "x86_64")]
            Level::Avx512(_) => "avx512",
            #[cfg(target_arch = "x86_64")]
            Level::Avx512Vnni(_) => "avx512vnni",
            #[cfg(target_arch = "x86_64")]
            Level::Avx512Bf16(_) => "avx512bf16",
            #[cfg(target_arch = "x86_64")]
            Level::Amx(_) => "amx",
            #[cfg(target_arch = "aarch64")]
            Level::Neon(_) => "neon",
            #[cfg(target_arch = "aarch64")]
            Level::NeonDot(_) => "neondot",
            #[cfg(target_arch = "aarch64")]
            Level::NeonBf16(_) => "neonbf16",
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            Level::Wasm(wasm) => wasm.name(),
            Level::EmulatedAmx => "emulated amx",
        }
    }
}

impl fmt::Debug for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
