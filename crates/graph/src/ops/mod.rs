//! The coarse ops, one file each. A closed enum lists them, so that a `match` is exhaustive.
//!
//! An op says its output shapes, its axis relation, its weights and its cost; how it runs, forward and backward, is
//! `exec`'s to say (a file of the same name there). Adding one: `docs/ADDING.md`.

mod activation;
mod add;
mod attention;
mod embedding;
mod linear;
mod moe_experts;
mod moe_route;
mod mul;
mod norm;
mod rope;
mod scale;
mod split;

pub use activation::Activation;
pub use add::Add;
pub use attention::Attention;
pub use embedding::Embedding;
pub use linear::Linear;
pub use moe_experts::{Expert, MoeExperts};
pub use moe_route::MoeRoute;
pub use mul::Mul;
pub use norm::{Norm, NormKind};
pub use rope::Rope;
pub use scale::Scale;
pub use split::Split;

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

ops!(Activation, Add, Attention, Embedding, Linear, MoeExperts, MoeRoute, Mul, Norm, Rope, Scale, Split);

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
        Some((Kind::Index, _)) => wrong(format!("input {n} holds indices, expected numbers")),
        None => wrong(format!("input {n} is missing")),
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
