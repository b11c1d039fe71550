//! Q3_K: 256 numbers in 16 sub-blocks of 16 (110 bytes, 3.4375 bits per weight).
//!
//! | bytes | content |
//! |---|---|
//! | 0–31 | bit 2 of the codes, in one plane: bit `j` of byte `l` is of number `32j + l` |
//! | 32–95 | low 2 bits of the codes, in planes of 32 bytes per 128 numbers |
//! | 96–107 | 16 scales of 6 bits: low 4 bits of scales 0–7 under those of 8–15, then high 2 bits, four to a byte |
//! | 108–109 | `f16` d |
//!
//! `x = d·(scale − 32)·(q − 4)`.
//!
//! Source: ggml, `quantize_row_q3_K_ref` (without importance) and `quantize_row_q3_K_impl` (with).

use super::fields::{pack, pack_runs, read_f16, unpack, unpack_runs, write_f16};
use super::search::{extreme, importance_weights, nearest_int, sum, symmetric, symmetric_descent};
use super::superblock::{LEN, SUBS};
use super::{BlockCodec, Grid, Importance, Levels, Step};
use half::f16;

/// See the module.
pub struct Q3K;

const SUB: usize = 16;
const HALF: u8 = 4;
const SCALES: std::ops::Range<usize> = 96..108;
const D: usize = 108;

/// Scales of the sub-blocks as the superblock holds them, 6 bits each; and their worth.
fn plain_scales(scale: &[f32; SUBS]) -> (f32, [u8; SUBS]) {
    let largest = extreme(scale).0;
    if largest == 0.0 {
        return (0.0, [0; SUBS]);
    }
    let inverse = -32.0 / largest;
    (1.0 / inverse, scale.map(|s| (nearest_int(inverse * s) as i8).clamp(-32, 31).wrapping_add(32) as u8))
}

impl Q3K {
    /// Numbers in a sub-block.
    pub const SUB: usize = SUB;
    /// Levels are `−HALF..HALF`.
    pub const HALF: u8 = HALF;

    /// Weights of the 256 numbers of `x` where their importance is known.
    pub fn weights(x: &[f32], importance: &[f32], out: &mut [f32; LEN]) {
        importance_weights(x, importance, 2.0 * sum(x.iter().map(|v| v * v)) / LEN as f32, out);
    }

    /// The encoder after its search: from the scales of the sub-blocks (and, where importance is known, the sums of
    /// their weights), and codes for those whose scale becomes 0, to bytes. Says whether it needed those codes: whether
    /// a scale that was not 0 became 0.
    pub fn finish(
        x: &[f32],
        scale: &[f32; SUBS],
        weight: Option<&[f32; SUBS]>,
        mut codes: [u8; LEN],
        out: &mut [u8],
    ) -> bool {
        let (d, rounded) = match weight {
            None => plain_scales(scale),
            Some(weight) => {
                let mut rounded = [0; SUBS];
                (symmetric(scale, weight, 32, &mut rounded), rounded)
            }
        };
        let d = f16::from_f32(d);
        write_scales(&rounded, &mut out[SCALES]);
        write_f16(out, D, d);
        let mut lost = false;
        let subs = x.chunks_exact(SUB).zip(codes.chunks_exact_mut(SUB));
        for ((x, codes), (rounded, scale)) in subs.zip(rounded.iter().zip(scale)) {
            let d = d.to_f32() * (f32::from(*rounded) - 32.0);
            if d == 0.0 {
                lost |= *scale != 0.0;
                continue;
            }
            for (code, v) in codes.iter_mut().zip(x) {
                *code = (nearest_int(v / d).clamp(-4, 3) + 4) as u8;
            }
        }
        Q3K.pack(&codes, out);
        lost
    }
}

impl BlockCodec for Q3K {
    fn block_len(&self) -> usize {
        LEN
    }

    fn block_bytes(&self) -> usize {
        110
    }

    fn encode_block(&self, x: &[f32], importance: Option<Importance<'_>>, out: &mut [u8]) {
        let (mut scale, mut codes) = ([0.0; SUBS], [0; LEN]);
        let subs = x.chunks_exact(SUB).zip(codes.chunks_exact_mut(SUB)).zip(&mut scale);
        let Some(Importance { columns, .. }) = importance else {
            subs.for_each(|((x, codes), scale)| *scale = symmetric_descent(x, HALF, codes));
            Self::finish(x, &scale, None, codes, out);
            return;
        };
        let (mut weights, mut sums) = ([0.0; LEN], [0.0; SUBS]);
        Self::weights(x, columns, &mut weights);
        for (((x, codes), scale), (w, total)) in subs.zip(weights.chunks_exact(SUB).zip(&mut sums)) {
            *scale = symmetric(x, w, HALF, codes);
            *total = sum(w.iter().copied());
        }
        Self::finish(x, &scale, Some(&sums), codes, out);
    }

    fn pack(&self, codes: &[u8], block: &mut [u8]) {
        pack(1, 2, codes, &mut block[..32]);
        pack_runs(128, 2, 0, codes, &mut block[32..96]);
    }

    fn unpack(&self, block: &[u8], codes: &mut [u8]) {
        unpack(1, 2, &block[..32], codes);
        unpack_runs(128, 2, 0, &block[32..96], codes);
    }

    fn grid(&self, block: &[u8]) -> Grid {
        let d = read_f16(block, D).to_f32();
        let scale = read_scales(&block[SCALES]);
        let levels = Levels::Integers { first: -i16::from(HALF), count: 8 };
        Grid::new(levels, SUB, SUBS, |j| Step::linear(d * (f32::from(scale[j]) - 32.0)))
    }

    fn f16_at(&self) -> &'static [usize] {
        &[D]
    }
}

fn write_scales(scale: &[u8; SUBS], out: &mut [u8]) {
    pack(4, 0, scale, &mut out[..8]);
    pack(2, 4, scale, &mut out[8..]);
}

fn read_scales(bytes: &[u8]) -> [u8; SUBS] {
    let mut scale = [0; SUBS];
    unpack(4, 0, &bytes[..8], &mut scale);
    unpack(2, 4, &bytes[8..], &mut scale);
    scale
}
