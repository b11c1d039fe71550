//! What every method of choosing codes has in common: a matrix goes in with what is known of its inputs, parts come out.
//!
//! A method is a file beside this one with a [`Solver`], and a line in [`solver`]. It knows no encoding: it works on a
//! [`codec::Draft`].

use super::{descent::Descent, gptq::Gptq, search::Search, ternary::Ternary};
use super::{hqq, ptqtp, round};
use calib::{Depth, Inputs};
use codec::packed::Range;
use codec::{CodecError, Encoding, Matrix, Part};
use graph::EncodeRows;
use plan::{Learns, Method};

/// One matrix to encode.
#[derive(Clone, Copy)]
pub struct Problem<'a> {
    /// Its name, for errors and notes.
    pub name: &'a str,
    /// What it should be, `[out, in]`, finite.
    pub matrix: Matrix<'a>,
    /// How it will lie in bytes.
    pub encoding: Encoding,
    /// What it is multiplied with, as far as the method [`needs`] it.
    pub inputs: Option<&'a Inputs>,
    /// The range of all that shares its scale, where it is not alone.
    pub whole: Option<Range>,
}

/// An encoded matrix.
#[derive(Clone, Debug)]
pub struct Solution {
    /// Its parts.
    pub parts: Vec<Part>,
    /// What a reader of the report must know: every fallback.
    pub notes: Vec<String>,
}

/// Why a matrix could not be encoded.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum SolveError {
    #[error("weight `{weight}`: {source}")]
    Codec { weight: String, source: CodecError },
    #[error(
        "the inputs of weight `{weight}` are not finite at column {column} on the calibration text; look at the model with `tinier eval`"
    )]
    NotFinite { weight: String, column: usize },
    #[error("{method} of weight `{weight}` needs statistics of its inputs, and has none")]
    NoInputs { weight: String, method: &'static str },
    #[error("the Hessian of weight `{weight}` cannot be factored even when its diagonal is doubled")]
    Singular { weight: String },
    #[error(transparent)]
    Weight(#[from] graph::SourceError),
}

/// A method of choosing codes.
pub trait Solver: Sync {
    /// Bytes that it holds at work, beside the matrix, its statistics and its parts.
    fn scratch(&self, rows: usize, cols: usize) -> u64;

    /// Encodes a matrix.
    fn solve(&self, problem: &Problem<'_>) -> Result<Solution, SolveError>;
}

/// What stands behind a method.
pub enum Way {
    /// Rows are encoded when they are read: nothing needs to be known.
    Rows(EncodeRows),
    /// Matrices are encoded while the model runs over text.
    Matrix(Box<dyn Solver>),
}

/// What stands behind a method.
pub fn way(method: Method) -> Way {
    match method {
        Method::Round => Way::Rows(round::encode),
        Method::Hqq => Way::Rows(hqq::encode),
        Method::Ptqtp => Way::Rows(ptqtp::encode),
        Method::Search => Way::Matrix(Box::new(Search)),
        Method::Gptq => Way::Matrix(Box::new(Gptq::default())),
        Method::Descent | Method::SignRound => Way::Matrix(Box::new(Descent::default())),
        Method::Ternary => Way::Matrix(Box::new(Ternary::default())),
    }
}

/// The solver behind a method that has one.
pub fn solver(method: Method) -> Option<Box<dyn Solver>> {
    match way(method) {
        Way::Rows(_) => None,
        Way::Matrix(solver) => Some(solver),
    }
}

/// What a method must know of a weight's inputs; `None`: nothing.
pub fn needs(method: Method) -> Option<Depth> {
    match method.learns() {
        Learns::Nothing => None,
        Learns::Columns => Some(Depth::Columns),
        Learns::Hessian => Some(Depth::Hessian),
        Learns::Drift => Some(Depth::Drift),
    }
}

impl Problem<'_> {
    /// Says which weight an error of its encoding is about.
    pub fn codec(&self, source: CodecError) -> SolveError {
        SolveError::Codec { weight: self.name.into(), source }
    }

    /// The statistics, which must be there and finite.
    pub fn known(&self, method: Method) -> Result<&Inputs, SolveError> {
        let inputs = self.inputs.ok_or_else(|| self.none(method))?;
        match inputs.not_finite() {
            Some(column) => Err(SolveError::NotFinite { weight: self.name.into(), column }),
            None => Ok(inputs),
        }
    }

    /// Says that a method has nothing to work from.
    pub(crate) fn none(&self, method: Method) -> SolveError {
        SolveError::NoInputs { weight: self.name.into(), method: method.name() }
    }
}
