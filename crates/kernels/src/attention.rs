//! Scaled dot-product attention in blocks, with grouped queries, causal mask, sliding window and soft-capped scores.
//!
//! Forward: for a block of queries, keys are visited block by block; scores exist for one block at a time, and a running
//! maximum and sum rescale what was accumulated so far (online softmax: Milakov and Gimelshein 2018; FlashAttention,
//! Dao et al. 2022). Only the log-sum-exp per query is kept. Backward: scores are recomputed from it, block by block.
//!
//! The query heads that share a key head are stacked as rows of one product, so a key is read once for all of them; this
//! is also what makes a single new token fast. One task handles one (sequence, key head) or a fixed share of its queries.

use std::ops::Range;

use crate::matmul::{MatMut, MatRef, Write, matmul_here};
use crate::parallel::map_tasks;
use crate::real::Real;
use crate::simd::{dot, lane_sum, maximum, vectorised};

/// Rows (queries × heads of a group) of a block of scores.
const BLOCK_ROWS: usize = 64;
/// Keys of a block of scores.
const BLOCK_KEYS: usize = 128;
/// Rows of one forward task.
const TASK_ROWS: usize = 16 * BLOCK_ROWS;

/// The shape and the rule of an attention.
///
/// Layouts, row-major: queries and output `[batch, queries, query_heads·head_dim]`, keys and values
/// `[batch, keys, kv_heads·head_dim]`, log-sum-exp `[batch, kv_heads, queries, query_heads/kv_heads]`. Query head `h`
/// reads key head `h / (query_heads/kv_heads)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    /// Sequences.
    pub batch: usize,
    /// Queries per sequence: the last ones of the `keys` positions.
    pub queries: usize,
    /// Keys per sequence, at least `queries`; more when a cache holds earlier tokens.
    pub keys: usize,
    /// Query heads, a multiple of `kv_heads`.
    pub query_heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Elements per head.
    pub head_dim: usize,
    /// What scores are multiplied by, usually `1/√head_dim`.
    pub scale: f64,
    /// Whether query `i` sees only keys up to `keys − queries + i`.
    pub causal: bool,
    /// Sliding window: only the last so many keys up to the query's own position are seen.
    pub window: Option<usize>,
    /// Scores become `cap·tanh(score/cap)` (Gemma 2).
    pub softcap: Option<f64>,
}

impl Attention {
    /// Causal attention with one key head per query head and scale `1/√head_dim`.
    pub fn causal(batch: usize, tokens: usize, heads: usize, head_dim: usize) -> Self {
        Attention {
            batch,
            queries: tokens,
            keys: tokens,
            query_heads: heads,
            kv_heads: heads,
            head_dim,
            scale: 1.0 / (head_dim as f64).sqrt(),
            causal: true,
            window: None,
            softcap: None,
        }
    }

    /// Elements of queries and output.
    pub fn query_len(&self) -> usize {
        self.batch * self.queries * self.query_heads * self.head_dim
    }

    /// Elements of keys, and of values.
    pub fn key_len(&self) -> usize {
        self.batch * self.keys * self.kv_heads * self.head_dim
    }

    /// Elements of the log-sum-exp.
    pub fn lse_len(&self) -> usize {
        self.batch * self.queries * self.query_heads
    }

    /// Query heads per key head.
    fn group(&self) -> usize {
        self.query_heads / self.kv_heads
    }

    /// Rows of the stacked queries of one key head.
    fn rows(&self) -> usize {
        self.queries * self.group()
    }

    fn check(&self, q: usize, k: usize, v: usize, out: usize) {
        assert!(self.kv_heads > 0 && self.query_heads.is_multiple_of(self.kv_heads), "query heads per key head");
        assert!(self.keys >= self.queries, "fewer keys than queries");
        assert!(q == self.query_len() && out == q && k == self.key_len() && v == k, "attention of unlike lengths");
    }

