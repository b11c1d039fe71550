//! The product of a matrix with itself, `XᵀX`: what a Hessian of a layer's squared error is summed from.
//!
//! Rows of `X` are taken in pairs, and a pair of rows is, column by column, what the bf16 unit multiplies: nothing is
//! transposed. Only tiles on and above the diagonal are computed; the others are their mirror images.

use super::{Bf16Path, bf16_path};
use crate::matmul::{MatMut, MatRef, Write, matmul};
use crate::parallel::map_tasks;

/// Adds `bf16(x)ᵀ·bf16(x)` to `sum`, `[width, width]`, for `x` of whole rows of `width`. Where the machine has no bf16 unit,
/// `xᵀx` in f32.
///
/// # Panics
/// When the lengths do not agree.
pub fn gram_bf16(x: &[f32], width: usize, sum: &mut [f32]) {
    assert!(sum.len() == width * width && x.len().is_multiple_of(width.max(1)), "gram matrix of unlike lengths");
    match bf16_path().path {
        Bf16Path::Portable => gram(x, width, sum),
        #[cfg(target_arch = "x86_64")]
        // The AMX path would have to transpose; it includes AVX-512.
        Bf16Path::Amx | Bf16Path::Avx512 => units::gram(x, width, sum),
        #[cfg(not(target_arch = "x86_64"))]
        _ => gram(x, width, sum),
    }
}

/// Columns of a task.
const BLOCK: usize = 192;

/// Adds `xᵀ·x` in f32 to `sum`, `[width, width]`, for `x` of whole rows of `width`.
///
/// # Panics
/// When the lengths do not agree.
pub fn gram(x: &[f32], width: usize, sum: &mut [f32]) {
    let rows = x.len() / width.max(1);
    for i in (0..width).step_by(BLOCK) {
        let left = MatRef::with_stride(&x[i..], rows, BLOCK.min(width - i), width).t();
        let right = MatRef::with_stride(&x[i..], rows, width - i, width);
        let out = MatMut::with_stride(&mut sum[i * width + i..], left.rows(), right.cols(), width);
        matmul(1.0, left, right, out, Write::Add);
    }
    mirror(sum, width, BLOCK);
}

/// Copies what lies right of the blocks on the diagonal to below them.
fn mirror(sum: &mut [f32], width: usize, block: usize) {
    for top in (0..width).step_by(block) {
        let (above, below) = sum.split_at_mut((top + block).min(width) * width);
        let above = &above[top * width..];
        let rows = below.chunks_exact_mut(width).enumerate().map(|(i, row)| (top + block + i, row)).collect();
        map_tasks(rows, |(i, row): (usize, &mut [f32])| {
            let column = above.iter().skip(i).step_by(width);
            row[top..].iter_mut().zip(column).for_each(|(to, from)| *to = *from);
        });
    }
}

#[cfg(target_arch = "x86_64")]
mod units {
    use super::super::portable::bits;
    use super::super::tiles::depth_blocks;
    use super::mirror;
    use crate::matmul::{MatMut, Write};
    use crate::micro::{COLS, ROWS, Tile, bf16_kernel};
    use crate::pack::{LEFT, with_scratch};
    use crate::parallel::map_tasks;
    use std::ops::Range;

    /// Columns of a task: whole panels of either side.
    const BLOCK: usize = 7 * COLS;

    /// See [`super::gram_bf16`]; the machine has AVX512-BF16.
    pub(super) fn gram(x: &[f32], width: usize, sum: &mut [f32]) {
        let rows = x.len() / width.max(1);
        for pairs in depth_blocks(rows.div_ceil(2)) {
            let x = &x[2 * pairs.start * width..(2 * pairs.end).min(rows) * width];
            let pairs = pack(x, width, pairs.len());
            let strips = MatMut::new(&mut sum[..], width, width).into_blocks(BLOCK, width.max(1));
            map_tasks(strips, |(first, _, mut strip)| strip_of(&pairs, first, &mut strip));
        }
        mirror(sum, width, BLOCK);
    }

