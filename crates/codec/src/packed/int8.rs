//! Signed bytes with one scale per row (`int-quantized` of compressed-tensors, W8).

use crate::{Dtype, Matrix, Part, PartSpec};
use half::bf16;

pub(super) fn parts(rows: usize, cols: usize) -> Vec<PartSpec> {
    vec![
        PartSpec { suffix: "weight", dtype: Dtype::I8, shape: vec![rows, cols] },
        PartSpec { suffix: "weight_scale", dtype: Dtype::BF16, shape: vec![rows, 1] },
    ]
}

pub(super) fn encode(m: Matrix<'_>) -> Vec<Part> {
    let (mut q, mut s) = (Vec::with_capacity(m.data.len()), Vec::with_capacity(m.rows * 2));
    for row in m.data.chunks_exact(m.cols) {
        let amax = row.iter().fold(0f32, |a, v| a.max(v.abs()));
        let scale = bf16::from_f32((amax / 127.5).max(f32::MIN_POSITIVE));
        s.extend(scale.to_le_bytes());
        q.extend(row.iter().map(|v| (v / scale.to_f32()).round_ties_even().clamp(-128.0, 127.0) as i8 as u8));
    }
    parts(m.rows, m.cols).into_iter().zip([q, s]).map(|(spec, bytes)| Part { spec, bytes }).collect()
}

pub(super) fn decode<'a>(_rows: usize, cols: usize, bytes: &dyn Fn(&'static str) -> &'a [u8], out: &mut [f32]) {
    let scales = bytes("weight_scale").as_chunks::<2>().0;
    for ((q, y), s) in bytes("weight").chunks_exact(cols).zip(out.chunks_exact_mut(cols)).zip(scales) {
        let s = bf16::from_le_bytes(*s).to_f32();
        for (y, q) in y.iter_mut().zip(q) {
            *y = s * f32::from(*q as i8);
        }
    }
}
