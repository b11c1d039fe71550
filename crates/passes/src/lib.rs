//! One file per algorithm, its numeric core beside it.

pub mod quantize;
