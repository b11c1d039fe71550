//! An op that the graph carries along and cannot look into: unknown ones, foreign domains, If and Loop with their bodies.
//!
//! It is compressed around, never inside: everything it touches is frozen.

use super::{OpSpec, ShapeError, Typed};
use crate::{Axes, Port, WeightId, WeightStore};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opaque {
    /// What it is called where it comes from, with its domain: `Loop`, `com.microsoft.QLinearAdd`.
    pub name: String,
    /// Why nothing more is known of it.
    pub reason: String,
    /// What it makes, as far as the file says.
    pub outputs: Vec<Typed>,
    /// The weights it reads.
    pub weights: Vec<WeightId>,
    /// How many axes each of them has.
    pub ranks: Vec<usize>,
}

impl OpSpec for Opaque {
    fn outputs(&self, _inputs: &[Typed], _weights: &WeightStore) -> Result<Vec<Typed>, ShapeError> {
        Ok(self.outputs.clone())
    }

    fn axes(&self, inputs: &[Typed]) -> Axes {
        let ports = inputs.iter().enumerate().map(|(n, (_, shape))| (Port::Input(n), shape.len()));
        let made = self.outputs.iter().enumerate().map(|(n, (_, shape))| (Port::Output(n), shape.len()));
        let weights = self.ranks.iter().enumerate().map(|(n, rank)| (Port::Weight(n), *rank));
        ports.chain(made).chain(weights).fold(Axes::default(), |axes, (port, rank)| axes.freeze_from(port, 0, rank))
    }

    fn weights(&self) -> Vec<WeightId> {
        self.weights.clone()
    }
}
