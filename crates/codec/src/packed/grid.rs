//! What the codes of a matrix stand for, once its scales are chosen.

use super::levels::Levels;

/// The values that a matrix can hold, its scales being chosen: what a solver rounds onto, column by column, before
/// [`pack`](super::Packed::pack) writes the codes beside those scales.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid {
    pub(crate) levels: Levels,
    /// Rows and columns of a tile.
    pub(crate) tile: (usize, usize),
    /// Tiles beside each other.
    pub(crate) across: usize,
    /// As stored, tile by tile, row-major.
    pub(crate) scale: Vec<f32>,
    /// Zero points; 0 where the levels are symmetric.
    pub(crate) zero: Vec<f32>,
    /// The scale over all scales; 1 where there is none.
    pub(crate) global: f32,
}

impl Grid {
    /// The levels that the codes stand for.
    pub fn levels(&self) -> Levels {
        self.levels
    }

    /// Step and zero point at `row`, `col`, which lie in the matrix: a code is worth `(level − zero) · step`.
    #[inline]
    pub fn step(&self, row: usize, col: usize) -> (f32, f32) {
        let tile = row / self.tile.0 * self.across + col / self.tile.1;
        (self.scale[tile] / self.global, self.zero[tile])
    }

    /// The value of `code` at `row`, `col`.
    #[inline]
    pub fn value(&self, row: usize, col: usize, code: u8) -> f32 {
        let (step, zero) = self.step(row, col);
        (self.levels.level(code) - zero) * step
    }

    /// The code whose value is nearest to `x` at `row`, `col`.
    #[inline]
    pub fn nearest(&self, row: usize, col: usize, x: f32) -> u8 {
        let (step, zero) = self.step(row, col);
        self.levels.nearest(x / step + zero)
    }

    /// Codes of one row of numbers.
    pub(super) fn encode_row(&self, row: usize, x: &[f32], codes: &mut [u8]) {
        let tiles = x.chunks(self.tile.1).zip(codes.chunks_mut(self.tile.1));
        for ((x, codes), (step, zero)) in tiles.zip(self.steps(row)) {
            self.levels.encode(x, step, zero, codes);
        }
    }

    /// Numbers of one row of codes.
    pub(super) fn decode_row(&self, row: usize, codes: &[u8], x: &mut [f32]) {
        let tiles = codes.chunks(self.tile.1).zip(x.chunks_mut(self.tile.1));
        for ((codes, x), (step, zero)) in tiles.zip(self.steps(row)) {
            self.levels.decode(codes, step, zero, x);
        }
    }

    /// Step and zero point of every tile that a row passes through.
    fn steps(&self, row: usize) -> impl Iterator<Item = (f32, f32)> + '_ {
        let tiles = self.scale.iter().zip(&self.zero).skip(row / self.tile.0 * self.across);
        tiles.map(|(scale, zero)| (scale / self.global, *zero))
    }
}
