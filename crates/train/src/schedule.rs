//! The learning rate as a pure function of the step: linear warm-up, then half a cosine down to a floor.

use serde::{Deserialize, Serialize};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Schedule {
    /// The highest rate.
    pub peak: f64,
    /// The last rate, as a share of the highest.
    pub floor: f64,
    /// Steps of warm-up.
    pub warmup: usize,
    /// Steps in all.
    pub steps: usize,
}

impl Schedule {
    /// The rate of a step, counted from 0.
    pub fn rate(&self, step: usize) -> f64 {
        if step < self.warmup {
            return self.peak * (step + 1) as f64 / self.warmup as f64;
        }
        let span = self.steps.saturating_sub(self.warmup).max(1);
        let progress = ((step - self.warmup) as f64 / span as f64).min(1.0);
        let cosine = 0.5 * (1.0 + (std::f64::consts::PI * progress).cos());
        self.peak * (self.floor + (1.0 - self.floor) * cosine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rises_then_falls_to_the_floor() {
        let s = Schedule { peak: 1e-3, floor: 0.1, warmup: 10, steps: 110 };
        assert!((s.rate(0) - 1e-4).abs() < 1e-12);
        assert!((s.rate(9) - 1e-3).abs() < 1e-12);
        assert!((s.rate(60) - 0.55e-3).abs() < 1e-9);
        assert!((s.rate(110) - 1e-4).abs() < 1e-12);
        assert!((10..109).all(|i| s.rate(i + 1) < s.rate(i)));
    }
}
