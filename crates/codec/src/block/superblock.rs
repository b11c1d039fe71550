//! Superblocks of 256 numbers: sub-blocks with small integer scales under one or two `f16` scales (ggml's "K" formats).
//!
//! An encoder runs in two halves. The *search* finds a real scale (and minimum) for each sub-block and takes nearly
//! all the time; a fast kernel does it for many sub-blocks at once. The *finish* rounds those scales to the
//! superblock's integers, then the numbers to codes, and is the same for every kernel.
//!
//! This file holds what Q2_K, Q4_K and Q5_K share, whose numbers are `d·sc·code − dmin·m`.
//!
//! Source: ggml, `quantize_row_q{2,4,5}_K_ref` (without importance) and `quantize_row_q{2,4,5}_K_impl` (with).

use super::fields::{read_f16, write_f16};
use super::search::{self, Affine, AffineSearch, importance_weights, nearest_int, sum};
use super::{Grid, Levels, Step};
use half::f16;

/// Numbers in a superblock.
pub const LEN: usize = 256;

/// Most sub-blocks in a superblock.
pub const SUBS: usize = 16;

/// How numbers are weighted where no importance is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlainWeight {
    /// `|x|`.
    Magnitude,
    /// `|x|` + root mean square of the sub-block.
    MagnitudeAndRms,
}

/// What tells the affine superblock formats apart.
#[derive(Clone, Copy, Debug)]
pub struct AffineFormat {
    /// Numbers in a sub-block.
    pub sub: usize,
    /// Largest integer scale or minimum of a sub-block.
    pub top_scale: u8,
    /// Weights without importance.
    pub plain_weight: PlainWeight,
    /// Search without importance.
    pub plain: AffineSearch,
    /// Search with importance.
    pub weighted: AffineSearch,
    /// With importance `w`, numbers weigh `w·√(sigma·mean(x²) + x²)`.
    pub sigma: f32,
}

/// What a search found: for each sub-block its scale and minimum, the sum of its weights, and its codes.
///
/// Codes are used only where a sub-block's scale becomes 0. A search that gives no codes leaves 0, which is right where
/// it found scale 0 because a sub-block is constant; elsewhere the encoder's second half says that they were needed.
#[derive(Clone, Debug)]
pub struct Found {
    /// Scale and minimum of each sub-block.
    pub affine: [Affine; SUBS],
    /// Sum of weights of each sub-block; read only where importance is known.
    pub weight: [f32; SUBS],
    /// Codes of the superblock.
    pub codes: [u8; LEN],
}

/// The rounded scales of a superblock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scales {
    pub d: f16,
    pub dmin: f16,
    pub scale: [u8; SUBS],
    pub min: [u8; SUBS],
}

impl Scales {
    /// The grid of a format with codes `0..=top` and sub-blocks of `sub` numbers.
    pub fn grid(&self, sub: usize, top: u8) -> Grid {
        let (d, dmin) = (self.d.to_f32(), self.dmin.to_f32());
        Grid::new(Levels::Integers { first: 0, count: u16::from(top) + 1 }, sub, LEN / sub, |j| Step {
            scale: d * f32::from(self.scale[j]),
            offset: -(dmin * f32::from(self.min[j])),
        })
    }

    /// Writes the 16 bytes that open Q4_K and Q5_K blocks: `d`, `dmin`, then eight scales and minima of 6 bits.
    ///
    /// Of those 12 bytes, 0–3 hold scales 0–3 under the high 2 bits of scales 4–7; 4–7 the same of minima; 8–11 the low
    /// 4 bits of scales 4–7 under those of minima 4–7.
    pub fn write_six_bit(&self, block: &mut [u8]) {
        write_f16(block, 0, self.d);
        write_f16(block, 2, self.dmin);
        let (out, scale, min) = (&mut block[4..16], &self.scale, &self.min);
        for j in 0..4 {
            out[j] = scale[j] | (scale[j + 4] >> 4) << 6;
            out[j + 4] = min[j] | (min[j + 4] >> 4) << 6;
            out[j + 8] = (scale[j + 4] & 15) | (min[j + 4] & 15) << 4;
        }
    }

    /// Reads what [`write_six_bit`](Self::write_six_bit) wrote.
    pub fn read_six_bit(block: &[u8]) -> Self {
        let (mut scale, mut min) = ([0; SUBS], [0; SUBS]);
        let bytes = &block[4..16];
        for j in 0..4 {
            scale[j] = bytes[j] & 63;
            min[j] = bytes[j + 4] & 63;
            scale[j + 4] = (bytes[j + 8] & 15) | (bytes[j] >> 6) << 4;
            min[j + 4] = (bytes[j + 8] >> 4) | (bytes[j + 4] >> 6) << 4;
        }
        Scales { d: read_f16(block, 0), dmin: read_f16(block, 2), scale, min }
    }
}

