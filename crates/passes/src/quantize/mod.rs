//! Fewer bits per weight.

pub mod round;
