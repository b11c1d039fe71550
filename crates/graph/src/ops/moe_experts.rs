//! Gated feed-forward experts: each token goes through those chosen for it, weighted by their probabilities.
//!
//! Inputs: values `[…, width]`, probabilities and expert numbers `[…, top_k]` from [`super::MoeRoute`]. An expert computes
//! `down · (act(gate · x) ∘ (up · x))`.

use super::{Activation, Cost, OpSpec, ShapeError, Typed, expect, rows, width, wrong};
use crate::{Axes, Dim, Kind, Port, Size, WeightId, WeightStore};

/// The matrices of one expert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expert {
    /// `[hidden, width]`.
    pub gate: WeightId,
    /// `[hidden, width]`.
    pub up: WeightId,
    /// `[width, hidden]`.
    pub down: WeightId,
}

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct MoeExperts {
    /// In the order of their numbers.
    pub experts: Vec<Expert>,
    /// Applied to the gate.
    pub activation: Activation,
}

impl OpSpec for MoeExperts {
    fn outputs(&self, inputs: &[Typed], weights: &WeightStore) -> Result<Vec<Typed>, ShapeError> {
        let width = width(inputs, 0)?;
        match inputs {
            [_, (Kind::Float, p), (Kind::Index, n)] if p == n => {}
            _ => return wrong("expected values, probabilities and expert numbers"),
        }
        for expert in &self.experts {
            let hidden = weights.get(expert.gate).rows();
            expect(weights, expert.gate, &[hidden, width])?;
            expect(weights, expert.up, &[hidden, width])?;
            expect(weights, expert.down, &[width, hidden])?;
        }
        Ok(vec![inputs[0].clone()])
    }

    fn axes(&self, inputs: &[Typed]) -> Axes {
        let last = inputs[0].1.len() - 1;
        (0..self.experts.len()).fold(Axes::rowwise(last + 1), |axes, e| {
            let (gate, up, down) = (Port::Weight(3 * e), Port::Weight(3 * e + 1), Port::Weight(3 * e + 2));
            axes.same((Port::Input(0), last), (gate, 1))
                .same((Port::Input(0), last), (up, 1))
                .same((gate, 0), (up, 0))
                .same((gate, 0), (down, 1))
                .same((Port::Output(0), last), (down, 0))
        })
    }

    fn weights(&self) -> Vec<WeightId> {
        self.experts.iter().flat_map(|e| [e.gate, e.up, e.down]).collect()
    }

    fn factors(&self) -> Vec<WeightId> {
        self.weights()
    }

    fn cost(&self, inputs: &[Typed], weights: &WeightStore, size: Size) -> Cost {
        let (Some(Dim::Fixed(top_k)), Some(expert)) = (inputs[1].1.last(), self.experts.first()) else {
            return Cost::default();
        };
        let each = 3 * weights.get(expert.gate).elements() as u64;
        Cost { macs: rows(size, &inputs[0].1) * *top_k as u64 * each }
    }
}