    /// Pairs of rows in panels of [`COLS`] columns, the last ones filled up with zeros.
    struct Pairs {
        depth: usize,
        panels: Vec<u32>,
    }

    impl Pairs {
        fn panel(&self, column: usize) -> &[u32] {
            let len = self.depth * COLS;
            &self.panels[column / COLS * len..][..len]
        }
    }

    fn pack(x: &[f32], width: usize, depth: usize) -> Pairs {
        let mut panels = vec![0; width.div_ceil(COLS) * depth * COLS];
        let tasks = panels.chunks_exact_mut(depth * COLS).enumerate().collect();
        map_tasks(tasks, |(n, panel): (usize, &mut [u32])| pack_panel(x, width, n * COLS, panel));
        Pairs { depth, panels }
    }

    fn pack_panel(x: &[f32], width: usize, first: usize, panel: &mut [u32]) {
        let columns = first..width.min(first + COLS);
        for (to, pair) in panel.chunks_exact_mut(COLS).zip(x.chunks(2 * width)) {
            let (a, b) = pair.split_at(width);
            for (to, a) in to.iter_mut().zip(&a[columns.clone()]) {
                *to = bits(*a);
            }
            for (to, b) in to.iter_mut().zip(b.get(columns.clone()).unwrap_or_default()) {
                *to |= bits(*b) << 16;
            }
        }
    }

    /// Rows of the sum from `first` on, from the diagonal's block rightwards.
    fn strip_of(pairs: &Pairs, first: usize, strip: &mut MatMut<'_, f32>) {
        let (rows, width) = (strip.rows(), strip.cols());
        with_scratch(&LEFT, rows.next_multiple_of(ROWS) * pairs.depth, |left: &mut [u32]| {
            for row in (0..rows).step_by(ROWS) {
                take(pairs, first + row..first + rows.min(row + ROWS), &mut left[row * pairs.depth..]);
            }
            for column in (first..width).step_by(COLS) {
                for row in (0..rows).step_by(ROWS) {
                    let c = strip.block_mut(row, column, ROWS.min(rows - row), COLS.min(width - column));
                    let tile = Tile { c, alpha: 1.0, write: Write::Add };
                    // SAFETY: this module is only for machines with AVX512-BF16.
                    unsafe { bf16_kernel(pairs.depth, &left[row * pairs.depth..], pairs.panel(column), tile) };
                }
            }
        });
    }

    /// Columns of the pairs as a left panel.
    fn take(pairs: &Pairs, columns: Range<usize>, left: &mut [u32]) {
        for (r, column) in columns.enumerate() {
            let from = pairs.panel(column).iter().skip(column % COLS).step_by(COLS);
            left[r..].iter_mut().step_by(ROWS).zip(from).for_each(|(to, from)| *to = *from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::bf16;

    #[test]
    fn both_are_the_sum_over_rows_and_are_added() {
        for (rows, width) in [(1, 1), (5, 40), (33, 300), (1301, 47)] {
            let x: Vec<f32> = (0..rows * width).map(|i| bf16::from_f32((i as f32 * 0.7).sin()).to_f32()).collect();
            for gram in [gram as fn(&[f32], usize, &mut [f32]), gram_bf16] {
                let mut sum = vec![1.0; width * width];
                gram(&x, width, &mut sum);
                for i in 0..width {
                    for j in (0..width).step_by(7) {
                        let products = x.chunks_exact(width).map(|x| f64::from(x[i]) * f64::from(x[j]));
                        let want = 1.0 + products.sum::<f64>();
                        let got = f64::from(sum[i * width + j]);
                        assert!((got - want).abs() < 1e-6 * rows as f64 + 1e-5, "{rows}x{width} {i} {j}: {got} {want}");
                    }
                }
            }
        }
    }
}
