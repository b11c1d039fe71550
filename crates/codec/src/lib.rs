//! Schemes and encodings: how numbers are rounded, and how they then lie in bytes.
//!
//! Pure: no I/O, no graph, no SIMD intrinsics. The code here is the truth: it writes the files, and every fast
//! kernel must equal it.
//!
//! An [`Encoding`] turns a matrix of `rows × cols` numbers into one or more [`Part`]s (named byte buffers) and back.
//! Adding one: a file, a line in the enum, a golden vector (`docs/ADDING.md`).

pub mod block;
mod draft;
mod dtype;
mod encoding;
pub mod packed;

pub use block::BlockFormat;
pub use draft::{Draft, DraftRow, SpanScales};
pub use dtype::Dtype;
pub use encoding::{CodecError, Encoding, Matrix, Part, PartSpec};
pub use packed::Packed;