    /// The keys that stacked row `row` sees.
    #[inline(always)]
    fn seen(&self, row: usize) -> Range<usize> {
        let position = self.keys - self.queries + row / self.group();
        let start = self.window.map_or(0, |window| (position + 1).saturating_sub(window));
        start..if self.causal { position + 1 } else { self.keys }
    }

    /// The blocks of keys that some row of `rows` sees.
    fn key_blocks(&self, rows: &Range<usize>) -> impl Iterator<Item = Range<usize>> + use<> {
        let (start, end) = (self.seen(rows.start).start, self.seen(rows.end - 1).end);
        let first = start / BLOCK_KEYS * BLOCK_KEYS;
        (first..end).step_by(BLOCK_KEYS).map(move |at| at..end.min(at + BLOCK_KEYS))
    }

    /// The keys of `block` that `row` sees, counted from the block's start.
    #[inline(always)]
    fn seen_in(&self, row: usize, block: &Range<usize>) -> Range<usize> {
        let seen = self.seen(row);
        let clip = |at: usize| at.clamp(block.start, block.end) - block.start;
        clip(seen.start)..clip(seen.end)
    }

    /// Keys or values of one head of one sequence.
    fn head<'a, R>(&self, data: &'a [R], batch: usize, head: usize) -> MatRef<'a, R> {
        let width = self.kv_heads * self.head_dim;
        let all = MatRef::new(data, self.batch * self.keys, width);
        all.block(batch * self.keys, head * self.head_dim, self.keys, self.head_dim)
    }

    /// Copies stacked rows out of `[batch, queries, query_heads·head_dim]`, multiplied by `factor`.
    fn gather<R: Real>(&self, data: &[R], batch: usize, head: usize, rows: &Range<usize>, factor: R, to: &mut [R]) {
        let (group, dim) = (self.group(), self.head_dim);
        for (row, to) in rows.clone().zip(to.chunks_exact_mut(dim)) {
            let token = batch * self.queries + row / group;
            let at = (token * self.query_heads + head * group + row % group) * dim;
            to.iter_mut().zip(&data[at..at + dim]).for_each(|(to, &x)| *to = factor * x);
        }
    }

    /// Cuts `[batch, queries, query_heads·head_dim]` into one matrix per (sequence, key head).
    fn split_queries<'a, R>(&self, data: &'a mut [R]) -> Vec<MatMut<'a, R>> {
        let all = MatMut::new(data, self.batch * self.queries, self.query_heads * self.head_dim);
        all.into_blocks(self.queries, self.group() * self.head_dim).into_iter().map(|(_, _, block)| block).collect()
    }
}

/// Running state of the online softmax over one block of rows.
struct Running<R> {
    top: Vec<R>,
    sum: Vec<R>,
    out: Vec<R>,
}

vectorised! {
    /// Turns a block of scores into weights, and rescales what was summed before to the new maximum.
    fn online_softmax<R: Real>(
        rule: &Attention,
        rows: Range<usize>,
        keys: Range<usize>,
        scores: &mut [R],
        running: &mut Running<R>,
    ) {
        let (dim, width) = (rule.head_dim, keys.len());
        for (i, row) in rows.enumerate() {
            let scores = &mut scores[i * width..(i + 1) * width];
            let seen = rule.seen_in(row, &keys);
            scores[..seen.start].fill(R::ZERO);
            scores[seen.end..].fill(R::ZERO);
            let scores = &mut scores[seen];
            if let Some(cap) = rule.softcap {
                soft_cap(scores, R::from_f64(cap));
            }
            let top = maximum(scores).max(running.top[i]);
            if top == R::NEG_INFINITY {
                continue;
            }
            scores.iter_mut().for_each(|x| *x = (*x - top).exp());
            let keep = (running.top[i] - top).exp();
            running.top[i] = top;
            running.sum[i] = running.sum[i] * keep + lane_sum(scores.len(), |j, sum| sum + scores[j]);
            if keep != R::ONE {
                running.out[i * dim..(i + 1) * dim].iter_mut().for_each(|x| *x *= keep);
            }
        }
    }
}

