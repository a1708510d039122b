//! What is specific to an instruction set, one file each.
//!
//! A file has a *token*: a type whose values only its `detect` creates, so a value proves that the
//! processor has the instructions. The token implements the vector operations of
//! [`Simd`](crate::simd::Simd), and its `run` is the entry point: it compiles a
//! [`Kernel`](crate::dispatch::Kernel) with the target features of the instruction set.
//!
//! How to add one: `docs/guides/add-an-instruction-set.md`.

#[cfg(target_arch = "x86_64")]
pub(crate) mod amx;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
pub(crate) mod wasm;

/// Defines safe methods on a token. Their bodies are compiled with the given target features, so
/// they call intrinsics without pointers safely.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! with_features {
    ($features:literal,
        $(fn $name:ident($($argument:ident: $type:ty),*) -> $output:ty $body:block)*
    ) => {$(
        #[inline(always)]
        fn $name(self, $($argument: $type),*) -> $output {
            #[inline]
            #[target_feature(enable = $features)]
            fn operation($($argument: $type),*) -> $output $body
            // SAFETY: the token `self` exists only where these features were detected.
            unsafe { operation($($argument),*) }
        }
    )*};
}
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use with_features;
