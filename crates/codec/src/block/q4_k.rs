//! Q4_K: 256 numbers in 8 sub-blocks of 32 (144 bytes, 4.5 bits per weight).
//!
//! | bytes | content |
//! |---|---|
//! | 0–3 | `f16` d, `f16` dmin |
//! | 4–15 | 8 scales and 8 minima of 6 bits (see `superblock`) |
//! | 16–143 | codes of 4 bits, in planes of 32 bytes per 64 numbers |
//!
//! `x = d·scale·q − dmin·min`.
//!
//! Source: ggml, `quantize_row_q4_K_ref` (without importance) and `quantize_row_q4_K_impl` (with).

use super::fields::{pack_runs, unpack_runs};
use super::search::{AffineSearch, Distance};
use super::superblock::{AffineFormat, Found, LEN, PlainWeight, Scales};
use super::{BlockCodec, Grid, Importance};

/// See the module.
pub struct Q4K;

const SUB: usize = 32;
const TOP: u8 = 15;

impl Q4K {
    /// What the shared encoder needs to know.
    pub const FORMAT: AffineFormat = AffineFormat {
        sub: SUB,
        top_scale: 63,
        plain_weight: PlainWeight::MagnitudeAndRms,
        plain: AffineSearch { top: TOP, start: -1.0, step: 0.1, steps: 20, distance: Distance::Square },
        weighted: AffineSearch { top: TOP, start: -0.9, step: 0.05, steps: 36, distance: Distance::Square },
        sigma: 2.0,
    };

    /// The encoder after its search. Says whether it needed codes of the search: whether a scale that was not 0 became 0.
    pub fn finish(x: &[f32], weighted: bool, mut found: Found, out: &mut [u8]) -> bool {
        let (scales, lost) = Self::FORMAT.finish(x, weighted, &mut found);
        scales.write_six_bit(out);
        Q4K.pack(&found.codes, out);
        lost
    }
}

impl BlockCodec for Q4K {
    fn block_len(&self) -> usize {
        LEN
    }

    fn block_bytes(&self) -> usize {
        144
    }

    fn encode_block(&self, x: &[f32], importance: Option<Importance<'_>>, out: &mut [u8]) {
        let importance = importance.map(|i| i.columns);
        Self::finish(x, importance.is_some(), Self::FORMAT.search(x, importance), out);
    }

    fn pack(&self, codes: &[u8], block: &mut [u8]) {
        pack_runs(64, 4, 0, codes, &mut block[16..]);
    }

    fn unpack(&self, block: &[u8], codes: &mut [u8]) {
        unpack_runs(64, 4, 0, &block[16..], codes);
    }

    fn grid(&self, block: &[u8]) -> Grid {
        Scales::read_six_bit(block).grid(SUB, TOP)
    }

    fn f16_at(&self) -> &'static [usize] {
        &[0, 2]
    }
}
