//! The choice of a kernel's version by instruction set and precision.

use crate::isa::Level;
use crate::precision::{Bf16, F32, Format};
use crate::simd::Simd;
use crate::{Isa, Precision};

/// A computation with its arguments: as a definition in plain loops, and as one algorithm for all
/// instruction sets.
///
/// Shapes are asserted before a kernel is built; each says which ones its `vectorized` relies on.
pub(crate) trait Kernel {
    /// What it returns.
    type Output;

    /// The definition in plain loops.
    fn reference(self, precision: Precision) -> Self::Output;

    /// The algorithm over vectors, in lanes of the format `F`.
    ///
    /// Implementations are `#[inline(always)]`, as is what they call with the token: so all of it
    /// is compiled with the target features of the token's `run`.
    fn vectorized<S: Simd, F: Format<S>>(self, simd: S) -> Self::Output;
}

/// Runs a kernel in the version for an instruction set and a precision.
pub(crate) fn dispatch<K: Kernel>(isa: Isa, precision: Precision, kernel: K) -> K::Output {
    match (isa.without_tiles().0, precision) {
        (_, Precision::Int8) => unreachable!("a kernel of floats in int8"),
        (Level::Reference, _) => kernel.reference(precision),
        #[cfg(target_arch = "x86_64")]
        (Level::Avx2(simd), Precision::F32) => simd.run::<F32, K>(kernel),
        #[cfg(target_arch = "x86_64")]
        (Level::Avx2(simd), Precision::Bf16) => simd.run::<Bf16, K>(kernel),
        #[cfg(target_arch = "x86_64")]
        (Level::AvxVnni(simd), Precision::F32) => simd.avx2().run::<F32, K>(kernel),
        #[cfg(target_arch = "x86_64")]
        (Level::AvxVnni(simd), Precision::Bf16) => simd.avx2().run::<Bf16, K>(kernel),
        #[cfg(target_arch = "x86_64")]
        (Level::Avx512(simd), Precision::F32) => simd.run::<F32, K>(kernel),
        // Emulated, so slower than f32 anyway: a version of its own would only take time to compile.
        #[cfg(target_arch = "x86_64")]
        (Level::Avx512(simd), Precision::Bf16) => simd.avx2().run::<Bf16, K>(kernel),
        #[cfg(target_arch = "x86_64")]
        (Level::Avx512Vnni(simd), Precision::F32) => simd.avx512().run::<F32, K>(kernel),
        #[cfg(target_arch = "x86_64")]
        (Level::Avx512Vnni(simd), Precision::Bf16) => simd.avx512().avx2().run::<Bf16, K>(kernel),
        #[cfg(target_arch = "x86_64")]
        (Level::Avx512Bf16(simd), Precision::F32) => simd.avx512().run::<F32, K>(kernel),
        #[cfg(target_arch = "x86_64")]
        (Level::Avx512Bf16(simd), Precision::Bf16) => simd.run::<Bf16, K>(kernel),
        #[cfg(target_arch = "aarch64")]
        (Level::Neon(simd), Precision::F32) => simd.run::<F32, K>(kernel),
        #[cfg(target_arch = "aarch64")]
        (Level::Neon(simd), Precision::Bf16) => simd.run::<Bf16, K>(kernel),
        #[cfg(target_arch = "aarch64")]
        (Level::NeonDot(simd), Precision::F32) => simd.neon().run::<F32, K>(kernel),
        #[cfg(target_arch = "aarch64")]
        (Level::NeonDot(simd), Precision::Bf16) => simd.neon().run::<Bf16, K>(kernel),
        #[cfg(target_arch = "aarch64")]
        (Level::NeonBf16(simd), Precision::F32) => simd.neon().run::<F32, K>(kernel),
        #[cfg(target_arch = "aarch64")]
        (Level::NeonBf16(simd), Precision::Bf16) => simd.run::<Bf16, K>(kernel),
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        (Level::Wasm(simd), Precision::F32) => simd.run::<F32, K>(kernel),
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        (Level::Wasm(simd), Precision::Bf16) => simd.run::<Bf16, K>(kernel),
        #[cfg(target_arch = "x86_64")]
        (Level::Amx(_), _) => unreachable!("tiles of {isa}"),
        (Level::EmulatedAmx, _) => unreachable!("tiles of {isa}"),
    }
}
