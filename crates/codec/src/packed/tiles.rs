//! The scales of one row whose tiles lie within it: searched for the least error, tile by tile.

use super::{Levels, Packed, Range};

/// See the module.
pub(crate) struct RowTiles<'a> {
    pub packed: Packed,
    pub levels: Levels,
    /// The scale over all scales; 1 where there is none.
    pub global: f32,
    /// Columns of a tile.
    pub width: usize,
    /// As stored, one per tile.
    pub scale: &'a mut [f32],
    /// Zero points, one per tile.
    pub zero: &'a mut [f32],
}

/// Shares of the range that are tried: clipping the few largest numbers may serve all others.
const TRIALS: usize = 30;
const TRIAL: f32 = 0.02;

impl RowTiles<'_> {
    /// Chooses scale and zero point of the `n`-th tile: of all shares of its range, the one under which the squared
    /// error, weighted by `importance`, is least.
    pub fn fit(&mut self, n: usize, x: &[f32], importance: Option<&[f32]>) {
        let range = Range::of(x);
        let rule = self.packed.rule();
        let mut codes = vec![0; x.len()];
        let mut values = vec![0.0; x.len()];
        let mut best = f32::INFINITY;
        let mut tried = (f32::NAN, f32::NAN);
        for trial in 0..TRIALS {
            let (scale, zero) = rule.fit(range.times(1.0 - TRIAL * trial as f32), self.levels, self.global);
            if (scale, zero) == tried || !scale.is_finite() {
                continue;
            }
            tried = (scale, zero);
            let step = scale / self.global;
            self.levels.encode(x, step, zero, &mut codes);
            self.levels.decode(&codes, step, zero, &mut values);
            let error = error(x, &values, importance);
            if error < best {
                (best, self.scale[n], self.zero[n]) = (error, scale, zero);
            }
        }
    }

    /// Multiplies the scale of the `n`-th tile by about `factor`; says whether it changed.
    pub fn stretch(&mut self, n: usize, factor: f32) -> bool {
        let stored = self.packed.rule().stored(self.scale[n] * factor).filter(|scale| *scale != self.scale[n]);
        stored.inspect(|scale| self.scale[n] = *scale).is_some()
    }

    fn step(&self, col: usize) -> (f32, f32) {
        let n = col / self.width;
        (self.scale[n] / self.global, self.zero[n])
    }

    /// The code of the value nearest to `x` in column `col`, and that value.
    pub fn nearest(&self, col: usize, x: f32) -> (u8, f32) {
        let (step, zero) = self.step(col);
        let code = self.levels.nearest(x / step + zero);
        (code, (self.levels.level(code) - zero) * step)
    }

    /// The value of a code in column `col`.
    pub fn value(&self, col: usize, code: u8) -> f32 {
        let (step, zero) = self.step(col);
        (self.levels.level(code) - zero) * step
    }
}

fn error(x: &[f32], values: &[f32], importance: Option<&[f32]>) -> f32 {
    let squares = x.iter().zip(values).map(|(x, v)| (x - v) * (x - v));
    match importance {
        Some(importance) => squares.zip(importance).map(|(e, w)| e * w).sum(),
        None => squares.sum(),
    }
}
