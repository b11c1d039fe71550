//! The path that every machine has: weights widened to f32, f32 products. It defines what the other paths must give.

use super::packed::{PANEL, PackedBf16};
use crate::matmul::{MatMut, MatRef, Write, matmul_here};

/// `y (+)= x·Wᵀ` for the outputs of `w` from `output` on; `x` holds values already rounded to bf16.
pub(super) fn product(x: MatRef<'_, f32>, w: &PackedBf16, output: usize, y: &mut MatMut<'_, f32>, write: Write) {
    let panels = y.cols().div_ceil(PANEL);
    let stride = panels * PANEL;
    let mut wide = vec![0.0; w.inputs() * stride];
    for panel in 0..panels {
        let rows = w.panel(output / PANEL + panel);
        for (input, row) in wide.chunks_exact_mut(stride).enumerate() {
            let pairs = &rows[input / 2];
            for (to, &pair) in row[panel * PANEL..][..PANEL].iter_mut().zip(pairs) {
                *to = f32::from_bits(if input % 2 == 0 { pair << 16 } else { pair & 0xffff_0000 });
            }
        }
    }
    let (rows, cols) = (y.rows(), y.cols());
    let w = MatRef::with_stride(&wide, w.inputs(), cols, stride);
    matmul_here(1.0, x, w, y.block_mut(0, rows), write);
}
