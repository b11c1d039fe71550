//! The coarse ops, one file each. A closed enum lists them, so that a `match` is exhaustive.
//!
//! An op says its output shapes, its axis relation, its weights, its cost, and what it becomes when axes lose indices; how it runs, forward and backward, is
//! `exec`'s to say (a file of the same name there). Adding one: `docs/ADDING.md`.

mod activation;
mod add;
mod attention;
mod batch_norm;
mod binary;
mod broadcast;
mod concat;
mod constant;
mod conv;
mod conv_transpose;
mod dynamic_quant;
mod embedding;
mod expand;
mod fake_quant;
mod group_norm;
mod kept;
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
mod span;
mod split;
mod transpose;

pub use activation::Activation;
pub use add::Add;
pub use attention::Attention;
pub use batch_norm::BatchNorm;
pub use binary::Binary;
pub use concat::Concat;
pub use constant::Constant;
pub use conv::Conv;
pub use conv_transpose::ConvTranspose;
pub use dynamic_quant::DynamicQuant;
pub use embedding::Embedding;
pub use expand::Expand;
pub use fake_quant::FakeQuant;
pub use group_norm::GroupNorm;
pub use kept::{Kept, KeptAxis};
pub use linear::Linear;
pub use lrn::Lrn;
pub use mat_mul::MatMul;
pub use moe_experts::{Expert, MoeExperts};
pub use moe_route::MoeRoute;
pub use mul::Mul;
pub use norm::{Norm, NormKind};
pub use opaque::Opaque;
pub use pad::{Pad, PadKind};
pub use pool::{Pool, PoolKind};
pub use reduce::{Reduce, ReduceKind};
pub use reshape::Reshape;
pub use resize::{Coordinates, Interpolation, Resize, Resized, Rounding};
pub use rope::Rope;
pub use scale::Scale;
pub use select::{Pick, Select};
pub use softmax::Softmax;
pub use span::Span;
pub use split::Split;
pub use transpose::Transpose;

use crate::{Axes, Dim, Kind, Shape, Size, WeightId, WeightStore};

/// What running an op once costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Multiply–accumulates.
    pub macs: u64,
}

/// Why shapes do not fit an op.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct ShapeError(pub String);

/// A typed value: what it holds and its shape.
pub type Typed = (Kind, Shape);

/// What every op declares.
pub trait OpSpec {
    /// Kinds and shapes of the outputs, or why the inputs do not fit.
    fn outputs(&self, inputs: &[Typed], weights: &WeightStore) -> Result<Vec<Typed>, ShapeError>;
    /// Which axis is which, for these input shapes.
    fn axes(&self, inputs: &[Typed]) -> Axes;
    /// The weights it reads, in a fixed order.
    fn weights(&self) -> Vec<WeightId> {
        Vec::new()
    }
    /// Those of its weights that it multiplies its inputs by, row by row.
    fn factors(&self) -> Vec<WeightId> {
        Vec::new()
    }
    /// The op after its axes lost indices, where that changes its own fields.
    fn keep(&self, _kept: &Kept) -> Option<Op> {
        None
    }
    /// Its cost at a size.
    fn cost(&self, _inputs: &[Typed], _weights: &WeightStore, _size: Size) -> Cost {
        Cost::default()
    }
}

macro_rules! ops {
    ($($op:ident),* $(,)?) => {
        /// Any op.
        #[derive(Clone, Debug, PartialEq)]
        #[allow(missing_docs)]
        pub enum Op { $($op($op)),* }

        impl Op {
            /// The op's name.
            pub fn name(&self) -> &'static str {
                match self { $(Op::$op(_) => stringify!($op)),* }
            }

            /// What the op declares.
            pub fn spec(&self) -> &dyn OpSpec {
                match self { $(Op::$op(op) => op),* }
            }
        }

        $(impl From<$op> for Op {
            fn from(op: $op) -> Op { Op::$op(op) }
        })*
    };
}

ops!(
    Activation,
    Add,
    Attention,
    BatchNorm,
    Binary,
    Concat,
    Constant,
    Conv,
    ConvTranspose,
    DynamicQuant,
    Embedding,
    Expand,
    FakeQuant,
    GroupNorm,
    Linear,
    Lrn,
    MatMul,
    MoeExperts,
    MoeRoute,
    Mul,
    Norm,
    Opaque,
    Pad,
    Pool,
    Reduce,
    Reshape,
    Resize,
    Rope,
    Scale,
    Select,
    Softmax,
    Split,
    Transpose,
);

fn wrong<T>(message: impl Into<String>) -> Result<T, ShapeError> {
    Err(ShapeError(message.into()))
}

fn show(shape: &[Dim]) -> String {
    let dims: Vec<_> = shape.iter().map(Dim::to_string).collect();
    format!("[{}]", dims.join(", "))
}

/// The fixed last dimension of the only, or n-th, float input.
fn width(inputs: &[Typed], n: usize) -> Result<usize, ShapeError> {
    match inputs.get(n) {
        Some((Kind::Float, shape)) => match shape.last() {
            Some(Dim::Fixed(width)) => Ok(*width),
            _ => wrong(format!("input {n} {} has no fixed last dimension", show(shape))),
        },
        _ => float(inputs, n).and_then(|_| wrong(format!("input {n} has no width"))),
    }
}

/// The shape of the n-th input, which must hold numbers.
fn float(inputs: &[Typed], n: usize) -> Result<&Shape, ShapeError> {
    match inputs.get(n) {
        Some((Kind::Float, shape)) => Ok(shape),
        Some((Kind::Index, _)) => wrong(format!("input {n} holds indices, expected numbers")),
        Some((Kind::Unknown, _)) => wrong(format!("input {n} comes from an op that the graph cannot look into")),
        None => wrong(format!("input {n} is missing")),
    }
}

/// The channels of the n-th input `[batch, channels, space…]`.
fn channels(inputs: &[Typed], n: usize) -> Result<usize, ShapeError> {
    match float(inputs, n)?[..] {
        [_, Dim::Fixed(channels), ..] => Ok(channels),
        ref shape => wrong(format!("input {n} {} has no fixed channels", show(shape))),
    }
}

/// The input's shape with another last dimension.
fn with_width(shape: &Shape, width: usize) -> Shape {
    let mut shape = shape.clone();
    if let Some(last) = shape.last_mut() {
        *last = Dim::Fixed(width);
    }
    shape
}

/// Elements of all dimensions but the last.
fn rows(size: Size, shape: &[Dim]) -> u64 {
    shape.split_last().map_or(1, |(_, outer)| size.elements(outer)) as u64
}

/// Checks a weight's shape.
fn expect(weights: &WeightStore, id: WeightId, shape: &[usize]) -> Result<(), ShapeError> {
    let weight = weights.get(id);
    if weight.shape != shape {
        return wrong(format!("weight `{}` has shape {:?}, expected {shape:?}", weight.name, weight.shape));
    }
    Ok(())
}
