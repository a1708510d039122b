//! Which instruction set the kernels run on, chosen once at run time.

use std::fmt;

use crate::precision::Precision;

/// An instruction set that this processor has been seen to support.
///
/// Values come from [`Isa::detect`] and [`Isa::available`] alone, so holding one is the proof
/// that its instructions may be executed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Isa(pub(crate) Level);

/// Ordered from slowest to fastest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Level {
    /// Plain loops, the definition of each operation.
    Reference,
    /// 256-bit vectors with fused multiply-add.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// 512-bit vectors: AVX-512F, which every AVX-512 processor has.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// AVX-512 with dot products of bfloat16, and AVX-512BW.
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16,
}

/// `WDSR_ISA` names no instruction set of this program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownIsa(pub String);

impl fmt::Display for UnknownIsa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "WDSR_ISA is `{}`, expected one of: reference, avx2, avx512, avx512bf16",
            self.0
        )
    }
}

impl std::error::Error for UnknownIsa {}

impl Isa {
    /// The plain loops; always available.
    pub const REFERENCE: Isa = Isa(Level::Reference);

    /// Every instruction set of this processor, slowest first.
    pub fn available() -> Vec<Isa> {
        #[allow(
            unused_mut,
            reason = "other processors than x86-64 have the reference alone"
        )]
        let mut list = vec![Isa::REFERENCE];
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            list.push(Isa(Level::Avx2));
            if is_x86_feature_detected!("avx512f") {
                list.push(Isa(Level::Avx512));
                if is_x86_feature_detected!("avx512bf16") && is_x86_feature_detected!("avx512bw") {
                    list.push(Isa(Level::Avx512Bf16));
                }
            }
        }
        list
    }

    /// The fastest instruction set of this processor, or the slower one that the environment
    /// variable `WDSR_ISA` (`reference`, `avx2`, `avx512`, `avx512bf16`) names. The variable can only
    /// lower the choice: naming a set that the processor lacks gives the fastest one it has.
    ///
    /// # Errors
    /// When `WDSR_ISA` is set to an unknown name.
    pub fn detect() -> Result<Isa, UnknownIsa> {
        let available = Isa::available();
        let fastest = available[available.len() - 1];
        match std::env::var("WDSR_ISA") {
            Err(_) => Ok(fastest),
            Ok(name) => match name.as_str() {
                "reference" => Ok(Isa::REFERENCE),
                "avx2" | "avx512" | "avx512bf16" => Ok(available
                    .into_iter()
                    .find(|isa| isa.name() == name)
                    .unwrap_or(fastest)),
                _ => Err(UnknownIsa(name)),
            },
        }
    }

    /// Whether it multiplies bfloat16 faster than f32.
    pub fn has_bf16(self) -> bool {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512Bf16 => true,
            _ => false,
        }
    }

    /// The precision to compute in where `asked` is wanted for its speed: f32 where that is the
    /// faster.
    pub fn precision_for(self, asked: Precision) -> Precision {
        if self.has_bf16() {
            asked
        } else {
            Precision::F32
        }
    }

    /// `reference`, `avx2`, `avx512` or `avx512bf16`.
    pub fn name(self) -> &'static str {
        match self.0 {
            Level::Reference => "reference",
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Level::Avx512Bf16 => "avx512bf16",
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
