//! Large f32 products on AVX-512, blocked for the caches after Goto and van de Geijn (2008).
//!
//! `B` is packed once per chunk of columns and shared; a task owns a block of rows, packs its part of `A` by depth, and
//! runs the register kernel over them: 32 columns of `B` (32 KiB) stay in the first cache, the block of `A` in the second.
//! Block sizes depend on the shape alone. Other machines take the `gemm` crate.

use crate::matmul::{MatMut, MatRef, Write, library_product};
use crate::micro::{COLS, ROWS, Tile, f32_kernel};
use crate::pack::{LEFT, RIGHT, pack_left, pack_right, with_scratch};
use crate::parallel::map_tasks;
use crate::simd::{Level, dot, level, vectorised};

/// Rows of a task: whole left panels.
pub(crate) const BLOCK_ROWS: usize = 18 * ROWS;
/// Depth of a block, in f32 or in pairs of bf16.
pub(crate) const BLOCK_DEPTH: usize = 256;
/// Columns of a task where there are too few rows to share.
const BLOCK_COLS: usize = 512;
/// Blocks of rows that are plenty for the threads of a machine.
const PLENTY: usize = 16;
/// Elements of `B` packed at a time (8 MiB).
const CHUNK: usize = 1 << 21;
/// Up to so many rows, packing `B` costs more than it gains.
const FEW_ROWS: usize = 6;

/// [`crate::matmul()`] for f32.
pub(crate) fn f32_product(alpha: f32, a: MatRef<'_, f32>, b: MatRef<'_, f32>, c: MatMut<'_, f32>, write: Write) {
    let dots = a.col_stride() == 1 && b.row_stride() == 1;
    if a.rows() <= FEW_ROWS && dots {
        few_rows(alpha, a, b, c, write);
    } else if level() == Level::Avx512 {
        blocked(alpha, a, b, c, write);
    } else {
        library_product(alpha, a, b, c, write);
    }
}

/// How many columns one task takes: all, unless there are few blocks of rows.
pub(crate) fn task_cols(rows: usize, cols: usize) -> usize {
    if rows.div_ceil(BLOCK_ROWS) >= PLENTY { cols.max(1) } else { BLOCK_COLS }
}

fn blocked(alpha: f32, a: MatRef<'_, f32>, b: MatRef<'_, f32>, c: MatMut<'_, f32>, write: Write) {
    let depth = a.cols();
    let chunk = (CHUNK / depth.max(1)).next_multiple_of(COLS).max(BLOCK_COLS);
    for (_, first, c) in c.into_blocks(usize::MAX, chunk) {
        let b = b.block(0, first, depth, c.cols());
        with_scratch(&RIGHT, b.cols().next_multiple_of(COLS) * depth, |packed| {
            let panels = packed.chunks_mut((depth * COLS).max(1)).enumerate().collect();
            map_tasks(panels, |(i, panel): (usize, &mut [f32])| {
                let cols = COLS.min(b.cols() - i * COLS);
                pack_right(b.block(0, i * COLS, depth, cols), panel);
            });
            let packed = &*packed;
            let cols = task_cols(c.rows(), c.cols());
            map_tasks(c.into_blocks(BLOCK_ROWS, cols), |(row, col, c)| {
                let a = a.block(row, 0, c.rows(), depth);
                row_block(alpha, a, &packed[col * depth..], c, write);
            });
        });
    }
}

/// One task: `c (+)= alpha·a·b`, `b` in right panels.
fn row_block(alpha: f32, a: MatRef<'_, f32>, b: &[f32], mut c: MatMut<'_, f32>, write: Write) {
    let (rows, depth) = (a.rows(), a.cols());
    let mut write = write;
    for from in (0..depth.max(1)).step_by(BLOCK_DEPTH) {
        let deep = BLOCK_DEPTH.min(depth - from);
        with_scratch(&LEFT, rows.next_multiple_of(ROWS) * deep, |left| {
            pack_left(a.block(0, from, rows, deep), left);
            for col in (0..c.cols()).step_by(COLS) {
                let b = &b[(col * depth + from * COLS).min(b.len())..];
                let cols = COLS.min(c.cols() - col);
                for row in (0..rows).step_by(ROWS) {
                    let c = c.block_mut(row, col, ROWS.min(rows - row), cols);
                    f32_kernel(deep, &left[row * deep..], b, COLS, Tile { c, alpha, write });
                }
            }
        });
        write = Write::Add;
    }
}

/// A product of few rows, as dot products: each column of `B` is read once, where it lies.
fn few_rows(alpha: f32, a: MatRef<'_, f32>, b: MatRef<'_, f32>, c: MatMut<'_, f32>, write: Write) {
    map_tasks(c.into_blocks(usize::MAX, 256), |(_, first, c)| {
        let b = b.block(0, first, b.rows(), c.cols());
        dots_here(alpha, a, b, c, write);
    });
}

vectorised! {
    fn dots_here(alpha: f32, a: MatRef<'_, f32>, b: MatRef<'_, f32>, c: MatMut<'_, f32>, write: Write) {
        let mut c = c;
        for col in 0..b.cols() {
            let from = &b.data()[(col * b.col_stride()).min(b.data().len())..][..b.rows()];
            for row in 0..a.rows() {
                let sum = alpha * dot(&a.data()[row * a.row_stride()..][..b.rows()], from);
                let to = &mut c.row_mut(row)[col];
                *to = if write == Write::Add { *to + sum } else { sum };
            }
        }
    }
}
