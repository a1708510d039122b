//! What is specific to an instruction set, one file each.
//!
//! A file has a *token*: a type whose values only its `detect` creates, so a value proves that the
//! processor has the instructions. The token implements the vector operations of
//! [`Simd`](crate::simd::Simd), and its `run` is the entry point: it compiles a
//! [`Kernel`](crate::dispatch::Kernel) with the target features of the instruction set.
//!
//! # Adding an instruction set
//! 1. Add a file here: the token, `detect`, `run` and `impl Simd`. On processors where the
//!    instructions are part of the target (NEON on aarch64, simd128 in wasm), `detect` always
//!    returns a token.
//! 2. Add a level to [`Isa`](crate::Isa) (`isa.rs`): order, name, detection, and whether bf16 is
//!    fast there.
//! 3. Add its arm to [`dispatch`](crate::dispatch::dispatch), the only `match` over instruction
//!    sets and precisions.
//! 4. Add its name to `on_every_isa!` and to the processor flags in `tests/every_isa/main.rs`.
//!
//! An instruction set with instructions of another shape (the tiles of AMX) replaces an algorithm,
//! not vector operations: give [`Kernel`](crate::dispatch::Kernel) a method for it whose default
//! calls `vectorized`, and override that in the kernels that gain. Weights are arranged for an
//! `Isa` and a `Precision` (`packing.rs`), so another order of them is another arm there.
//!
//! Another number format (int8) is a [`Format`](crate::precision::Format) and a
//! [`Precision`](crate::Precision).

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;

/// Defines safe methods on a token. Their bodies are compiled with the given target features, so
/// they call intrinsics without pointers safely.
#[cfg(target_arch = "x86_64")]
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
#[cfg(target_arch = "x86_64")]
use with_features;
