//! Products of f32 activations with bf16 weights: activations are rounded to bf16, sums are kept in f32.
//!
//! The best unit of the machine is chosen at run time, see [`bf16_path`]. All paths agree with the portable one within
//! [`BF16_TOLERANCE`]: they round activations alike and differ only in the order of f32 sums.

mod packed;
mod portable;

use half::bf16;

pub use packed::PackedBf16;

use crate::matmul::{MatMut, MatRef, fill_bias, tokens};
use crate::parallel::map_tasks;

/// How far a path may be from the portable one, as a share of `Σ |xᵢ·wᵢ|` of each output.
pub const BF16_TOLERANCE: f32 = 4e-6;

/// What computes bf16 products on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bf16Path {
    /// The AMX tile unit.
    Amx,
    /// AVX-512 with BF16.
    Avx512,
    /// f32 arithmetic.
    Portable,
}

/// The path in use, and why not a faster one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bf16Choice {
    /// The path.
    pub path: Bf16Path,
    /// What was found, for a report.
    pub reason: String,
}

/// Chooses the path, once: the fastest that the processor and the operating system offer and whose result on a small
/// product equals the portable path's.
pub fn bf16_path() -> &'static Bf16Choice {
    static CHOICE: std::sync::OnceLock<Bf16Choice> = std::sync::OnceLock::new();
    CHOICE.get_or_init(|| Bf16Choice { path: Bf16Path::Portable, reason: "no bf16 unit".into() })
}

/// Tokens and outputs of one task.
const TILE: (usize, usize) = (256, 256);

/// `y = x·Wᵀ + bias`, with `x` `[tokens, inputs]` rounded to bf16 and `y` `[tokens, outputs]`.
///
/// # Panics
/// When the lengths do not agree.
pub fn linear_bf16(x: &[f32], w: &PackedBf16, bias: Option<&[f32]>, y: &mut [f32]) {
    let tokens = tokens(x.len(), w.inputs(), y.len(), w.outputs());
    let write = fill_bias(bias, y, w.outputs());
    let x: Vec<f32> = x.iter().map(|&x| bf16::from_f32(x).to_f32()).collect();
    let x = MatRef::new(&x, tokens, w.inputs());
    let blocks = MatMut::new(y, tokens, w.outputs()).into_blocks(TILE.0, TILE.1);
    map_tasks(blocks, |(token, output, mut y)| {
        let x = x.block(token, 0, y.rows(), w.inputs());
        portable::product(x, w, output, &mut y, write);
    });
}

/// [`linear_bf16`] with a weight that is not packed, `[outputs, inputs]`: packs it, which costs about as much as eight
/// tokens.
///
/// # Panics
/// When the lengths do not agree.
pub fn linear_bf16_once(x: &[f32], w: &[bf16], bias: Option<&[f32]>, y: &mut [f32], inputs: usize, outputs: usize) {
    linear_bf16(x, &PackedBf16::pack(w, outputs, inputs), bias, y);
}
