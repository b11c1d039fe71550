//! Q5_K: 256 numbers in 8 sub-blocks of 32 (176 bytes, 5.5 bits per weight).
//!
//! | bytes | content |
//! |---|---|
//! | 0–3 | `f16` d, `f16` dmin |
//! | 4–15 | 8 scales and 8 minima of 6 bits (see `superblock`) |
//! | 16–47 | bit 4 of the codes, in one plane: bit `j` of byte `l` is of number `32j + l` |
//! | 48–175 | low 4 bits of the codes, in planes of 32 bytes per 64 numbers |
//!
//! `x = d·scale·q − dmin·min`.
//!
//! Source: ggml, `quantize_row_q5_K_ref` (without importance) and `quantize_row_q5_K_impl` (with).

use super::fields::{pack, pack_runs, unpack, unpack_runs};
use super::search::{AffineSearch, Distance};
use super::superblock::{AffineFormat, Found, LEN, PlainWeight, Scales};
use super::{BlockCodec, Grid, Importance};

/// See the module.
pub struct Q5K;

const SUB: usize = 32;
const TOP: u8 = 31;

impl Q5K {
    /// What the shared encoder needs to know.
    pub const FORMAT: AffineFormat = AffineFormat {
        sub: SUB,
        top_scale: 63,
        plain_weight: PlainWeight::MagnitudeAndRms,
        plain: AffineSearch { top: TOP, start: -0.5, step: 0.1, steps: 15, distance: Distance::Square },
        weighted: AffineSearch { top: TOP, start: -0.9, step: 0.05, steps: 36, distance: Distance::Square },
        sigma: 2.0,
    };

    /// The encoder after its search. Says whether it needed codes of the search: whether a scale that was not 0 became 0.
    pub fn finish(x: &[f32], weighted: bool, mut found: Found, out: &mut [u8]) -> bool {
        let (scales, lost) = Self::FORMAT.finish(x, weighted, &mut found);
        scales.write_six_bit(out);
        Q5K.pack(&found.codes, out);
        lost
    }
}

impl BlockCodec for Q5K {
    fn block_len(&self) -> usize {
        LEN
    }

    fn block_bytes(&self) -> usize {
        176
    }

    fn encode_block(&self, x: &[f32], importance: Option<Importance<'_>>, out: &mut [u8]) {
        let importance = importance.map(|i| i.columns);
        Self::finish(x, importance.is_some(), Self::FORMAT.search(x, importance), out);
    }

    fn pack(&self, codes: &[u8], block: &mut [u8]) {
        pack(1, 4, codes, &mut block[16..48]);
        pack_runs(64, 4, 0, codes, &mut block[48..]);
    }

    fn unpack(&self, block: &[u8], codes: &mut [u8]) {
        unpack(1, 4, &block[16..48], codes);
        unpack_runs(64, 4, 0, &block[48..], codes);
    }

    fn grid(&self, block: &[u8]) -> Grid {
        Scales::read_six_bit(block).grid(SUB, TOP)
    }

    fn f16_at(&self) -> &'static [usize] {
        &[0, 2]
    }
}
