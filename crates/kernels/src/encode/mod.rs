//! Fast encoders of block formats: the bytes of the reference in `codec`, sooner.
//!
//! The search for a sub-block's scales is a long chain of dependent sums, so vectors do not help within a sub-block
//! without changing the order of its arithmetic. They do help across: each lane holds another sub-block, and does for
//! it what the reference does, in the same order. What follows the search is the reference itself.
//!
//! Where a lane meets numbers on which the vector arithmetic could differ (scales that overflow, ranges that vanish),
//! its superblock is encoded by the reference.

mod affine;
mod q8_0;
mod symmetric;
mod widen;

pub use widen::widen;

use crate::simd::LANES;
use codec::block::q2_k::Q2K;
use codec::block::q4_k::Q4K;
use codec::block::q5_k::Q5K;
use codec::block::superblock::LEN;
use codec::block::{BlockCodec, Importance};
use codec::{BlockFormat, CodecError};
use std::ops::{Deref, DerefMut};

/// Encodes rows of `cols` numbers, with the bytes and the errors of [`BlockFormat::encode_row`], on the calling thread.
///
/// `x` holds whole rows, `importance` one weight per column, `out` [`BlockFormat::row_bytes`] per row.
///
/// # Errors
/// Numbers that are not finite or too large for the format's scales, importance that is negative or not finite,
/// lengths that do not fit.
pub fn encode_rows(
    format: BlockFormat,
    cols: usize,
    x: &[f32],
    importance: Option<&[f32]>,
    out: &mut [u8],
) -> Result<(), CodecError> {
    format.check_rows(cols, x, importance, out)?;
    let rows = Rows { cols, x, importance };
    match format {
        BlockFormat::Q8_0 => q8_0::encode(x, out),
        BlockFormat::Q2_K => affine::encode(rows, &Q2K::FORMAT, &Q2K, Q2K::finish, out),
        BlockFormat::Q4_K => affine::encode(rows, &Q4K::FORMAT, &Q4K, Q4K::finish, out),
        BlockFormat::Q5_K => affine::encode(rows, &Q5K::FORMAT, &Q5K, Q5K::finish, out),
        BlockFormat::Q3_K => symmetric::encode_q3_k(rows, out),
        BlockFormat::Q6_K => symmetric::encode_q6_k(rows, out),
        _ => rows.encode_by_reference(format, out)?,
    }
    format.validate(out)
}

/// Rows to encode, as superblocks: those of a row follow each other, and rows too.
#[derive(Clone, Copy)]
struct Rows<'a> {
    cols: usize,
    x: &'a [f32],
    importance: Option<&'a [f32]>,
}

impl<'a> Rows<'a> {
    fn superblocks(&self) -> usize {
        self.x.len() / LEN
    }

    /// Numbers of superblock `i`, and their importance.
    fn superblock(&self, i: usize) -> (&'a [f32], Option<&'a [f32]>) {
        let column = i * LEN % self.cols;
        (&self.x[i * LEN..][..LEN], self.importance.map(|w| &w[column..][..LEN]))
    }

    /// Encodes superblock `i` of a format that looks at no more than the superblock.
    fn encode_superblock(&self, i: usize, codec: &dyn BlockCodec, out: &mut [u8]) {
        let (x, importance) = self.superblock(i);
        codec.encode_block(x, importance.map(|columns| Importance { columns, row_mean_square: 0.0 }), out);
    }

    fn encode_by_reference(&self, format: BlockFormat, out: &mut [u8]) -> Result<(), CodecError> {
        let row_bytes = format.row_bytes(self.cols)?;
        for (x, out) in self.x.chunks_exact(self.cols).zip(out.chunks_exact_mut(row_bytes)) {
            format.codec().encode_row(x, self.importance, out);
        }
        Ok(())
    }
}

/// One number of each of [`LANES`] sub-blocks, in one cache line.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Lane([f32; LANES]);

impl Lane {
    const ZERO: Lane = Lane([0.0; LANES]);
}

impl Deref for Lane {
    type Target = [f32; LANES];

    #[inline(always)]
    fn deref(&self) -> &[f32; LANES] {
        &self.0
    }
}

impl DerefMut for Lane {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [f32; LANES] {
        &mut self.0
    }
}

/// Longest sub-block.
const SUB: usize = 32;

/// Sub-blocks side by side: `tile[i][k]` is number `i` of sub-block `k`.
type Tile = [Lane; SUB];

/// Lays consecutive sub-blocks of `sub` numbers, starting at lane `first`, into `tile`.
fn transpose(x: &[f32], sub: usize, first: usize, tile: &mut Tile) {
    for (k, x) in x.chunks_exact(sub).enumerate() {
        for (row, v) in tile.iter_mut().zip(x) {
            row[first + k] = *v;
        }
    }
}

/// Rounds half to even, for magnitudes up to 2²²: what ggml's `nearest_int` gives there.
#[inline(always)]
fn round(v: f32) -> f32 {
    const MAGIC: f32 = 12_582_912.0;
    (v + MAGIC) - MAGIC
}

/// Clamps a number, compiled to two instructions because NaN does not matter here.
#[inline(always)]
fn clamp(v: f32, low: f32, high: f32) -> f32 {
    let v = if v > low { v } else { low };
    if v < high { v } else { high }
}

/// `a` where `condition` holds, else `b`: by masking, as the compiler would otherwise branch on each lane.
#[inline(always)]
fn select(condition: bool, a: f32, b: f32) -> f32 {
    let mask = u32::from(condition).wrapping_neg();
    f32::from_bits(a.to_bits() & mask | b.to_bits() & !mask)
}
