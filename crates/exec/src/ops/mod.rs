//! How each op runs: forward and backward, one file each, named as in `graph::ops`.

mod activation;
mod add;
mod attention;
mod embedding;
mod gated;
mod linear;
mod moe_experts;
mod moe_route;
mod mul;
mod norm;
mod rope;
mod scale;
mod split;

pub(crate) use activation::Function;
pub(crate) use gated::Gated;
pub(crate) use rope::RopeTables;

use crate::backward::Backward;
use crate::forward::Forward;
use crate::schedule::Step;
use crate::{Data, Error, Scalar};
use graph::Op;

/// How an op runs.
pub(crate) trait Rule<R: Scalar> {
    /// The outputs, in order.
    fn forward(&self, cx: &mut Forward<'_, R>) -> Result<Vec<Data<R>>, Error>;

    /// From the gradients of the outputs to those of inputs and weights. Called only where an output has a gradient and
    /// an input or a weight wants one.
    fn backward(&self, cx: &mut Backward<'_, R>) -> Result<(), Error>;

    /// Whether the backward reads this input.
    fn keeps_input(&self, _input: usize) -> bool {
        false
    }

    /// Whether the backward reads the outputs.
    fn keeps_outputs(&self) -> bool {
        false
    }
}

/// The rule of a node.
pub(crate) fn rule<'a, R: Scalar>(op: &'a Op, step: &'a Step) -> &'a dyn Rule<R> {
    if let Step::Gated { gated, .. } = step {
        return gated;
    }
    match op {
        Op::Activation(op) => op,
        Op::Add(op) => op,
        Op::Attention(op) => op,
        Op::Embedding(op) => op,
        Op::Linear(op) => op,
        Op::MoeExperts(op) => op,
        Op::MoeRoute(op) => op,
        Op::Mul(op) => op,
        Op::Norm(op) => op,
        Op::Rope(op) => op,
        Op::Scale(op) => op,
        Op::Split(op) => op,
    }
}
