//! Calibration: choosing text, and statistics of what flows through a model while it runs over text or samples.

mod columns;
pub mod data;
mod inputs;
mod lane;
pub mod ranges;
mod samples;

pub use columns::columns;
pub use inputs::{Depth, Inputs};
pub use lane::{Kept, Lane, LaneError, windows_together};
pub use samples::{Batch, First, InBatches, Samples};
