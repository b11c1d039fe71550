//! Calibration: choosing text, and statistics of what flows through a model while it runs over it.

mod columns;
pub mod data;
mod inputs;
mod lane;
mod samples;

pub use columns::columns;
pub use inputs::{Depth, Inputs};
pub use lane::{Lane, LaneError, windows_together};
pub use samples::{Batch, Samples};
