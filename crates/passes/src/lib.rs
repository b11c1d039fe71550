//! One file per algorithm, its numeric core beside it.

pub mod partners;
pub mod prune;
pub mod quantize;
pub mod transform;
