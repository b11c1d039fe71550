//! Energy of one sample: estimated from what is computed and moved, where the machine does not measure it.
//!
//! | what | pJ |
//! |---|---|
//! | multiply–accumulate, 32-bit floats | 4.6 |
//! | multiply–accumulate, 8-bit integers into 32 | 0.3 |
//! | a byte of weights from main memory | 160 |
//! | a byte of activations to or from a cache | 2.5 |
//!
//! Source: Horowitz, *Computing's energy problem (and what we can do about it)*, ISSCC 2014: 45 nm, 0.9 V. Absolute numbers are those of
//! that process; what can be compared is before and after.

use crate::Counters;
use crate::counters::bits;
use graph::{Model, Size};
use serde::{Deserialize, Serialize};

const FLOAT: f64 = 4.6e-12;
const INTEGER: f64 = 0.3e-12;
const WEIGHT_BYTE: f64 = 160e-12;
const ACTIVATION_BYTE: f64 = 2.5e-12;

/// How an energy is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EnergyBy {
    /// By the processor's own counters (RAPL) while samples ran: all that the package took, whoever used it.
    Counters,
    /// By what is computed and moved; see the module.
    Estimate,
}

/// Energy of one sample, in joules.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Energy {
    /// Of the source.
    pub before: f64,
    /// Of the artifact.
    pub after: f64,
    /// How it is known.
    pub by: EnergyBy,
}

/// The estimate for a network, in joules; every weight is read once, every value written and read once.
pub fn estimated_energy(model: &Model, counters: &Counters) -> f64 {
    let one = Size { batch: 1, tokens: 1 };
    let products =
        counters.macs.iter().map(|(kind, n)| *n as f64 * if kind.ends_with("f32") { FLOAT } else { INTEGER });
    let moved = model.graph().map_or(0, |graph| {
        let bytes = |id: usize| (one.elements(&graph.values()[id].shape) * bits(graph, graph::ValueId(id))).div_ceil(8);
        (0..graph.values().len()).map(bytes).sum::<usize>()
    });
    products.sum::<f64>() + counters.bytes as f64 * WEIGHT_BYTE + 2.0 * moved as f64 * ACTIVATION_BYTE
}
