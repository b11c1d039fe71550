//! Calibration: choosing text, and statistics of what flows through a model while it runs over text or samples.

mod columns;
mod coverage;
pub mod data;
mod fisher;
mod inputs;
mod lane;
mod magnitudes;
pub mod ranges;
mod samples;

pub use columns::columns;
pub use coverage::coverage;
pub use fisher::fisher;
pub use inputs::{Depth, Inputs};
pub use lane::{Kept, Lane, LaneError, windows_together};
pub use magnitudes::{Magnitudes, magnitudes};
pub use samples::{Batch, First, InBatches, NextTokens, Samples};
