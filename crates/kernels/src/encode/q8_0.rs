//! Q8_0: blocks are short and have no search; the reference's arithmetic with the vectors of the machine.

use crate::simd::vectorised;
use codec::BlockFormat;

const LEN: usize = 32;
const BYTES: usize = 34;

vectorised! {
    pub(super) fn encode(x: &[f32], out: &mut [u8]) {
        for (x, block) in x.as_chunks::<LEN>().0.iter().zip(out.as_chunks_mut::<BYTES>().0) {
            let mut lanes = [0u32; 8];
            for x in x.as_chunks::<8>().0 {
                for k in 0..8 {
                    // Magnitudes compare as their bits do.
                    lanes[k] = lanes[k].max(x[k].to_bits() & 0x7fff_ffff);
                }
            }
            let d = f32::from_bits(lanes.into_iter().fold(0, u32::max)) / 127.0;
            if d < f32::MIN_POSITIVE {
                BlockFormat::Q8_0.codec().encode_block(x, None, block);
                continue;
            }
            let inverse = 1.0 / d;
            block[..2].copy_from_slice(&half::f16::from_f32(d).to_le_bytes());
            for (q, v) in block[2..].iter_mut().zip(x) {
                *q = round_away(v * inverse) as i8 as u8;
            }
        }
    }
}

/// Rounds half away from zero a number of magnitude below 2²³.
#[inline(always)]
fn round_away(v: f32) -> i32 {
    // Adding a half to the number just below one half would round up to 1; its predecessor never does.
    let half = 0.499_999_97_f32.copysign(v);
    // SAFETY: |v| is at most 127.00002 here.
    unsafe { (v + half).to_int_unchecked() }
}
