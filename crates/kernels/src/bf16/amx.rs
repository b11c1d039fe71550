//! The AMX path: 32 × 32 outputs in four tile registers, 32 inputs per step.
//!
//! Tiles (Intel SDM, chapter "Intel AMX"): a tile has at most 16 rows of 64 bytes. `tdpbf16ps c, a, b` adds to the 16 × 16
//! f32 of `c` the product of `a`, 16 rows of 16 pairs of bf16, and `b`, 16 pairs × 16 columns: the layout of
//! [`PackedBf16`]. A process asks the kernel once for permission to use tile data; each task loads the tile shapes and
//! releases them. Written in inline assembly, because the intrinsics are not in stable Rust.

use std::arch::asm;
use std::arch::x86_64::__cpuid_count;
use std::ops::Range;

use super::packed::PackedBf16;
use super::tiles::{BLOCK_DEPTH, depth_blocks, round_pairs};
use crate::matmul::{MatMut, MatRef, Write};
use crate::micro::COLS;
use crate::pack::{LEFT, with_scratch};

/// Tokens, and outputs, of a step.
const SIDE: usize = COLS;
/// Pairs of inputs of a step.
const STEP: usize = 16;
/// Distance of rounded rows, in pairs: a little more than the block, so that rows do not share cache sets.
const STRIDE: usize = BLOCK_DEPTH + STEP;

/// Whether processor and operating system offer AMX-BF16; else why not. Asks for permission to use it.
pub(super) fn available() -> Result<(), &'static str> {
    let leaf = __cpuid_count(7, 0);
    let (bf16, tile) = (leaf.edx >> 22 & 1, leaf.edx >> 24 & 1);
    if __cpuid_count(0, 0).eax < 7 || bf16 == 0 || tile == 0 {
        return Err("the processor has no AMX-BF16");
    }
    if !cfg!(target_os = "linux") {
        return Err("AMX is used on Linux only");
    }
    permission()
}

#[cfg(target_os = "linux")]
fn permission() -> Result<(), &'static str> {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: a system call that takes two integers and touches no memory of ours.
    let code = unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) };
    if code == 0 { Ok(()) } else { Err("the operating system does not permit AMX") }
}

#[cfg(not(target_os = "linux"))]
fn permission() -> Result<(), &'static str> {
    Err("AMX is used on Linux only")
}

/// The operand of `ldtilecfg`: palette 1, and rows and bytes per row of the eight tiles.
#[repr(C, align(64))]
struct TileShapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    bytes_per_row: [u16; 16],
    rows: [u8; 16],
}

impl TileShapes {
    /// All eight tiles whole.
    const WHOLE: TileShapes = TileShapes {
        palette: 1,
        start_row: 0,
        reserved: [0; 14],
        bytes_per_row: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
        rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
    };
}

/// `y (+)= bf16(x)·Wᵀ` for the outputs of `w` from `output` on.
///
/// # Safety
/// [`available`] said yes.
pub(super) unsafe fn product(x: MatRef<'_, f32>, w: &PackedBf16, output: usize, mut y: MatMut<'_, f32>, write: Write) {
    // SAFETY: the shapes are valid for palette 1; nothing else in the process uses tiles.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &TileShapes::WHOLE, options(nostack, readonly)) };
    let mut write = write;
    for Range { start: from, end } in depth_blocks(w.depth()) {
        let depth = end - from;
        with_scratch(&LEFT, x.rows().next_multiple_of(SIDE) * STRIDE, |rounded: &mut [u32]| {
            round_pairs(x, from, depth, STRIDE, rounded);
            for col in (0..y.cols()).step_by(SIDE) {
                let w: &[u32] = bytemuck::cast_slice(w.rows(output + col, from, depth));
                for row in (0..x.rows()).step_by(SIDE) {
                    let (rows, cols) = (SIDE.min(x.rows() - row), SIDE.min(y.cols() - col));
                    let x = &rounded[row * STRIDE..(row + SIDE) * STRIDE];
                    // SAFETY: tiles are configured; `x` has 32 rows, `w` has `depth` rows, a multiple of 16.
                    unsafe { square_or_edge(depth, x, w, y.block_mut(row, col, rows, cols), write) };
                }
            }
        });
        write = Write::Add;
    }
    // SAFETY: gives the tile registers back; they hold nothing that is needed.
    unsafe { asm!("tilerelease", options(nostack, nomem)) };
}

/// A square of 32 × 32 outputs, or what of it there is: then through a buffer.
///
/// # Safety
/// Tiles are configured, `x` holds 32 rows [`STRIDE`] apart, `w` at least `depth` rows, and `depth` is a multiple of 16.
unsafe fn square_or_edge(depth: usize, x: &[u32], w: &[u32], mut y: MatMut<'_, f32>, write: Write) {
    assert!(x.len() >= SIDE * STRIDE && w.len() >= depth * SIDE && depth.is_multiple_of(STEP), "tile operands");
    if y.rows() == SIDE && y.cols() == SIDE {
        // SAFETY: the operands were checked, and `y` is whole.
        return unsafe { square(depth, x.as_ptr(), w.as_ptr(), y.as_mut_ptr(), y.row_stride(), write) };
    }
    let mut edge = [0f32; SIDE * SIDE];
    // SAFETY: as above, with a whole buffer.
    unsafe { square(depth, x.as_ptr(), w.as_ptr(), edge.as_mut_ptr(), SIDE, Write::Set) };
    for row in 0..y.rows() {
        for (y, &sum) in y.row_mut(row).iter_mut().zip(&edge[row * SIDE..]) {
            *y = if write == Write::Add { *y + sum } else { sum };
        }
    }
}

/// Four tiles of sums; two tiles of activations meet two of weights in every step.
///
/// # Safety
/// Tiles are configured, and all rows that the tiles cover are inside their buffers.
unsafe fn square(depth: usize, x: *const u32, w: *const u32, y: *mut f32, y_stride: usize, write: Write) {
    let lower = y.wrapping_add(STEP * y_stride);
    // SAFETY: the caller's promise covers all reads and writes. Tile registers are used by nothing else.
    unsafe {
        asm!(
            "test {add}, {add}",
            "jnz 2f",
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "jmp 3f",
            "2:",
            "tileloadd tmm0, [{upper} + {ys}*1]",
            "tileloadd tmm1, [{upper} + {ys}*1 + 64]",
            "tileloadd tmm2, [{lower} + {ys}*1]",
            "tileloadd tmm3, [{lower} + {ys}*1 + 64]",
            "3:",
            "tileloadd tmm4, [{x0} + {xs}*1]",
            "tileloadd tmm6, [{w} + {ws}*1]",
            "tileloadd tmm7, [{w} + {ws}*1 + 64]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{x1} + {xs}*1]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {x0}, 64",
            "add {x1}, 64",
            "add {w}, 2048",
            "dec {steps}",
            "jnz 3b",
            "tilestored [{upper} + {ys}*1], tmm0",
            "tilestored [{upper} + {ys}*1 + 64], tmm1",
            "tilestored [{lower} + {ys}*1], tmm2",
            "tilestored [{lower} + {ys}*1 + 64], tmm3",
            add = in(reg) usize::from(write == Write::Add),
            upper = in(reg) y,
            lower = in(reg) lower,
            ys = in(reg) y_stride * 4,
            x0 = inout(reg) x => _,
            x1 = inout(reg) x.wrapping_add(STEP * STRIDE) => _,
            xs = in(reg) STRIDE * 4,
            w = inout(reg) w => _,
            ws = in(reg) SIDE * 4,
            steps = inout(reg) depth / STEP => _,
            options(nostack),
        );
    }
}
