//! Intel AMX: eight tile registers of 16 rows of 64 bytes, and products of tiles of bfloat16 and of bytes.
//!
//! No function is compiled with the target feature of AMX, so the compiler never uses a tile register:
//! what an operation leaves in one is there for the next. A thread's tiles exist between
//! `ldtilecfg` and `tilerelease`, which [`Amx::run`] puts around a kernel.

use std::arch::asm;
use std::arch::x86_64::*;
use std::mem::transmute;
use std::sync::OnceLock;

use super::avx512::Avx512Bf16;
use crate::tiles::{ROW, ROWS, TileKernel, Tiles, tile_len};

/// Proof that the processor has AMX-TILE, AMX-BF16, AMX-INT8, AVX512-BF16 and AVX-512BW, and that the system lets
/// this process use tiles.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Amx(Avx512Bf16);

impl Amx {
    /// A token if the processor has the instructions and the system permits them.
    pub(crate) fn detect() -> Option<Self> {
        static IS_USABLE: OnceLock<bool> = OnceLock::new();
        let vectors = Avx512Bf16::detect()?;
        let is_usable = || has_instructions() && is_saved_by_system() && request_permission();
        IS_USABLE.get_or_init(is_usable).then_some(Self(vectors))
    }

    /// The part without tiles.
    pub(crate) fn avx512bf16(self) -> Avx512Bf16 {
        self.0
    }

    /// Runs a kernel on this thread's tiles, compiled for AVX512-BF16, AVX-512BW and AVX-512F.
    pub(crate) fn run<K: TileKernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx512bf16,avx512bw,avx512f")]
        fn compiled<K: TileKernel>(tiles: &mut Configured, kernel: K) -> K::Output {
            kernel.run(tiles)
        }
        // SAFETY: `detect` found AMX, its permission, and the vector instructions.
        unsafe { compiled(&mut Configured::new(), kernel) }
    }
}

/// Whether the processor has AMX-TILE, AMX-BF16 and AMX-INT8 with tiles of 16 rows of 64 bytes.
fn has_instructions() -> bool {
    const AMX_BF16: u32 = 1 << 22;
    const AMX_TILE: u32 = 1 << 24;
    const AMX_INT8: u32 = 1 << 25;
    const PALETTES: u32 = 0x1D;
    let needed = AMX_BF16 | AMX_TILE | AMX_INT8;
    if __cpuid(0).eax < PALETTES || __cpuid_count(7, 0).edx & needed != needed {
        return false;
    }
    let palette = __cpuid_count(PALETTES, 1);
    let (row_bytes, tiles, rows) = (
        palette.ebx & 0xFFFF,
        palette.ebx >> 16,
        palette.ecx & 0xFFFF,
    );
    row_bytes == 64 && tiles >= 8 && rows == ROWS as u32
}

/// Whether the system saves tiles when it switches threads: XCR0 has both parts of their state.
fn is_saved_by_system() -> bool {
    const OSXSAVE: u32 = 1 << 27;
    const TILE_CONFIGURATION_AND_DATA: u64 = 0b11 << 17;
    if __cpuid(1).ecx & OSXSAVE == 0 {
        return false;
    }
    let (low, high): (u32, u32);
    // SAFETY: the system has enabled `xgetbv`; register 0 always exists.
    unsafe {
        asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nomem, nostack));
    }
    (u64::from(high) << 32 | u64::from(low)) & TILE_CONFIGURATION_AND_DATA
        == TILE_CONFIGURATION_AND_DATA
}

/// Asks Linux to permit tiles for all threads of the process, present and future. It refuses if a thread has a stack
/// for signals that cannot hold them.
#[cfg(target_os = "linux")]
fn request_permission() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: i64 = 0x1023;
    const TILE_DATA: i64 = 18;
    let result: i64;
    // SAFETY: this system call changes no memory of the process; it overwrites rcx and r11.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => result,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") TILE_DATA,
            out("rcx") _,
            out("r11") _,
            options(nostack)
        );
    }
    result == 0
}

/// How other systems permit tiles is not known here.
#[cfg(not(target_os = "linux"))]
fn request_permission() -> bool {
    false
}

/// The configured tiles of this thread.
struct Configured(());

impl Configured {
    /// Configures eight tiles of 16 rows of 64 bytes.
    ///
    /// # Safety
    /// The processor has AMX, and the process is permitted to use it.
    unsafe fn new() -> Self {
        #[repr(C, align(64))]
        struct Configuration {
            palette: u8,
            start_row: u8,
            reserved: [u8; 14],
            row_bytes: [u16; 16],
            rows: [u8; 16],
        }
        let mut configuration = Configuration {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            row_bytes: [0; 16],
            rows: [0; 16],
        };
        configuration.row_bytes[..8].fill(64);
        configuration.rows[..8].fill(ROWS as u8);
        // SAFETY: the caller promises AMX; the operand is the 64 bytes of a valid configuration.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &raw const configuration, options(nostack, readonly));
        }
        Self(())
    }
}

