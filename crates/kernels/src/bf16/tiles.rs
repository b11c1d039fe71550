//! The paths with bf16 units, AVX-512 and AMX: blocked alike, different in the innermost product and in how activations lie.
//!
//! A task owns a block of tokens. For each stretch of inputs it rounds its activations to pairs of bf16 in a buffer; a panel
//! of the weight (32 outputs × 640 inputs at most, 40 KiB) then stays in the first cache while the tokens go by.

use std::ops::Range;

use super::packed::PackedBf16;
use super::portable::bits;
use super::{Bf16Path, amx};
use crate::matmul::{MatMut, MatRef, Write};
use crate::micro::{COLS, ROWS, Tile, bf16_kernel};
use crate::pack::{LEFT, ROUNDED, interleave, with_scratch};
use crate::simd::vectorised;

/// Largest stretch of inputs, in pairs.
pub(super) const BLOCK_DEPTH: usize = 320;

/// Cuts a depth into stretches of about equal length, multiples of 16.
pub(super) fn depth_blocks(depth: usize) -> impl Iterator<Item = Range<usize>> {
    let count = depth.div_ceil(BLOCK_DEPTH).max(1);
    let block = depth.div_ceil(count).next_multiple_of(16).max(16);
    (0..depth).step_by(block).map(move |from| from..depth.min(from + block))
}

/// Up to so many tokens, weights are read from memory once per product: the order follows them, and AMX gains nothing.
const FEW_TOKENS: usize = ROWS;

/// `y (+)= bf16(x)·Wᵀ` for the outputs of `w` from `output` on.
///
/// # Safety
/// The machine has the instructions of `path`.
pub(super) unsafe fn product(
    path: Bf16Path,
    x: MatRef<'_, f32>,
    w: &PackedBf16,
    output: usize,
    mut y: MatMut<'_, f32>,
    write: Write,
) {
    if path == Bf16Path::Amx && x.rows() > FEW_TOKENS {
        // SAFETY: promised by the caller.
        unsafe { amx::product(x, w, output, y, write) };
        return;
    }
    if x.rows() <= FEW_TOKENS {
        // One block of all inputs, so that the weight is read in the order in which it lies.
        // SAFETY: promised by the caller.
        unsafe { stretch(x, w, output, 0..w.depth(), &mut y, write) };
        return;
    }
    let mut write = write;
    for pairs in depth_blocks(w.depth()) {
        // SAFETY: promised by the caller.
        unsafe { stretch(x, w, output, pairs, &mut y, write) };
        write = Write::Add;
    }
}

/// The share of one stretch of inputs, counted in pairs, by AVX-512.
///
/// # Safety
/// The machine has AVX512-BF16.
unsafe fn stretch(
    x: MatRef<'_, f32>,
    w: &PackedBf16,
    output: usize,
    pairs: Range<usize>,
    y: &mut MatMut<'_, f32>,
    write: Write,
) {
    let (tokens, depth) = (x.rows(), pairs.len());
    with_scratch(&ROUNDED, tokens * depth, |rounded: &mut [u32]| {
        round_pairs(x, pairs.start, depth, depth, rounded);
        with_scratch(&LEFT, tokens.next_multiple_of(ROWS) * depth, |left: &mut [u32]| {
            interleave_pairs(MatRef::new(rounded, tokens, depth), left);
            for col in (0..y.cols()).step_by(COLS) {
                let w = bytemuck::cast_slice(w.rows(output + col, pairs.start, depth));
                let cols = COLS.min(y.cols() - col);
                for row in (0..tokens).step_by(ROWS) {
                    let c = y.block_mut(row, col, ROWS.min(tokens - row), cols);
                    // SAFETY: promised by the caller.
                    unsafe { bf16_kernel(depth, &left[row * depth..], w, Tile { c, alpha: 1.0, write }) };
                }
            }
        });
    });
}

vectorised! {
    /// Rounds `depth` pairs of every row, from pair `from` on, to rows `stride` apart. Past the last input: zeros.
    pub(super) fn round_pairs(x: MatRef<'_, f32>, from: usize, depth: usize, stride: usize, to: &mut [u32]) {
        for (row, to) in to.chunks_exact_mut(stride.max(1)).take(x.rows()).enumerate() {
            let from = &x.row(row)[(2 * from).min(x.cols())..];
            let (whole, rest) = from[..from.len().min(2 * depth)].as_chunks::<2>();
            let (to, padding) = to[..depth].split_at_mut(whole.len());
            to.iter_mut().zip(whole).for_each(|(to, &[a, b])| *to = bits(a) | bits(b) << 16);
            padding.fill(0);
            if let ([first, ..], [a]) = (padding, rest) {
                *first = bits(*a);
            }
        }
    }
}

vectorised! {
    fn interleave_pairs(rounded: MatRef<'_, u32>, left: &mut [u32]) {
        interleave::<ROWS, u32>(rounded.rows(), rounded.cols(), rounded, left);
    }
}