#[inline(always)]
fn soft_cap<R: Real>(scores: &mut [R], cap: R) {
    let inverse = R::ONE / cap;
    scores.iter_mut().for_each(|x| *x = cap * (*x * inverse).tanh());
}

/// `out = softmax(mask(scale·q·kᵀ))·v`; `lse`, when wanted for the backward pass, receives the log-sum-exp per query.
///
/// # Panics
/// When the lengths do not agree with the shape.
pub fn attention<R: Real>(rule: &Attention, q: &[R], k: &[R], v: &[R], out: &mut [R], lse: Option<&mut [R]>) {
    rule.check(q.len(), k.len(), v.len(), out.len());
    if out.is_empty() {
        return;
    }
    let mut unwanted = Vec::new();
    let lse = lse.unwrap_or_else(|| {
        unwanted.resize(rule.lse_len(), R::ZERO);
        &mut unwanted
    });
    assert_eq!(lse.len(), rule.lse_len(), "log-sum-exp length");
    let task_tokens = (TASK_ROWS / rule.group()).max(1);
    let mut tasks = Vec::new();
    for (i, (out, lse)) in rule.split_queries(out).into_iter().zip(lse.chunks_mut(rule.rows())).enumerate() {
        let shares = out.into_blocks(task_tokens, usize::MAX).into_iter();
        tasks.extend(shares.zip(lse.chunks_mut(task_tokens * rule.group())).map(|(out, lse)| (i, out, lse)));
    }
    map_tasks(tasks, |(i, (first_token, _, mut out), lse)| {
        let (batch, head) = (i / rule.kv_heads, i % rule.kv_heads);
        let (k, v) = (rule.head(k, batch, head), rule.head(v, batch, head));
        let first = first_token * rule.group();
        for start in (0..lse.len()).step_by(BLOCK_ROWS) {
            let end = lse.len().min(start + BLOCK_ROWS);
            let mut query = vec![R::ZERO; (end - start) * rule.head_dim];
            let rows = first + start..first + end;
            rule.gather(q, batch, head, &rows, R::from_f64(rule.scale), &mut query);
            let running = forward_block(rule, &query, k, v, rows);
            finish_block(rule, &running, &mut out, start, &mut lse[start..end]);
        }
    });
}

/// Attention of one block of stacked, scaled query rows over all the keys that they see.
fn forward_block<R: Real>(
    rule: &Attention,
    query: &[R],
    k: MatRef<'_, R>,
    v: MatRef<'_, R>,
    rows: Range<usize>,
) -> Running<R> {
    let (count, dim) = (rows.len(), rule.head_dim);
    let mut running =
        Running { top: vec![R::NEG_INFINITY; count], sum: vec![R::ZERO; count], out: vec![R::ZERO; count * dim] };
    let mut scores = vec![R::ZERO; count * BLOCK_KEYS.min(rule.keys)];
    for keys in rule.key_blocks(&rows) {
        let width = keys.len();
        let scores = &mut scores[..count * width];
        let (k, v) = (k.block(keys.start, 0, width, dim), v.block(keys.start, 0, width, dim));
        let query = MatRef::new(query, count, dim);
        matmul_here(R::ONE, query, k.t(), MatMut::new(scores, count, width), Write::Set);
        online_softmax(rule, rows.clone(), keys, scores, &mut running);
        let weights = MatRef::new(scores, count, width);
        matmul_here(R::ONE, weights, v, MatMut::new(&mut running.out, count, dim), Write::Add);
    }
    running
}

