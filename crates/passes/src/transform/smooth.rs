//! # SmoothQuant: even ranges
//!
//! **What it does.** Divides each channel of what a matrix reads by `max|x|^α / max|w|^(1−α)` and multiplies the column
//! by it: outliers move from the inputs, which have one scale per token, into the weights, which have one per row.
//!
//! **When to use.** Where inputs are quantized as well, in eight bits (W8A8). Of weights alone it may make them worse; use
//! `awq` there.
//!
//! **What it costs.** One run of the model over the text. Memory: a few numbers per column.
//!
//! **What it needs.** The largest magnitude of each input channel on calibration text.
//!
//! **Numbers.** `bench/README.md`.
//!
//! **Paper.** Xiao, Lin, Seznec, Wu, Demouth, Han: SmoothQuant, ICML 2023 (arXiv 2211.10438), equation 4, α = 0.5.
//!
//! **Differences.** Also between value and output projection, and between up and down projection. Channels that were
//! always zero stay.

use super::{Reader, Scaling};
use crate::partners::Fold;
use crate::quantize::solver::SolveError;
use calib::{Depth, Inputs};

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Smooth {
    /// How much of the range goes into the weights, from 0 to 1.
    pub strength: f32,
}

impl Default for Smooth {
    fn default() -> Smooth {
        Smooth { strength: 0.5 }
    }
}

impl Scaling for Smooth {
    fn needs(&self) -> Depth {
        Depth::Columns
    }

    fn scale(&self, fold: &Fold, readers: &[Reader], inputs: &Inputs) -> Result<Vec<f32>, SolveError> {
        let (min, max) = inputs.range();
        let mut x: Vec<f32> = min.iter().zip(max).map(|(a, b)| a.abs().max(b.abs())).collect();
        let mut w = vec![0f32; x.len()];
        for reader in readers {
            let data = reader.weight.read()?;
            data.chunks_exact(w.len().max(1))
                .for_each(|row| w.iter_mut().zip(row).for_each(|(most, v)| *most = most.max(v.abs())));
        }
        fold.share(&mut x, f32::max);
        fold.share(&mut w, f32::max);
        Ok(x.iter().zip(&w).map(|(x, w)| self.one(*x, *w)).collect())
    }
}

impl Smooth {
    /// The scale of a channel with these largest magnitudes.
    fn one(self, x: f32, w: f32) -> f32 {
        let scale = x.powf(self.strength) / w.powf(1.0 - self.strength);
        if x.is_finite() && x > 0.0 && w > 0.0 { scale } else { 1.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_meet_halfway_and_dead_channels_stay() {
        let smooth = Smooth::default();
        let scale = smooth.one(64.0, 0.25);
        assert_eq!((64.0 / scale, 0.25 * scale), (4.0, 4.0));
        assert_eq!([smooth.one(0.0, 1.0), smooth.one(f32::NEG_INFINITY.abs(), 1.0), smooth.one(1.0, 0.0)], [1.0; 3]);
    }
}
