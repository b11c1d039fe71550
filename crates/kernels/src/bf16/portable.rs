//! The path that every machine has: weights widened to f32, f32 products. It defines what the other paths must give.

use super::packed::PackedBf16;
use crate::matmul::{MatMut, MatRef, Write, library_gemm};
use crate::micro::COLS;

/// `y (+)= bf16(x)·Wᵀ` for the outputs of `w` from `output` on.
pub(super) fn product(x: MatRef<'_, f32>, w: &PackedBf16, output: usize, y: &mut MatMut<'_, f32>, write: Write) {
    let rounded: Vec<f32> = (0..x.rows()).flat_map(|row| x.row(row).iter().map(|&x| round(x))).collect();
    let stride = y.cols().next_multiple_of(COLS);
    let mut wide = vec![0.0; w.inputs() * stride];
    for col in (0..y.cols()).step_by(COLS) {
        let rows = w.rows(output + col, 0, w.depth());
        for (input, to) in wide.chunks_exact_mut(stride).enumerate() {
            for (to, &pair) in to[col..col + COLS].iter_mut().zip(&rows[input / 2].0) {
                *to = f32::from_bits(if input % 2 == 0 { pair << 16 } else { pair & 0xffff_0000 });
            }
        }
    }
    let rounded = MatRef::new(&rounded, x.rows(), w.inputs());
    library_gemm(1.0, rounded, MatRef::with_stride(&wide, w.inputs(), y.cols(), stride), y, write);
}

/// The nearest bf16, ties to even, as f32.
fn round(x: f32) -> f32 {
    f32::from_bits(bits(x) << 16)
}

/// The bits of the nearest bf16 (ties to even; what is not a number stays so), in the low half. Branch-free, so that loops
/// over it become vector code.
#[inline(always)]
pub(super) fn bits(x: f32) -> u32 {
    let b = x.to_bits();
    let nearest = b.wrapping_add(0x7fff + (b >> 16 & 1)) >> 16;
    if b & 0x7fff_ffff > 0x7f80_0000 { b >> 16 | 0x40 } else { nearest }
}