impl AffineFormat {
    /// Sub-blocks in a superblock.
    pub const fn subs(&self) -> usize {
        LEN / self.sub
    }

    /// Weights of the 256 numbers of `x`. `importance`: one per number.
    pub fn weights(&self, x: &[f32], importance: Option<&[f32]>, out: &mut [f32; LEN]) {
        match importance {
            Some(importance) => {
                let sigma2 = self.sigma * sum(x.iter().map(|v| v * v)) / LEN as f32;
                importance_weights(x, importance, sigma2, out);
            }
            None => {
                for (x, out) in x.chunks_exact(self.sub).zip(out.chunks_exact_mut(self.sub)) {
                    let base = match self.plain_weight {
                        PlainWeight::Magnitude => 0.0,
                        PlainWeight::MagnitudeAndRms => (sum(x.iter().map(|v| v * v)) / self.sub as f32).sqrt(),
                    };
                    for (w, v) in out.iter_mut().zip(x) {
                        *w = base + v.abs();
                    }
                }
            }
        }
    }

    /// The costly half: scales of the sub-blocks of one superblock.
    pub fn search(&self, x: &[f32], importance: Option<&[f32]>) -> Found {
        let params = if importance.is_some() { &self.weighted } else { &self.plain };
        let mut weights = [0.0; LEN];
        self.weights(x, importance, &mut weights);
        let mut found = Found { affine: [Affine::default(); SUBS], weight: [0.0; SUBS], codes: [0; LEN] };
        let subs = x.chunks_exact(self.sub).zip(weights.chunks_exact(self.sub));
        for (j, ((x, w), codes)) in subs.zip(found.codes.chunks_exact_mut(self.sub)).enumerate() {
            found.affine[j] = search::affine(x, w, params, codes);
            found.weight[j] = sum(w.iter().copied());
        }
        found
    }

    /// The other half: rounds the scales, then the numbers onto them; leaves the codes in `found`. Also says whether
    /// codes of the search were needed: whether a scale that was not 0 became 0.
    pub(super) fn finish(&self, x: &[f32], weighted: bool, found: &mut Found) -> (Scales, bool) {
        let n = self.subs();
        let scale = found.affine.map(|a| a.scale);
        let min = found.affine.map(|a| a.min);
        let round = |values: &[f32; SUBS]| {
            if weighted {
                let mut codes = [0; SUBS];
                let d = search::positive(&values[..n], &found.weight[..n], self.top_scale, &mut codes[..n]);
                (d, codes)
            } else {
                round_to_largest(&values[..n], self.top_scale)
            }
        };
        let ((d, scale), (dmin, min)) = (round(&scale), round(&min));
        let scales = Scales { d: f16::from_f32(d), dmin: f16::from_f32(dmin), scale, min };
        let lost = self.requantize(x, &scales, found);
        (scales, lost)
    }

    fn requantize(&self, x: &[f32], scales: &Scales, found: &mut Found) -> bool {
        let (d, dmin) = (scales.d.to_f32(), scales.dmin.to_f32());
        let mut lost = false;
        for (j, (x, codes)) in x.chunks_exact(self.sub).zip(found.codes.chunks_exact_mut(self.sub)).enumerate() {
            let d = d * f32::from(scales.scale[j]);
            let min = dmin * f32::from(scales.min[j]);
            if d == 0.0 {
                lost |= found.affine[j].scale != 0.0;
                continue;
            }
            for (code, v) in codes.iter_mut().zip(x) {
                *code = nearest_int((v + min) / d).clamp(0, i32::from(self.plain.top)) as u8;
            }
        }
        lost
    }
}

/// Integers `0..=top` in proportion to `values`, and the worth of one.
fn round_to_largest(values: &[f32], top: u8) -> (f32, [u8; SUBS]) {
    let largest = values.iter().fold(0.0, |m, v| if *v > m { *v } else { m });
    let mut codes = [0; SUBS];
    let inverse = if largest > 0.0 { f32::from(top) / largest } else { 0.0 };
    for (code, v) in codes.iter_mut().zip(values) {
        *code = (nearest_int(inverse * v) as u8).min(top);
    }
    (largest / f32::from(top), codes)
}
