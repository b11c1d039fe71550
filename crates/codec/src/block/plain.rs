//! Plain numbers to `f32` and back.

use crate::Dtype;
use half::{bf16, f16};

/// Writes `x` as `dtype`, rounding to nearest even. `out.len() == x.len() * dtype.bytes()`.
pub fn encode(dtype: Dtype, x: &[f32], out: &mut [u8]) {
    fn each<const N: usize>(x: &[f32], out: &mut [u8], f: impl Fn(f32) -> [u8; N]) {
        for (v, o) in x.iter().zip(out.chunks_exact_mut(N)) {
            o.copy_from_slice(&f(*v));
        }
    }
    match dtype {
        Dtype::F64 => each(x, out, |v| f64::from(v).to_le_bytes()),
        Dtype::F32 => each(x, out, f32::to_le_bytes),
        Dtype::F16 => each(x, out, |v| f16::from_f32(v).to_le_bytes()),
        Dtype::BF16 => each(x, out, |v| bf16::from_f32(v).to_le_bytes()),
        Dtype::F8E4M3 => each(x, out, |v| [crate::packed::fp8::e4m3_from_f32(v)]),
        Dtype::F8E5M2 => each(x, out, |v| [crate::packed::fp8::e5m2_from_f32(v)]),
        Dtype::I8 => each(x, out, |v| (v as i8).to_le_bytes()),
        Dtype::U8 | Dtype::Bool => each(x, out, |v| [v as u8]),
        Dtype::I16 => each(x, out, |v| (v as i16).to_le_bytes()),
        Dtype::U16 => each(x, out, |v| (v as u16).to_le_bytes()),
        Dtype::I32 => each(x, out, |v| (v as i32).to_le_bytes()),
        Dtype::U32 => each(x, out, |v| (v as u32).to_le_bytes()),
        Dtype::I64 => each(x, out, |v| (v as i64).to_le_bytes()),
        Dtype::U64 => each(x, out, |v| (v as u64).to_le_bytes()),
    }
}

/// Reads `dtype` numbers. `bytes.len() == out.len() * dtype.bytes()`.
pub fn decode(dtype: Dtype, bytes: &[u8], out: &mut [f32]) {
    fn each<const N: usize>(bytes: &[u8], out: &mut [f32], f: impl Fn([u8; N]) -> f32) {
        for (b, o) in bytes.as_chunks::<N>().0.iter().zip(out) {
            *o = f(*b);
        }
    }
    match dtype {
        Dtype::F64 => each(bytes, out, |b| f64::from_le_bytes(b) as f32),
        Dtype::F32 => each(bytes, out, f32::from_le_bytes),
        Dtype::F16 => each(bytes, out, |b| f16::from_le_bytes(b).to_f32()),
        Dtype::BF16 => each(bytes, out, |b| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16)),
        Dtype::F8E4M3 => each(bytes, out, |[b]| crate::packed::fp8::e4m3_to_f32(b)),
        Dtype::F8E5M2 => each(bytes, out, |[b]| crate::packed::fp8::e5m2_to_f32(b)),
        Dtype::I8 => each(bytes, out, |b| f32::from(i8::from_le_bytes(b))),
        Dtype::U8 | Dtype::Bool => each(bytes, out, |[b]| f32::from(b)),
        Dtype::I16 => each(bytes, out, |b| f32::from(i16::from_le_bytes(b))),
        Dtype::U16 => each(bytes, out, |b| f32::from(u16::from_le_bytes(b))),
        Dtype::I32 => each(bytes, out, |b| i32::from_le_bytes(b) as f32),
        Dtype::U32 => each(bytes, out, |b| u32::from_le_bytes(b) as f32),
        Dtype::I64 => each(bytes, out, |b| i64::from_le_bytes(b) as f32),
        Dtype::U64 => each(bytes, out, |b| u64::from_le_bytes(b) as f32),
    }
}
