//! Keys and values of earlier tokens, for incremental decoding.

use crate::Error;
use graph::{Graph, Op};

/// Keys and values of one attention: `[batch, capacity, width]` each.
struct Lane<R> {
    width: usize,
    keys: Vec<R>,
    values: Vec<R>,
}

/// The key/value cache of every attention of a graph. Sliding windows are masked, not trimmed.
pub struct KvCache<R = f32> {
    batch: usize,
    capacity: usize,
    len: usize,
    lanes: Vec<Lane<R>>,
}

impl<R: crate::Scalar> KvCache<R> {
    /// Room for `capacity` tokens of `batch` sequences.
    pub fn new(graph: &Graph, batch: usize, capacity: usize) -> KvCache<R> {
        let mut lanes = Vec::new();
        for node in graph.nodes() {
            let Op::Attention(op) = &node.op else { continue };
            if lanes.len() <= op.slot {
                lanes.resize_with(op.slot + 1, || Lane { width: 0, keys: Vec::new(), values: Vec::new() });
            }
            let width = op.kv_heads * op.head_dim;
            let empty = || vec![R::ZERO; batch * capacity * width];
            lanes[op.slot] = Lane { width, keys: empty(), values: empty() };
        }
        KvCache { batch, capacity, len: 0, lanes }
    }

    /// Tokens cached so far.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is cached.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Forgets all tokens but the first `len`.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Fails unless `tokens` more of `batch` sequences fit.
    pub(crate) fn check(&self, batch: usize, tokens: usize) -> Result<(), Error> {
        if batch != self.batch {
            return Err(Error::CacheBatch { batch: self.batch, got: batch });
        }
        if self.len + tokens > self.capacity {
            return Err(Error::CacheFull { past: self.len, new: tokens, capacity: self.capacity });
        }
        Ok(())
    }

    /// Counts tokens whose keys and values every attention has appended.
    pub(crate) fn advance(&mut self, tokens: usize) {
        self.len += tokens;
    }

    /// Puts the keys and values of new tokens, `[batch, tokens, width]`, behind the cached ones.
    pub(crate) fn append(&mut self, slot: usize, keys: &[R], values: &[R]) {
        let (len, capacity, batch) = (self.len, self.capacity, self.batch.max(1));
        let Lane { width, keys: all_keys, values: all_values } = &mut self.lanes[slot];
        let new = keys.len() / batch;
        for (all, fresh) in [(all_keys, keys), (all_values, values)] {
            for (all, fresh) in all.chunks_exact_mut(capacity * *width).zip(fresh.chunks_exact(new)) {
                all[len * *width..][..new].copy_from_slice(fresh);
            }
        }
    }

    /// Keys and values of the first `tokens` tokens of sequence `sample`.
    pub(crate) fn read(&self, slot: usize, sample: usize, tokens: usize) -> (&[R], &[R]) {
        let Lane { width, keys, values } = &self.lanes[slot];
        let first = sample * self.capacity * width;
        let span = first..first + tokens * width;
        (&keys[span.clone()], &values[span])
    }
}