/// Divides by the sums and puts the rows where they belong; row 0 of the block is row `start` of the task.
fn finish_block<R: Real>(rule: &Attention, running: &Running<R>, out: &mut MatMut<'_, R>, start: usize, lse: &mut [R]) {
    let (group, dim) = (rule.group(), rule.head_dim);
    for (i, row) in running.out.chunks_exact(dim).enumerate() {
        let (token, member) = ((start + i) / group, (start + i) % group);
        let inverse = R::ONE / running.sum[i];
        let to = &mut out.row_mut(token)[member * dim..(member + 1) * dim];
        to.iter_mut().zip(row).for_each(|(to, &x)| *to = x * inverse);
        lse[i] = running.top[i] + running.sum[i].ln();
    }
}

/// What the backward pass reads.
#[derive(Clone, Copy, Debug)]
pub struct AttentionSaved<'a, R> {
    /// Queries of the forward pass.
    pub q: &'a [R],
    /// Keys.
    pub k: &'a [R],
    /// Values.
    pub v: &'a [R],
    /// Output.
    pub out: &'a [R],
    /// Log-sum-exp that the forward pass wrote.
    pub lse: &'a [R],
}

/// The gradients of [`attention`], written to `dq`, `dk` and `dv`.
///
/// # Panics
/// When the lengths do not agree with the shape.
pub fn attention_grad<R: Real>(
    rule: &Attention,
    saved: AttentionSaved<'_, R>,
    dout: &[R],
    dq: &mut [R],
    dk: &mut [R],
    dv: &mut [R],
) {
    rule.check(saved.q.len(), saved.k.len(), saved.v.len(), saved.out.len());
    rule.check(dq.len(), dk.len(), dv.len(), dout.len());
    assert_eq!(saved.lse.len(), rule.lse_len(), "log-sum-exp length");
    dk.fill(R::ZERO);
    dv.fill(R::ZERO);
    if dq.is_empty() {
        return;
    }
    let split = |data| {
        let all = MatMut::new(data, rule.batch * rule.keys, rule.kv_heads * rule.head_dim);
        all.into_blocks(rule.keys, rule.head_dim).into_iter().map(|(_, _, block)| block)
    };
    let outputs = rule.split_queries(dq).into_iter().zip(split(dk)).zip(split(dv));
    let tasks = outputs.enumerate().map(|(i, ((dq, dk), dv))| (i, dq, dk, dv)).collect();
    map_tasks(tasks, |(i, mut dq, mut dk, mut dv)| {
        let (batch, head) = (i / rule.kv_heads, i % rule.kv_heads);
        for start in (0..rule.rows()).step_by(BLOCK_ROWS) {
            let rows = start..rule.rows().min(start + BLOCK_ROWS);
            let block = QueryBlock::new(rule, &saved, dout, batch, head, rows);
            let (k, v) = (rule.head(saved.k, batch, head), rule.head(saved.v, batch, head));
            let grad = block.backward(rule, k, v, &mut dk, &mut dv);
            for (row, grad) in block.rows.clone().zip(grad.chunks_exact(rule.head_dim)) {
                let (token, member) = (row / rule.group(), row % rule.group());
                let to = &mut dq.row_mut(token)[member * rule.head_dim..(member + 1) * rule.head_dim];
                to.copy_from_slice(grad);
            }
        }
    });
}

/// A block of stacked query rows in the backward pass.
struct QueryBlock<'a, R> {
    rows: Range<usize>,
    query: Vec<R>,
    dout: Vec<R>,
    lse: &'a [R],
    /// `Σ dout·out` per row: what the softmax's gradient subtracts.
    delta: Vec<R>,
}

