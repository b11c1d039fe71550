//! How each op runs: forward and backward, one file each, named as in `graph::ops`.

mod activation;
mod add;
mod attention;
mod batch_norm;
mod binary;
mod concat;
mod constant;
mod conv;
mod conv_transpose;
mod dynamic_quant;
mod embedding;
mod expand;
mod fake_quant;
mod gated;
mod group_norm;
mod linear;
mod lrn;
mod mat_mul;
mod moe_experts;
mod moe_route;
mod mul;
mod norm;
mod opaque;
mod pad;
mod pool;
mod reduce;
mod reshape;
mod resize;
mod rope;
mod scale;
mod select;
mod softmax;
mod space;
mod split;
mod transpose;

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
        Op::BatchNorm(op) => op,
        Op::Binary(op) => op,
        Op::Concat(op) => op,
        Op::Constant(op) => op,
        Op::Conv(op) => op,
        Op::ConvTranspose(op) => op,
        Op::DynamicQuant(op) => op,
        Op::Embedding(op) => op,
        Op::Expand(op) => op,
        Op::FakeQuant(op) => op,
        Op::GroupNorm(op) => op,
        Op::Linear(op) => op,
        Op::Lrn(op) => op,
        Op::MatMul(op) => op,
        Op::MoeExperts(op) => op,
        Op::MoeRoute(op) => op,
        Op::Mul(op) => op,
        Op::Norm(op) => op,
        Op::Opaque(op) => op,
        Op::Pad(op) => op,
        Op::Pool(op) => op,
        Op::Reduce(op) => op,
        Op::Reshape(op) => op,
        Op::Resize(op) => op,
        Op::Rope(op) => op,
        Op::Scale(op) => op,
        Op::Select(op) => op,
        Op::Softmax(op) => op,
        Op::Split(op) => op,
        Op::Transpose(op) => op,
    }
}
