//! What onnxruntime makes of each op that stands between DequantizeLinear and QuantizeLinear, on its CPU provider.
//!
//! Read off the optimized models that onnxruntime 1.31 saves at its highest level, op by op (`bench/int8/rules.py`
//! does it again). A node with all of its inputs and its output on grids is replaced by one that computes on codes; else it
//! stays in float with a conversion before and behind it, which is slower than no quantization at all.

use graph::ops::{Activation, Binary, Interpolation, PoolKind, ReduceKind};
use graph::{Graph, Kind, Node, Op};

/// How a node runs on codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// By a kernel of this name; its output has a grid of its own.
    Codes(&'static str),
    /// As it is: it only moves codes, so that all its grids must be one.
    Moves,
    /// Not at all: the QuantizeLinear behind it clamps, if its range ends where the function does.
    Clamps,
    /// It does not.
    None {
        /// Why.
        why: &'static str,
        /// What could be done about it.
        fix: &'static str,
    },
}

/// How a node of a graph runs on codes, were its grids right.
pub fn kernel(graph: &Graph, node: &Node) -> Kernel {
    let rank = |n: usize| node.inputs.get(n).map_or(0, |v| graph.values()[v.0].shape.len());
    let float = node.inputs.iter().chain(&node.outputs).all(|v| graph.values()[v.0].kind == Kind::Float);
    if !float {
        return none("it does not read and make numbers alone", "leave it in float");
    }
    match &node.op {
        Op::Conv(_) => Kernel::Codes("QLinearConv"),
        Op::Linear(_) if rank(0) == 2 => Kernel::Codes("QGemm"),
        Op::Linear(op) if op.bias.is_none() => Kernel::Codes("QLinearMatMul"),
        Op::MatMul(_) => Kernel::Codes("QLinearMatMul"),
        Op::Add(_) => Kernel::Codes("QLinearAdd"),
        Op::Mul(_) => Kernel::Codes("QLinearMul"),
        Op::Concat(_) => Kernel::Codes("QLinearConcat"),
        Op::Softmax(op) if !op.log => Kernel::Codes("QLinearSoftmax"),
        Op::Activation(Activation::Sigmoid) => Kernel::Codes("QLinearSigmoid"),
        Op::Activation(Activation::LeakyRelu(_)) => Kernel::Codes("QLinearLeakyRelu"),
        Op::Activation(Activation::Relu) => Kernel::Clamps,
        Op::Activation(Activation::Clip(low, high)) if *low <= 0.0 && *high >= 0.0 => Kernel::Clamps,
        Op::Pool(op) if op.kind == PoolKind::Max => Kernel::Moves,
        Op::Pool(_) => Kernel::Codes("QLinearAveragePool"),
        Op::Reduce(op) => match op.kind {
            ReduceKind::Mean if op.keep && rank(0) > 2 && op.axes.iter().copied().eq(2..rank(0)) => {
                Kernel::Codes("QLinearGlobalAveragePool")
            }
            // The whole plane is written as GlobalMaxPool, which has none.
            ReduceKind::Max if !(op.keep && rank(0) > 2 && op.axes.iter().copied().eq(2..rank(0))) => Kernel::Moves,
            ReduceKind::Min => Kernel::Moves,
            ReduceKind::Mean => {
                none("ReduceMean has no integer kernel", "GlobalAveragePool and Reshape, where it is over the plane")
            }
            _ => none("the reduction has no integer kernel", "leave it in float"),
        },
        Op::Reshape(_) | Op::Transpose(_) | Op::Select(_) | Op::Expand(_) | Op::Split(_) => Kernel::Moves,
        Op::Resize(op) if matches!(op.interpolation, Interpolation::Nearest(_)) => Kernel::Moves,
        Op::Resize(_) => none("only nearest-neighbour Resize has an integer kernel", "mode=nearest"),
        Op::Linear(_) => none("a product over more than two axes adds its bias in float", "leave its bias out"),
        Op::ConvTranspose(_) => none("ConvTranspose has no integer kernel", "Resize (nearest) and Conv"),
        Op::BatchNorm(_) => none("BatchNormalization has no integer kernel", "fold it, or a depthwise Conv of size 1"),
        Op::Activation(Activation::HardSwish | Activation::HardSigmoid(..)) => {
            none("the function has no integer kernel", "train with Relu or Sigmoid instead")
        }
        Op::Binary(Binary::Sub | Binary::Div) => none("Sub and Div have no integer kernel", "Add or Mul of a constant"),
        Op::Pad(_) => none("Pad has no integer kernel", "padding of the Conv behind it, or a Conv of size 1"),
        _ => none("the operator has no integer kernel", "leave it in float"),
    }
}

const fn none(why: &'static str, fix: &'static str) -> Kernel {
    Kernel::None { why, fix }
}

/// Whether a node multiplies by a weight: what quantization is for.
pub fn is_product(op: &Op) -> bool {
    matches!(op, Op::Conv(_) | Op::Linear(_))
}