impl<'a, R: Real> QueryBlock<'a, R> {
    fn new(
        rule: &Attention,
        saved: &AttentionSaved<'a, R>,
        dout: &[R],
        batch: usize,
        head: usize,
        rows: Range<usize>,
    ) -> Self {
        let gather = |data: &[R], factor| {
            let mut block = vec![R::ZERO; rows.len() * rule.head_dim];
            rule.gather(data, batch, head, &rows, factor, &mut block);
            block
        };
        let (out, dout) = (gather(saved.out, R::ONE), gather(dout, R::ONE));
        let dim = rule.head_dim;
        let delta = out.chunks_exact(dim).zip(dout.chunks_exact(dim)).map(|(a, b)| dot(a, b)).collect();
        let query = gather(saved.q, R::from_f64(rule.scale));
        let first = (batch * rule.kv_heads + head) * rule.rows();
        QueryBlock { lse: &saved.lse[first + rows.start..first + rows.end], rows, query, dout, delta }
    }

    /// Adds this block's share to `dk` and `dv` and returns its `dq`.
    fn backward(
        &self,
        rule: &Attention,
        k: MatRef<'_, R>,
        v: MatRef<'_, R>,
        dk: &mut MatMut<'_, R>,
        dv: &mut MatMut<'_, R>,
    ) -> Vec<R> {
        let (count, dim) = (self.rows.len(), rule.head_dim);
        let (query, dout) = (MatRef::new(&self.query, count, dim), MatRef::new(&self.dout, count, dim));
        let mut dq = vec![R::ZERO; count * dim];
        let mut buffers = [(); 2].map(|()| vec![R::ZERO; count * BLOCK_KEYS.min(rule.keys)]);
        for keys in rule.key_blocks(&self.rows) {
            let width = keys.len();
            let [weights, grads] = &mut buffers;
            let (weights, grads) = (&mut weights[..count * width], &mut grads[..count * width]);
            let (k, v) = (k.block(keys.start, 0, width, dim), v.block(keys.start, 0, width, dim));
            matmul_here(R::ONE, query, k.t(), MatMut::new(weights, count, width), Write::Set);
            matmul_here(R::ONE, dout, v.t(), MatMut::new(grads, count, width), Write::Set);
            score_grads(rule, self.rows.clone(), keys.clone(), self.lse, &self.delta, weights, grads);
            let (weights, grads) = (MatRef::new(weights, count, width), MatRef::new(grads, count, width));
            matmul_here(R::ONE, weights.t(), dout, dv.block_mut(keys.start, width), Write::Add);
            matmul_here(R::ONE, grads.t(), query, dk.block_mut(keys.start, width), Write::Add);
            let scale = R::from_f64(rule.scale);
            matmul_here(scale, grads, k, MatMut::new(&mut dq, count, dim), Write::Add);
        }
        dq
    }
}

vectorised! {
    /// Turns scores into weights (in `weights`) and gradients of weights into gradients of scores (in `grads`).
    fn score_grads<R: Real>(
        rule: &Attention,
        rows: Range<usize>,
        keys: Range<usize>,
        lse: &[R],
        delta: &[R],
        weights: &mut [R],
        grads: &mut [R],
    ) {
        let width = keys.len();
        let blocks = weights.chunks_exact_mut(width).zip(grads.chunks_exact_mut(width));
        for (((weights, grads), row), (&lse, &delta)) in blocks.zip(rows).zip(lse.iter().zip(delta)) {
            let seen = rule.seen_in(row, &keys);
            for unseen in [0..seen.start, seen.end..width] {
                weights[unseen.clone()].fill(R::ZERO);
                grads[unseen].fill(R::ZERO);
            }
            let pairs = weights[seen.clone()].iter_mut().zip(&mut grads[seen]);
            match rule.softcap {
                None => pairs.for_each(|(weight, grad)| {
                    *weight = (*weight - lse).exp();
                    *grad = *weight * (*grad - delta);
                }),
                Some(cap) => {
                    let (cap, inverse) = (R::from_f64(cap), R::from_f64(1.0 / cap));
                    pairs.for_each(|(weight, grad)| {
                        let tanh = (*weight * inverse).tanh();
                        *weight = (cap * tanh - lse).exp();
                        *grad = *weight * (*grad - delta) * (R::ONE - tanh * tanh);
                    });
                }
            }
        }
    }
}
