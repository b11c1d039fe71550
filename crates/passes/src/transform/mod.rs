//! Weights that lose less when they are encoded, in a model that computes the same.
//!
//! [`fold`] merges the batch norms of a network into its convolutions.
//!
//! [`rotate`] needs nothing and is done to the whole model at once. The others, each a [`Scaling`] in a file of its own,
//! choose a scale for each channel of a [`Fold`] by what flows through it on calibration text;
//! [`crate::quantize::sequential`] asks them, block by block, before it encodes.

mod awq;
pub mod fold;
mod hadamard;
pub mod rotate;
pub(crate) mod scaled;
mod smooth;

use crate::partners::Fold;
use crate::quantize::solver::SolveError;
use calib::{Depth, Inputs};
use codec::Encoding;
use graph::Weight;
use plan::{Method, Transform};
use std::sync::Arc;

/// A matrix that reads the channels to be scaled, and what will become of it.
#[derive(Clone)]
pub struct Reader {
    /// The matrix as it is now.
    pub weight: Arc<Weight>,
    /// How it will lie in bytes; never plain.
    pub encoding: Encoding,
    /// How its codes will be chosen.
    pub method: Method,
}

impl Reader {
    /// The same matrix with its columns multiplied.
    pub(crate) fn scaled(&self, by: &[f32]) -> Reader {
        Reader { weight: Arc::new(scaled::weight(&self.weight, 1, by.into(), 0.0)), ..self.clone() }
    }
}

/// A way to choose scales.
pub trait Scaling: Sync {
    /// What it needs to know of what is read.
    fn needs(&self) -> Depth;

    /// A positive scale for each column of the readers, one for all that [share](Fold::index) it.
    fn scale(&self, fold: &Fold, readers: &[Reader], inputs: &Inputs) -> Result<Vec<f32>, SolveError>;
}

/// The scaling behind a transform; `None` for one that is no scaling.
pub fn scaling(transform: Transform) -> Option<Box<dyn Scaling>> {
    match transform {
        Transform::Rotate => None,
        Transform::Awq => Some(Box::new(awq::Awq)),
        Transform::Smooth => Some(Box::new(smooth::Smooth::default())),
    }
}
