//! How often a network is right, and what that holds under.

use crate::{Estimate, Machine};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A share of samples, with the interval that holds the true share in 95 of 100 cases (Wilson 1927).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// Samples that count.
    pub hits: usize,
    /// Samples in all.
    pub of: usize,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

impl Share {
    /// So many of so many.
    pub fn new(hits: usize, of: usize) -> Share {
        const Z: f64 = 1.959_963_984_540_054;
        let (n, p) = (of.max(1) as f64, hits as f64 / of.max(1) as f64);
        let (center, width) = (p + Z * Z / (2.0 * n), Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt());
        let scale = 1.0 + Z * Z / n;
        Share { hits, of, low: ((center - width) / scale).max(0.0), high: ((center + width) / scale).min(1.0) }
    }

    /// The share itself.
    pub fn value(&self) -> f64 {
        self.hits as f64 / self.of.max(1) as f64
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [value, low, high] = [self.value(), self.low, self.high].map(|x| 100.0 * x);
        write!(f, "{value:.2} % ({low:.1} to {high:.1}; {} of {})", self.hits, self.of)
    }
}

/// What accuracy was measured on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SampleConditions {
    /// What the set is called.
    pub data: String,
    /// Samples that were run.
    pub samples: usize,
    /// Classes that the network tells apart.
    pub classes: usize,
    /// Threads.
    pub threads: usize,
    /// Where.
    pub machine: Machine,
}

/// How often a network is right.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// The class is the network's first; none where the set has no labels.
    pub top1: Option<Share>,
    /// The class is among its first five; none where there are no labels, or no more than five classes.
    pub top5: Option<Share>,
    /// Beside a reference, if there was one.
    pub against: Option<Against>,
    /// What it holds under.
    pub conditions: SampleConditions,
}

/// A network beside its reference, sample by sample.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Against {
    /// Both give the same class.
    pub agreement: Share,
    /// How often the reference is right.
    pub top1: Option<Share>,
    /// Share of samples that the reference has right, less that of the network; the error is that of paired samples.
    pub lost: Option<Estimate>,
}
