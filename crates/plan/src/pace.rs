//! When channels go: at once, in rounds, or after a penalty has made them small. Every schedule is a pure function of the round or
//! of the step, so that a resumed run prunes what the killed one would have.
//!
//! ```toml
//! prune = { macs = 0.4, gradual = { rounds = 4, curve = "cubic", recover = { epochs = 1 } } }
//! prune = { macs = 0.4, penalty = { most = 1.0, recover = { epochs = 2 } } }
//! ```
//!
//! Gradual: after round `r` of `n` the share `1 − (1 − left)·c(r/n)` is left, with `c(t) = 1 − (1 − t)³` (Zhu and Gupta 2017, AGP) or
//! `c(t) = t`. Penalty: `λ·w²/2` over what will go, `λ` growing by the same with every step up to `most` (Wang et al. 2021, GReg-1).

use crate::training::TrainingSpec;
use serde::{Deserialize, Serialize};

/// See the module.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Pace {
    /// All at once.
    #[default]
    Once,
    /// In rounds, each followed by recovery.
    Gradual(Gradual),
    /// When training under a growing penalty has made them small.
    Penalty(Penalty),
}

/// Rounds of pruning and recovery.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Gradual {
    /// How many.
    pub rounds: usize,
    /// How much goes in each.
    #[serde(default)]
    pub curve: Curve,
    /// What follows each of them.
    #[serde(default)]
    pub recover: TrainingSpec,
}

/// How what is to go is spread over rounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Curve {
    /// Much at first, little at last.
    #[default]
    Cubic,
    /// The same each time.
    Linear,
}

/// Training before pruning, under a penalty on what will go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Penalty {
    /// The penalty of the last step.
    pub most: f64,
    /// The training.
    #[serde(default)]
    pub recover: TrainingSpec,
}

impl Gradual {
    /// The share that is left after a round, counted from 1, where `last` is left at the end.
    pub fn left(&self, last: f64, round: usize) -> f64 {
        let t = (round as f64 / self.rounds.max(1) as f64).min(1.0);
        let done = match self.curve {
            Curve::Cubic => 1.0 - (1.0 - t).powi(3),
            Curve::Linear => t,
        };
        1.0 - (1.0 - last) * done
    }
}

impl Pace {
    /// What makes no sense, if anything.
    pub(crate) fn problem(&self) -> Option<String> {
        match self {
            Pace::Once => None,
            Pace::Gradual(gradual) if gradual.rounds == 0 => Some("`gradual.rounds` must be at least 1".into()),
            Pace::Penalty(penalty) if !(penalty.most > 0.0 && penalty.most.is_finite()) => {
                Some("`penalty.most` must be above 0".into())
            }
            Pace::Gradual(Gradual { recover, .. }) | Pace::Penalty(Penalty { recover, .. }) => recover.problem(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_end_where_they_should() {
        let of = |curve| Gradual { rounds: 4, curve, recover: TrainingSpec::default() };
        let cubic: Vec<f64> = (0..=5).map(|round| of(Curve::Cubic).left(0.2, round)).collect();
        assert!((cubic[4] - 0.2).abs() < 1e-12 && cubic[5] == cubic[4] && cubic[0] == 1.0, "{cubic:?}");
        assert!((cubic[2] - 0.3).abs() < 1e-12, "seven eighths of it have gone half way: {cubic:?}");
        let taken = |left: &[f64]| left.windows(2).map(|w| w[0] - w[1]).collect::<Vec<_>>();
        assert!(taken(&cubic[..5]).windows(2).all(|w| w[0] > w[1]), "{cubic:?}");
        let linear: Vec<f64> = (0..=4).map(|round| of(Curve::Linear).left(0.2, round)).collect();
        assert!(taken(&linear).iter().all(|x| (x - 0.2).abs() < 1e-12), "{linear:?}");
    }
}