impl Drop for Configured {
    fn drop(&mut self) {
        // SAFETY: a `Configured` exists only where AMX may be used.
        unsafe { asm!("tilerelease", options(nostack, nomem)) }
    }
}

/// An `asm!` that may change every tile register.
macro_rules! tile_asm {
    ($($operands:tt)*) => {
        asm!(
            $($operands)*,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
        )
    };
}

impl Tiles for Configured {
    #[inline(always)]
    fn zero<const T: usize>(&mut self) {
        const { assert!(T < 8, "tile") }
        // SAFETY: `self` says that the tiles are configured.
        unsafe {
            tile_asm!("tilezero tmm{t}", t = const T, options(nostack, nomem, preserves_flags))
        }
    }

    #[inline(always)]
    fn load<const T: usize>(&mut self, from: &[f32], stride: usize) {
        const { assert!(T < 8, "tile") }
        let from = from[..tile_len(stride)].as_ptr();
        // SAFETY: `self` says that the tiles are configured. The 16 rows lie in the slice.
        unsafe {
            tile_asm!(
                "tileloadd tmm{t}, [{from} + {stride} * 4]",
                t = const T, from = in(reg) from, stride = in(reg) stride,
                options(nostack, readonly, preserves_flags)
            );
        }
    }

    #[inline(always)]
    fn store<const T: usize>(&mut self, to: &mut [f32], stride: usize) {
        const { assert!(T < 8, "tile") }
        let to = to[..tile_len(stride)].as_mut_ptr();
        // SAFETY: `self` says that the tiles are configured. The 16 rows lie in the slice.
        unsafe {
            asm!(
                "tilestored [{to} + {stride} * 4], tmm{t}",
                t = const T, to = in(reg) to, stride = in(reg) stride,
                options(nostack, preserves_flags)
            );
        }
    }

    #[inline(always)]
    fn add_product<const C: usize, const A: usize, const B: usize>(&mut self) {
        const {
            assert!(
                C < 8 && A < 8 && B < 8 && C != A && C != B && A != B,
                "tiles"
            )
        }
        // SAFETY: `self` says that the tiles are configured, all alike; they are three.
        unsafe {
            tile_asm!(
                "tdpbf16ps tmm{c}, tmm{a}, tmm{b}",
                c = const C, a = const A, b = const B,
                options(nostack, nomem, preserves_flags)
            );
        }
    }

    #[inline(always)]
    fn add_byte_product<const C: usize, const A: usize, const B: usize>(&mut self) {
        const {
            assert!(
                C < 8 && A < 8 && B < 8 && C != A && C != B && A != B,
                "tiles"
            )
        }
        // SAFETY: `self` says that the tiles are configured, all alike; they are three.
        unsafe {
            tile_asm!(
                "tdpbsud tmm{c}, tmm{a}, tmm{b}",
                c = const C, a = const A, b = const B,
                options(nostack, nomem, preserves_flags)
            );
        }
    }

    #[inline(always)]
    fn round<const RELU: bool>(
        &self,
        values: &[[f32; 2 * ROW]],
        bias: &[f32; 2 * ROW],
        to: &mut [[f32; ROW]],
    ) {
        #[inline]
        #[target_feature(enable = "avx512bf16,avx512bw,avx512f")]
        fn operation<const RELU: bool>(
            values: &[[f32; 2 * ROW]],
            bias: &[f32; 2 * ROW],
            to: &mut [[f32; ROW]],
        ) {
            // SAFETY: both halves of the 32 floats.
            let bias = unsafe {
                let bias = bias.as_ptr();
                (_mm512_loadu_ps(bias), _mm512_loadu_ps(bias.add(ROW)))
            };
            for (to, values) in to.iter_mut().zip(values) {
                // SAFETY: both halves of the 32 floats.
                let (low, high) = unsafe {
                    let values = values.as_ptr();
                    (_mm512_loadu_ps(values), _mm512_loadu_ps(values.add(ROW)))
                };
                let (low, high) = (_mm512_add_ps(low, bias.0), _mm512_add_ps(high, bias.1));
                let rounded = _mm512_cvtne2ps_pbh(high, low);
                // SAFETY: both are 64 bytes without invalid values.
                let rounded: __m512i = unsafe { transmute(rounded) };
                let result = match RELU {
                    true => _mm512_max_epi16(rounded, _mm512_setzero_si512()),
                    false => rounded,
                };
                // SAFETY: these are 16 floats.
                unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), result) }
            }
        }
        // SAFETY: `Amx::detect` found these features.
        unsafe { operation::<RELU>(values, bias, to) }
    }
}
