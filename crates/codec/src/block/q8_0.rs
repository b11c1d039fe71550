//! Q8_0: 32 numbers as `f16` scale and 32 signed bytes (34 bytes, 8.5 bits per weight).
//!
//! Source: ggml, `quantize_row_q8_0_ref`.

use super::BlockCodec;
use half::f16;

const LEN: usize = 32;
const BYTES: usize = 2 + LEN;

/// See the module.
pub struct Q8_0;

impl BlockCodec for Q8_0 {
    fn block_len(&self) -> usize {
        LEN
    }

    fn block_bytes(&self) -> usize {
        BYTES
    }

    fn encode_row(&self, x: &[f32], _importance: Option<&[f32]>, out: &mut [u8]) {
        for (x, out) in x.as_chunks::<LEN>().0.iter().zip(out.as_chunks_mut::<BYTES>().0) {
            let amax = x.iter().fold(0f32, |m, v| m.max(v.abs()));
            let d = amax / 127.0;
            let id = if d == 0.0 { 0.0 } else { 1.0 / d };
            out[..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
            for (q, v) in out[2..].iter_mut().zip(x) {
                *q = (v * id).round() as i8 as u8;
            }
        }
    }

    fn decode_row(&self, bytes: &[u8], out: &mut [f32]) {
        for (b, out) in bytes.as_chunks::<BYTES>().0.iter().zip(out.as_chunks_mut::<LEN>().0) {
            let d = f16::from_le_bytes([b[0], b[1]]).to_f32();
            for (y, q) in out.iter_mut().zip(&b[2..]) {
                *y = d * f32::from(*q as i8);
            }
        }
    }

    fn invalid(&self, block: &[u8]) -> Option<&'static str> {
        let d = f16::from_le_bytes([block[0], block[1]]);
        (!d.is_finite()).then_some("scale is not finite")
    }
}
