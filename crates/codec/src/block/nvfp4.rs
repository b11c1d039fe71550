//! NVFP4: 64 numbers in 4 sub-blocks of 16, each with an unsigned FP8 E4M3 scale (36 bytes, 4.5 bits per weight).
//!
//! | bytes | content |
//! |---|---|
//! | 0–3 | scales: exponent of 4 bits (bias 7), mantissa of 3; 0 and 127 stand for zero, bit 7 is ignored |
//! | 4–35 | codes of FP4 E2M1, in planes of 8 bytes per 16 numbers |
//!
//! `x = scale·v` with `v` as in MXFP4. The scale of the whole tensor, where there is one, is a tensor of its own.
//!
//! Source: ggml, `quantize_row_nvfp4_ref`, `ggml_fp32_to_ue4m3`.

use super::fields::{pack_runs, unpack_runs};
use super::mxfp4::{E2M1, nearest};
use super::search::extreme;
use super::{BlockCodec, Grid, Importance, Levels, Step};

const LEN: usize = 64;
const SUB: usize = 16;
const SUBS: usize = LEN / SUB;

/// Rounds to the nearest unsigned E4M3, half up, saturating at 448 (a carry out of the largest exponent included).
fn to_ue4m3(x: f32) -> u8 {
    let bits = x.min(448.0).to_bits();
    let exponent = (bits >> 23) as i32 - 127 + 7;
    if exponent <= 0 {
        return ((x * 512.0 + 0.5) as u8).min(7);
    }
    // Exponent and mantissa side by side, so that rounding carries from one to the other.
    let rounded = (exponent << 3) + ((bits >> 20) & 7) as i32 + ((bits >> 19) & 1) as i32;
    if rounded >= 15 << 3 { 0x7e } else { rounded as u8 }
}

/// Half the value of an unsigned E4M3.
fn half_ue4m3(scale: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(scale >> 3) & 15, f32::from(scale & 7));
    match scale {
        0 | 0x7f => 0.0,
        _ if exponent == 0 => mantissa * 2f32.powi(-10),
        _ => (1.0 + mantissa / 8.0) * 2f32.powi(exponent - 8),
    }
}

/// See the module.
pub struct Nvfp4;

impl BlockCodec for Nvfp4 {
    fn block_len(&self) -> usize {
        LEN
    }

    fn block_bytes(&self) -> usize {
        SUBS + LEN / 2
    }

    fn encode_block(&self, x: &[f32], _: Option<Importance<'_>>, out: &mut [u8]) {
        let mut codes = [0; LEN];
        let subs = x.chunks_exact(SUB).zip(codes.chunks_exact_mut(SUB));
        for (scale, (x, codes)) in out.iter_mut().zip(subs) {
            *scale = to_ue4m3(extreme(x).1 / 6.0);
            for (code, v) in codes.iter_mut().zip(x) {
                *code = nearest(*v, half_ue4m3(*scale));
            }
        }
        self.pack(&codes, out);
    }

    fn pack(&self, codes: &[u8], block: &mut [u8]) {
        pack_runs(SUB, 4, 0, codes, &mut block[SUBS..]);
    }

    fn unpack(&self, block: &[u8], codes: &mut [u8]) {
        unpack_runs(SUB, 4, 0, &block[SUBS..], codes);
    }

    fn grid(&self, block: &[u8]) -> Grid {
        Grid::new(Levels::Table(&E2M1), SUB, SUBS, |j| Step::linear(half_ue4m3(block[j])))
    }

    /// Every byte is a scale.
    fn invalid(&self, _: &[u8]) -> Option<&'static str> {
        None
    }
}
