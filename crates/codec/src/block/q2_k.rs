//! Q2_K: 256 numbers in 16 sub-blocks of 16 (84 bytes, 2.625 bits per weight).
//!
//! | bytes | content |
//! |---|---|
//! | 0–15 | sub-block `j`: 4-bit scale below, 4-bit minimum above |
//! | 16–79 | codes of 2 bits, in planes of 32 bytes per 128 numbers |
//! | 80–83 | `f16` d, `f16` dmin |
//!
//! `x = d·scale·q − dmin·min`.
//!
//! Source: ggml, `quantize_row_q2_K_ref` (without importance) and `quantize_row_q2_K_impl` (with).

use super::fields::{pack_runs, read_f16, unpack_runs, write_f16};
use super::search::{AffineSearch, Distance};
use super::superblock::{AffineFormat, Found, LEN, PlainWeight, Scales};
use super::{BlockCodec, Grid, Importance};

/// See the module.
pub struct Q2K;

const SUB: usize = 16;
const TOP: u8 = 3;
const D: usize = 80;
const DMIN: usize = 82;

impl Q2K {
    /// What the shared encoder needs to know.
    pub const FORMAT: AffineFormat = AffineFormat {
        sub: SUB,
        top_scale: 15,
        plain_weight: PlainWeight::Magnitude,
        plain: AffineSearch { top: TOP, start: -0.5, step: 0.1, steps: 15, distance: Distance::Absolute },
        weighted: AffineSearch { top: TOP, start: -0.9, step: 0.05, steps: 36, distance: Distance::Square },
        sigma: 1.0,
    };

    /// The encoder after its search. Says whether it needed codes of the search: whether a scale that was not 0 became 0.
    pub fn finish(x: &[f32], weighted: bool, mut found: Found, out: &mut [u8]) -> bool {
        let (scales, lost) = Self::FORMAT.finish(x, weighted, &mut found);
        for ((byte, scale), min) in out.iter_mut().zip(scales.scale).zip(scales.min) {
            *byte = scale | min << 4;
        }
        write_f16(out, D, scales.d);
        write_f16(out, DMIN, scales.dmin);
        Q2K.pack(&found.codes, out);
        lost
    }
}

impl BlockCodec for Q2K {
    fn block_len(&self) -> usize {
        LEN
    }

    fn block_bytes(&self) -> usize {
        84
    }

    fn encode_block(&self, x: &[f32], importance: Option<Importance<'_>>, out: &mut [u8]) {
        let importance = importance.map(|i| i.columns);
        Self::finish(x, importance.is_some(), Self::FORMAT.search(x, importance), out);
    }

    fn pack(&self, codes: &[u8], block: &mut [u8]) {
        pack_runs(128, 2, 0, codes, &mut block[16..80]);
    }

    fn unpack(&self, block: &[u8], codes: &mut [u8]) {
        unpack_runs(128, 2, 0, &block[16..80], codes);
    }

    fn grid(&self, block: &[u8]) -> Grid {
        Scales {
            d: read_f16(block, D),
            dmin: read_f16(block, DMIN),
            scale: std::array::from_fn(|j| block[j] & 15),
            min: std::array::from_fn(|j| block[j] >> 4),
        }
        .grid(SUB, TOP)
    }

    fn f16_at(&self) -> &'static [usize] {
        &[D, DMIN]
    }
}
