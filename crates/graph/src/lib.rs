//! The model as one value: a graph of coarse ops, and the weights it names.
//!
//! Language models are *built* into a [`Graph`] and image networks are translated into one; passes see no
//! difference. Weights are not nodes: the [`WeightStore`] holds them lazily, and ops point into it.
//! No I/O happens here but what a weight's [`Source`] does when it is read.

mod axes;
mod check;
mod decoder;
mod dump;
mod edit;
mod grid;
mod inputs;
mod model;
pub mod ops;
mod patch;
mod role;
mod shape;
mod source;
mod weights;

pub use axes::{Axes, End, Link, Port, Product, Relation};
pub use check::GraphError;
pub use decoder::{DecoderConfig, Experts, Layer, LongRope, QkNorm, RopeConfig};
pub use grid::{Grid, Levels};
pub use inputs::{CacheScales, InputQuant, RunQuant};
pub use model::{Block, Body, Graph, Model, Node, NodeId, Value, ValueId};
pub use ops::{Cost, Kept, KeptAxis, Op, OpSpec, ShapeError};
pub use patch::Patch;
pub use role::{Place, Role};
pub use shape::{Dim, Kind, Shape, Size};
pub use source::{Buffer, EncodeRows, Encoded, PermutedRows, RowSlice, Source, SourceError};
pub use weights::{Weight, WeightId, WeightStore};
