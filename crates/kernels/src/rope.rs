//! Rotary position embedding (Su et al. 2021) in the half-split form of GPT-NeoX and `transformers`.
//!
//! Within a head, element `i` and element `i + rotary_dim/2` turn by the angle `position · inv_freq[i]`; elements from
//! `rotary_dim` on are left alone. The backward pass is the rotation back.

use crate::parallel::{Rows, map_rows};
use crate::real::Real;
use crate::simd::vectorised;

/// Which way to turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// By the angle: the forward pass.
    Forward,
    /// By minus the angle: the gradient.
    Backward,
}

/// How the heads of one token lie in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RopeShape {
    /// Heads per token.
    pub heads: usize,
    /// Elements per head.
    pub head_dim: usize,
    /// How many of them turn: even, at most `head_dim`.
    pub rotary_dim: usize,
}

/// The tables `(cos, sin)`, each `[positions, inv_freq.len()]`, multiplied by `scale` (1 unless the model says otherwise).
pub fn rope_tables<R: Real>(
    positions: impl IntoIterator<Item = usize>,
    inv_freq: &[f64],
    scale: f64,
) -> (Vec<R>, Vec<R>) {
    let angles = positions.into_iter().flat_map(|p| inv_freq.iter().map(move |f| p as f64 * f));
    angles.map(|angle| (R::from_f64(angle.cos() * scale), R::from_f64(angle.sin() * scale))).unzip()
}

vectorised! {
    fn rotate_rows<R: Real>(x: &mut [R], shape: RopeShape, cos: &[R], sin: &[R], row: usize, sign: R) {
        let half = shape.rotary_dim / 2;
        let table_rows = cos.len() / half;
        for (i, token) in x.chunks_exact_mut(shape.heads * shape.head_dim).enumerate() {
            let at = (row + i) % table_rows * half;
            let (cos, sin) = (&cos[at..at + half], &sin[at..at + half]);
            for head in token.chunks_exact_mut(shape.head_dim) {
                let (low, high) = head[..2 * half].split_at_mut(half);
                for (((low, high), &cos), &sin) in low.iter_mut().zip(high).zip(cos).zip(sin) {
                    let (a, b, sin) = (*low, *high, sign * sin);
                    *low = a * cos - b * sin;
                    *high = b * cos + a * sin;
                }
            }
        }
    }
}

/// Rotates `x`, `[tokens, heads·head_dim]`, in place. `cos` and `sin` are `[table_rows, rotary_dim/2]`; token `i` takes
/// row `i mod table_rows`, so a batch shares one table.
///
/// # Panics
/// When the lengths do not agree or `rotary_dim` is odd or too large.
pub fn rope<R: Real>(x: &mut [R], shape: RopeShape, cos: &[R], sin: &[R], rotation: Rotation) {
    let width = shape.heads * shape.head_dim;
    let half = shape.rotary_dim / 2;
    assert!(shape.rotary_dim.is_multiple_of(2) && shape.rotary_dim <= shape.head_dim, "rotary dimension");
    if width == 0 || half == 0 || x.is_empty() {
        return;
    }
    assert!(x.len().is_multiple_of(width), "RoPE of a broken row");
    assert!(cos.len() == sin.len() && !cos.is_empty() && cos.len().is_multiple_of(half), "RoPE table length");
    let sign = if rotation == Rotation::Forward { R::ONE } else { -R::ONE };
    map_rows(x.len() / width, Rows::new(x, width), Rows::<R>::none(), |rows, x, _| {
        rotate_rows(x, shape, cos, sin, rows.start, sign);
    });
}
