//! Fewer bits per weight.
//!
//! [`round`] needs nothing. The other methods, each a [`solver::Solver`] in a file of its own, choose codes by what a
//! model's inputs are on calibration text; [`sequential`] feeds them, block by block. [`network`] puts whole networks on
//! grids of integers, values and all.

mod adaround;
mod correct;
pub mod descent;
pub(crate) mod factor;
pub mod gptq;
pub mod hqq;
pub mod network;
pub mod ptqtp;
pub mod refine;
pub mod round;
pub mod search;
pub mod sequential;
mod sides;
pub mod signround;
pub mod solver;
mod stages;
pub mod ternary;
