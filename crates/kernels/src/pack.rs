//! Operands rearranged into the order in which [`crate::micro`] reads them, and the memory to do it in.

use std::cell::Cell;

use bytemuck::{Pod, Zeroable};

use crate::matmul::MatRef;
use crate::simd::vectorised;

/// A cache line, so that buffers begin on one.
#[derive(Clone, Copy, Zeroable, Pod)]
#[repr(C, align(64))]
pub(crate) struct Line([u64; 8]);

/// A kept buffer: taken while in use, so that a task which runs inside another's wait gets its own.
pub(crate) type Scratch = std::thread::LocalKey<Cell<Vec<Line>>>;

thread_local! {
    /// For left operands.
    pub(crate) static LEFT: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
    /// For activations rounded to bf16.
    pub(crate) static ROUNDED: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
}

/// Runs `work` on `len` elements of `scratch`; what they hold is left over from before.
pub(crate) fn with_scratch<T: Pod, O>(scratch: &'static Scratch, len: usize, work: impl FnOnce(&mut [T]) -> O) -> O {
    let mut lines = scratch.take();
    let need = (len * size_of::<T>()).div_ceil(size_of::<Line>());
    if lines.len() < need {
        lines.resize(need, Line([0; 8]));
    }
    let result = work(&mut bytemuck::cast_slice_mut(&mut lines)[..len]);
    scratch.set(lines);
    result
}

/// Interleaves rows in panels of `W`: element `(i, p)` goes to `to[(i/W·depth + p)·W + i mod W]`. Places past the last row
/// keep what they held.
#[inline(always)]
pub(crate) fn interleave<const W: usize, T: Copy>(rows: usize, depth: usize, m: MatRef<'_, T>, to: &mut [T]) {
    for (panel, to) in to.chunks_exact_mut((depth * W).max(1)).enumerate() {
        let first = panel * W;
        if first >= rows {
            break;
        }
        let block = m.block(first, 0, W.min(rows - first), depth);
        if block.row_stride() == 1 {
            for (p, to) in to.chunks_exact_mut(W).enumerate() {
                let from = &block.data()[p * block.col_stride()..][..block.rows()];
                to[..block.rows()].copy_from_slice(from);
            }
        } else {
            transpose_panel::<W, T>(block, to);
        }
    }
}

/// One panel from rows: squares of 16 columns at a time, so that both sides stay in the cache.
#[inline(always)]
fn transpose_panel<const W: usize, T: Copy>(block: MatRef<'_, T>, to: &mut [T]) {
    const SQUARE: usize = 16;
    let (row_stride, col_stride) = (block.row_stride(), block.col_stride());
    let (to, _) = to.as_chunks_mut::<W>();
    for (at, to) in to.chunks_mut(SQUARE).enumerate() {
        for r in 0..block.rows() {
            let from = &block.data()[r * row_stride + at * SQUARE * col_stride..];
            match (<&mut [[T; W]; SQUARE]>::try_from(&mut *to), from.first_chunk::<SQUARE>()) {
                (Ok(to), Some(from)) if col_stride == 1 => to.iter_mut().zip(from).for_each(|(to, &x)| to[r] = x),
                _ => to.iter_mut().zip(from.iter().step_by(col_stride.max(1))).for_each(|(to, &x)| to[r] = x),
            }
        }
    }
}

vectorised! {
    /// Packs a left operand: panels of [`crate::micro::ROWS`] rows.
    pub(crate) fn pack_left<R: Real>(a: MatRef<'_, R>, to: &mut [R]) {
        interleave::<{ crate::micro::ROWS }, R>(a.rows(), a.cols(), a, to);
    }
}
