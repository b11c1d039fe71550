//! Causal softmax attention with grouped key/value heads.
//!
//! Inputs: queries `[…, tokens, heads · head_dim]`, keys and values `[…, tokens, kv_heads · head_dim]`. Query head `h` reads
//! key head `h / (heads / kv_heads)`. Scores are `scale · q·k`, capped by `cap · tanh(score / cap)` where there is a cap;
//! a window of `w` lets position `p` see `p − w + 1 ..= p`. `slot` numbers the cache that earlier keys and values live in.

use super::{Cost, Kept, Op, OpSpec, ShapeError, Typed, rows, width, wrong};
use crate::{Axes, Dim, Port, Relation, Size, WeightStore};

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Attention {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Channels of a head.
    pub head_dim: usize,
    /// Multiplies the scores.
    pub scale: f32,
    /// How many positions each sees, itself included.
    pub window: Option<usize>,
    /// Soft cap of the scores (Gemma 2).
    pub softcap: Option<f32>,
    /// Its place in the key/value cache: distinct for every attention of a graph.
    pub slot: usize,
}

impl Attention {
    /// The axis relation where key heads stay and queries go: as many of every key head, those at the same place in each.
    pub fn axes_of_queries(&self, inputs: &[Typed]) -> Axes {
        let last = inputs[0].1.len() - 1;
        Axes::rowwise(last + 1)
            .bind((Port::Input(0), last), (Port::Output(0), last))
            .run((Port::Input(0), last), self.head_dim)
            .run((Port::Output(0), last), self.head_dim)
            .cycle((Port::Input(0), last), self.head_dim * self.heads / self.kv_heads.max(1))
            .freeze((Port::Input(1), last))
            .freeze((Port::Input(2), last))
    }
}

impl OpSpec for Attention {
    fn outputs(&self, inputs: &[Typed], _weights: &WeightStore) -> Result<Vec<Typed>, ShapeError> {
        let (q, kv) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let got = [width(inputs, 0)?, width(inputs, 1)?, width(inputs, 2)?];
        if got != [q, kv, kv] {
            return wrong(format!("queries, keys and values are {got:?} wide, expected {:?}", [q, kv, kv]));
        }
        if self.kv_heads == 0 || !self.heads.is_multiple_of(self.kv_heads) {
            return wrong(format!("{} heads cannot share {} key heads", self.heads, self.kv_heads));
        }
        Ok(vec![inputs[0].clone()])
    }

    fn axes(&self, inputs: &[Typed]) -> Axes {
        let last = inputs[0].1.len() - 1;
        let heads = Relation::Heads { unit: self.head_dim, repeat: self.heads / self.kv_heads.max(1) };
        Axes::rowwise(last + 1)
            .link((Port::Output(0), last), (Port::Input(2), last), heads.clone())
            .link((Port::Input(0), last), (Port::Input(1), last), heads)
            .bind((Port::Input(0), last), (Port::Output(0), last))
            .run((Port::Input(0), last), self.head_dim)
            .run((Port::Output(0), last), self.head_dim)
    }

    fn keep(&self, kept: &Kept) -> Option<Op> {
        // Whole heads go, so every axis but the last of these is as long as it was.
        let heads = |port, count: usize| {
            let lost = kept.last(port).map_or(0, |axis| axis.of - axis.left.len());
            count - lost / self.head_dim.max(1)
        };
        let (heads, kv_heads) = (heads(Port::Input(0), self.heads), heads(Port::Input(1), self.kv_heads));
        Some(Attention { heads, kv_heads, ..self.clone() }.into())
    }

    fn cost(&self, inputs: &[Typed], _weights: &WeightStore, size: Size) -> Cost {
        let keys = size.of(Dim::Tokens).min(self.window.unwrap_or(usize::MAX)) as u64;
        Cost { macs: rows(size, &inputs[0].1) * keys * (self.heads * self.head_dim) as u64 }
    }
}
