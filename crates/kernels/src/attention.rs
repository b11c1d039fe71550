//! Scaled dot-product attention in blocks, with grouped queries, causal mask, sliding window and soft-capped scores.
//!
//! Forward: for a block of queries, keys are visited block by block; scores exist for one block at a time, and a running
//! maximum and sum rescale what was accumulated so far (online softmax: Milakov and Gimelshein 2018; FlashAttention,
//! Dao et al. 2022). Only the log-sum-exp per query is kept. Backward: scores are recomputed from it, block by block.
//!
//! Everything is transposed: scores are `[keys, queries]`, so that vector lanes are queries. Softmax then needs no sums
//! across lanes, and a block of scores already has the layout that the next product reads. The query heads that share a
//! key head are neighbouring lanes, so a key is read once for all of them; this also makes a single new token fast.

use std::ops::Range;

use crate::matmul::{MatMut, MatRef, Write};
use crate::micro::{COLS, ROWS, Tile};
use crate::pack::pack_left;
use crate::parallel::map_tasks;
use crate::real::Real;
use crate::simd::{dot, lane_sum, maximum, vectorised};

/// Lanes of a block of scores: queries × heads of a group.
const LANES: usize = 2 * COLS;
/// Keys of a block of scores.
const BLOCK_KEYS: usize = 8 * ROWS;
/// Up to so many lanes per key head, packing its keys costs more than it gains: a new token or two.
const FEW_LANES: usize = 12;
/// Lanes of one forward task.
const TASK_LANES: usize = 16 * LANES;

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

    /// Lanes of one key head: its queries, for every head of its group.
    fn lanes(&self) -> usize {
        self.queries * self.group()
    }

    fn check(&self, q: usize, k: usize, v: usize, out: usize) {
        assert!(self.kv_heads > 0 && self.query_heads.is_multiple_of(self.kv_heads), "query heads per key head");
        assert!(self.keys >= self.queries, "fewer keys than queries");
        assert!(q == self.query_len() && out == q && k == self.key_len() && v == k, "attention of unlike lengths");
    }

    /// The keys that lane `lane` sees.
    #[inline(always)]
    fn seen(&self, lane: usize) -> Range<usize> {
        let position = self.keys - self.queries + lane / self.group();
        let start = self.window.map_or(0, |window| (position + 1).saturating_sub(window.max(1)));
        start..if self.causal { position + 1 } else { self.keys }
    }

    /// The blocks of keys that some of `lanes` sees.
    fn key_blocks(&self, lanes: &Range<usize>) -> impl Iterator<Item = Range<usize>> + use<> {
        let (start, end) = (self.seen(lanes.start).start, self.seen(lanes.end - 1).end);
        let first = start / BLOCK_KEYS * BLOCK_KEYS;
        (first..end).step_by(BLOCK_KEYS).map(move |at| at..end.min(at + BLOCK_KEYS))
    }

    /// Keys or values of one head of one sequence.
    fn head<'a, R>(&self, data: &'a [R], batch: usize, head: usize) -> MatRef<'a, R> {
        let width = self.kv_heads * self.head_dim;
        let all = MatRef::new(data, self.batch * self.keys, width);
        all.block(batch * self.keys, head * self.head_dim, self.keys, self.head_dim)
    }

    /// Where the vector of `lane` of a key head begins in `[batch, queries, query_heads·head_dim]`.
    fn place(&self, batch: usize, head: usize, lane: usize) -> usize {
        let group = self.group();
        let token = batch * self.queries + lane / group;
        (token * self.query_heads + head * group + lane % group) * self.head_dim
    }

    /// Cuts `[batch, queries, query_heads·head_dim]` into one matrix per (sequence, key head).
    fn split_queries<'a, R>(&self, data: &'a mut [R]) -> Vec<MatMut<'a, R>> {
        let all = MatMut::new(data, self.batch * self.queries, self.query_heads * self.head_dim);
        all.into_blocks(self.queries, self.group() * self.head_dim).into_iter().map(|(_, _, block)| block).collect()
    }
}

/// Keys or values of one head, as left operands by blocks of [`BLOCK_KEYS`].
struct Packed<R> {
    data: Vec<R>,
    block: usize,
}

impl<R: Real> Packed<R> {
    /// Packs `m`, `[keys, head_dim]`, with keys as rows: `m·x` for columns `x` over `head_dim`.
    fn by_key(m: MatRef<'_, R>) -> Self {
        Self::new(m, BLOCK_KEYS * m.cols(), |block| block)
    }

    /// Packs `m`, `[keys, head_dim]`, with keys as depth: `mᵀ·x` for columns `x` over keys.
    fn by_element(m: MatRef<'_, R>) -> Self {
        Self::new(m, BLOCK_KEYS * m.cols().next_multiple_of(ROWS), |block| block.t())
    }

    fn new<'a>(m: MatRef<'a, R>, block: usize, turn: impl Fn(MatRef<'a, R>) -> MatRef<'a, R>) -> Self {
        let mut data = vec![R::ZERO; m.rows().div_ceil(BLOCK_KEYS) * block];
        for (i, to) in data.chunks_exact_mut(block).enumerate() {
            let first = i * BLOCK_KEYS;
            pack_left(turn(m.block(first, 0, BLOCK_KEYS.min(m.rows() - first), m.cols())), to);
        }
        Packed { data, block }
    }

    /// The left panels of the block that begins with key `key`.
    fn at(&self, key: usize) -> &[R] {
        &self.data[key / BLOCK_KEYS * self.block..][..self.block]
    }
}

/// `c (+)= alpha·a·b` for `a` in left panels `packed` to a depth of `packed_depth`, of which `depth` is used; `b` in rows
/// `b_stride` apart, readable to a whole number of [`COLS`].
fn product<R: Real>(alpha: R, a: &[R], depth: usize, b: &[R], b_stride: usize, mut c: MatMut<'_, R>, write: Write) {
    let (rows, cols) = (c.rows(), c.cols());
    for col in (0..cols).step_by(COLS) {
        for row in (0..rows).step_by(ROWS) {
            let c = c.block_mut(row, col, ROWS.min(rows - row), COLS.min(cols - col));
            R::kernel(depth, &a[row * depth..], &b[col..], b_stride, Tile { c, alpha, write });
        }
    }
}

/// A block of lanes: `[head_dim, LANES]` each, columns past the last lane zero.
fn gather<R: Real>(rule: &Attention, data: &[R], batch: usize, head: usize, lanes: &Range<usize>, factor: R) -> Vec<R> {
    let mut block = vec![R::ZERO; rule.head_dim * LANES];
    for (i, lane) in lanes.clone().enumerate() {
        let from = &data[rule.place(batch, head, lane)..][..rule.head_dim];
        for (to, &x) in block.chunks_exact_mut(LANES).zip(from) {
            to[i] = factor * x;
        }
    }
    block
}

/// Running state of the online softmax over one block of lanes.
struct Running<R> {
    top: [R; LANES],
    sum: [R; LANES],
    /// `[head_dim, LANES]`, not yet divided by `sum`.
    out: Vec<R>,
}

vectorised! {
    /// Turns a block of scores into weights, and rescales what was summed before to the new maximum.
    fn online_softmax<R: Real>(
        rule: &Attention,
        lanes: Range<usize>,
        keys: Range<usize>,
        scores: &mut [R],
        running: &mut Running<R>,
    ) {
        let (scores, _) = scores.as_chunks_mut::<LANES>();
        if let Some(cap) = rule.softcap {
            let (cap, inverse) = (R::from_f64(cap), R::from_f64(1.0 / cap));
            scores.iter_mut().flatten().for_each(|x| *x = cap * (*x * inverse).tanh());
        }
        hide_unseen(rule, lanes, keys, scores, R::NEG_INFINITY);
        let mut top = running.top;
        for row in scores.iter() {
            top.iter_mut().zip(row).for_each(|(top, &x)| *top = if x > *top { x } else { *top });
        }
        // A lane that has seen nothing yet keeps weights of zero: its scores and its maximum are both minus infinity.
        let shift = top.map(|top| if top == R::NEG_INFINITY { R::ZERO } else { top });
        let mut sum = [R::ZERO; LANES];
        for row in scores.iter_mut() {
            for ((x, &shift), sum) in row.iter_mut().zip(&shift).zip(&mut sum) {
                *x = (*x - shift).exp();
                *sum += *x;
            }
        }
        let mut keep = running.top;
        keep.iter_mut().zip(&shift).for_each(|(keep, &shift)| *keep = (*keep - shift).exp());
        for ((total, &sum), &keep) in running.sum.iter_mut().zip(&sum).zip(&keep) {
            *total = total.mul_add(keep, sum);
        }
        running.top = top;
        let (out, _) = running.out.as_chunks_mut::<LANES>();
        for row in out {
            row.iter_mut().zip(&keep).for_each(|(out, &keep)| *out *= keep);
        }
    }
}

/// Sets the scores of keys that a lane does not see. Lanes go forward in time, so a key is hidden from the first lanes,
/// for which it is yet to come, and from the last, whose window has passed it.
#[inline(always)]
fn hide_unseen<R: Real>(
    rule: &Attention,
    lanes: Range<usize>,
    keys: Range<usize>,
    scores: &mut [[R; LANES]],
    value: R,
) {
    let (group, earlier) = (rule.group(), rule.keys - rule.queries);
    // The first lane of this block at or after a position.
    let lane_at =
        |position: usize| (position.saturating_sub(earlier) * group).clamp(lanes.start, lanes.end) - lanes.start;
    for (key, row) in keys.zip(scores) {
        if rule.causal {
            row[..lane_at(key)].fill(value);
        }
        if let Some(window) = rule.window {
            row[lane_at(key + window.max(1))..].fill(value);
        }
    }
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
    let task_tokens = (TASK_LANES / rule.group()).max(1);
    let mut tasks = Vec::new();
    for (i, (out, lse)) in rule.split_queries(out).into_iter().zip(lse.chunks_mut(rule.lanes())).enumerate() {
        let shares = out.into_blocks(task_tokens, usize::MAX).into_iter();
        tasks.extend(shares.zip(lse.chunks_mut(task_tokens * rule.group())).map(|(out, lse)| (i, out, lse)));
    }
    map_tasks(tasks, |(i, (first_token, _, mut out), lse)| {
        let (batch, head) = (i / rule.kv_heads, i % rule.kv_heads);
        if rule.lanes() <= FEW_LANES {
            let (k, v) = (rule.head(k, batch, head), rule.head(v, batch, head));
            for (lane, lse) in lse.iter_mut().enumerate() {
                let query = &q[rule.place(batch, head, lane)..][..rule.head_dim];
                let (token, member) = (lane / rule.group(), lane % rule.group());
                let out = &mut out.row_mut(token)[member * rule.head_dim..][..rule.head_dim];
                *lse = one_lane(rule, query, k, v, rule.seen(lane), out);
            }
            return;
        }
        let (k, v) = (Packed::by_key(rule.head(k, batch, head)), Packed::by_element(rule.head(v, batch, head)));
        let first = first_token * rule.group();
        let mut scores = vec![R::ZERO; BLOCK_KEYS * LANES];
        for start in (0..lse.len()).step_by(LANES) {
            let end = lse.len().min(start + LANES);
            let lanes = first + start..first + end;
            let query = gather(rule, q, batch, head, &lanes, R::from_f64(rule.scale));
            let running = forward_block(rule, &query, &k, &v, lanes, &mut scores);
            finish_block(rule, &running, &mut out, start, &mut lse[start..end]);
        }
    });
}

vectorised! {
    /// Attention of one query, without packing: as fast as its keys and values are read. Returns the log-sum-exp.
    fn one_lane<R: Real>(
        rule: &Attention,
        query: &[R],
        k: MatRef<'_, R>,
        v: MatRef<'_, R>,
        seen: Range<usize>,
        out: &mut [R],
    ) -> R {
        let scale = R::from_f64(rule.scale);
        let mut weights = vec![R::ZERO; seen.len()];
        for (key, weight) in seen.clone().zip(&mut weights) {
            *weight = scale * dot(query, k.row(key));
        }
        if let Some(cap) = rule.softcap {
            let (cap, inverse) = (R::from_f64(cap), R::from_f64(1.0 / cap));
            weights.iter_mut().for_each(|x| *x = cap * (*x * inverse).tanh());
        }
        let top = maximum(&weights);
        weights.iter_mut().for_each(|x| *x = (*x - top).exp());
        let sum = lane_sum([weights.as_slice()], |[x], sum| sum + x);
        out.fill(R::ZERO);
        for (key, &weight) in seen.zip(&weights) {
            out.iter_mut().zip(v.row(key)).for_each(|(out, &v)| *out = weight.mul_add(v, *out));
        }
        let inverse = R::ONE / sum;
        out.iter_mut().for_each(|out| *out *= inverse);
        top + sum.ln()
    }
}

/// Attention of one block of scaled query lanes over all the keys that they see.
fn forward_block<R: Real>(
    rule: &Attention,
    query: &[R],
    k: &Packed<R>,
    v: &Packed<R>,
    lanes: Range<usize>,
    scores: &mut [R],
) -> Running<R> {
    let dim = rule.head_dim;
    let cols = lanes.len();
    let mut running = Running { top: [R::NEG_INFINITY; LANES], sum: [R::ZERO; LANES], out: vec![R::ZERO; dim * LANES] };
    for keys in rule.key_blocks(&lanes) {
        let depth = BLOCK_KEYS.min(rule.keys - keys.start);
        let to = MatMut::with_stride(scores, keys.len(), cols, LANES);
        product(R::ONE, k.at(keys.start), dim, query, LANES, to, Write::Set);
        let weights = &mut scores[..depth * LANES];
        weights[keys.len() * LANES..].fill(R::ZERO);
        online_softmax(rule, lanes.clone(), keys.clone(), &mut weights[..keys.len() * LANES], &mut running);
        let to = MatMut::with_stride(&mut running.out, dim, cols, LANES);
        product(R::ONE, v.at(keys.start), depth, weights, LANES, to, Write::Add);
    }
    running
}

/// Divides by the sums and puts the lanes where they belong; lane 0 of the block is lane `start` of the task.
fn finish_block<R: Real>(rule: &Attention, running: &Running<R>, out: &mut MatMut<'_, R>, start: usize, lse: &mut [R]) {
    let (group, dim) = (rule.group(), rule.head_dim);
    for (i, lse) in lse.iter_mut().enumerate() {
        let (token, member) = ((start + i) / group, (start + i) % group);
        let inverse = R::ONE / running.sum[i];
        let to = &mut out.row_mut(token)[member * dim..(member + 1) * dim];
        to.iter_mut().zip(running.out[i..].iter().step_by(LANES)).for_each(|(to, &x)| *to = x * inverse);
        *lse = running.top[i] + running.sum[i].ln();
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
        let keys = KeyHead::new(rule.head(saved.k, batch, head), rule.head(saved.v, batch, head));
        for start in (0..rule.lanes()).step_by(LANES) {
            let lanes = start..rule.lanes().min(start + LANES);
            let block = LaneBlock::new(rule, &saved, dout, batch, head, lanes);
            block.backward(rule, &keys, &mut dq, &mut dk, &mut dv);
        }
    });
}

/// Keys and values of one head, packed for the three products of the backward pass that they enter.
struct KeyHead<R> {
    k: Packed<R>,
    v: Packed<R>,
    k_by_element: Packed<R>,
}

impl<R: Real> KeyHead<R> {
    fn new(k: MatRef<'_, R>, v: MatRef<'_, R>) -> Self {
        KeyHead { k: Packed::by_key(k), v: Packed::by_key(v), k_by_element: Packed::by_element(k) }
    }
}

/// A block of lanes in the backward pass.
struct LaneBlock<R> {
    lanes: Range<usize>,
    /// Scaled queries and output gradients, `[head_dim, LANES]`.
    query: Vec<R>,
    dout: Vec<R>,
    /// The same, `[LANES, head_dim]` in rows of a whole number of [`COLS`].
    query_rows: Vec<R>,
    dout_rows: Vec<R>,
    lse: [R; LANES],
    /// `Σ dout·out` per lane: what the softmax's gradient subtracts.
    delta: [R; LANES],
}

impl<R: Real> LaneBlock<R> {
    fn new(
        rule: &Attention,
        saved: &AttentionSaved<'_, R>,
        dout: &[R],
        batch: usize,
        head: usize,
        lanes: Range<usize>,
    ) -> Self {
        let columns = |data: &[R], factor| gather(rule, data, batch, head, &lanes, factor);
        let query = columns(saved.q, R::from_f64(rule.scale));
        let (out, dout) = (columns(saved.out, R::ONE), columns(dout, R::ONE));
        let delta = lane_dots(&out, &dout);
        let mut lse = [R::ZERO; LANES];
        let first = (batch * rule.kv_heads + head) * rule.lanes();
        lse[..lanes.len()].copy_from_slice(&saved.lse[first + lanes.start..first + lanes.end]);
        let (query_rows, dout_rows) = (transposed(&query, rule.head_dim), transposed(&dout, rule.head_dim));
        LaneBlock { lanes, query, dout, query_rows, dout_rows, lse, delta }
    }

    /// Writes this block's `dq` and adds its share to `dk` and `dv`.
    fn backward<'m>(
        &self,
        rule: &Attention,
        head: &KeyHead<R>,
        dq: &mut MatMut<'_, R>,
        dk: &mut MatMut<'m, R>,
        dv: &mut MatMut<'m, R>,
    ) {
        let (dim, cols) = (rule.head_dim, self.lanes.len());
        let row_stride = dim.next_multiple_of(COLS);
        let mut dquery = vec![R::ZERO; dim * LANES];
        let [mut weights, mut grads] = [(); 2].map(|()| vec![R::ZERO; BLOCK_KEYS * LANES]);
        let mut left = vec![R::ZERO; BLOCK_KEYS * LANES];
        for keys in rule.key_blocks(&self.lanes) {
            let count = keys.len();
            let depth = BLOCK_KEYS.min(rule.keys - keys.start);
            let at = |data| MatMut::with_stride(data, count, cols, LANES);
            product(R::ONE, head.k.at(keys.start), dim, &self.query, LANES, at(&mut weights), Write::Set);
            product(R::ONE, head.v.at(keys.start), dim, &self.dout, LANES, at(&mut grads), Write::Set);
            let used = count * LANES;
            score_grads(rule, self, keys.clone(), &mut weights[..used], &mut grads[..used]);
            grads[used..depth * LANES].fill(R::ZERO);
            for (scores, rows, to) in [(&weights, &self.dout_rows, &mut *dv), (&grads, &self.query_rows, &mut *dk)] {
                pack_left(MatRef::with_stride(scores, count, cols, LANES), &mut left);
                let to = to.block_mut(keys.start, 0, count, dim);
                product(R::ONE, &left, cols, rows, row_stride, to, Write::Add);
            }
            let to = MatMut::with_stride(&mut dquery, dim, cols, LANES);
            let scale = R::from_f64(rule.scale);
            product(scale, head.k_by_element.at(keys.start), depth, &grads, LANES, to, Write::Add);
        }
        for (i, lane) in self.lanes.clone().enumerate() {
            let (token, member) = (lane / rule.group(), lane % rule.group());
            let to = &mut dq.row_mut(token)[member * dim..(member + 1) * dim];
            to.iter_mut().zip(dquery[i..].iter().step_by(LANES)).for_each(|(to, &x)| *to = x);
        }
    }
}

vectorised! {
    /// The dot product of each lane of two `[head_dim, LANES]` blocks.
    fn lane_dots<R: Real>(a: &[R], b: &[R]) -> [R; LANES] {
        let mut sums = [R::ZERO; LANES];
        for (a, b) in a.as_chunks::<LANES>().0.iter().zip(b.as_chunks::<LANES>().0) {
            for ((sum, &a), &b) in sums.iter_mut().zip(a).zip(b) {
                *sum = a.mul_add(b, *sum);
            }
        }
        sums
    }
}

/// `[head_dim, LANES]` as `[LANES, head_dim]`, rows padded to a whole number of [`COLS`].
fn transposed<R: Real>(block: &[R], dim: usize) -> Vec<R> {
    let stride = dim.next_multiple_of(COLS);
    let mut rows = vec![R::ZERO; LANES * stride];
    for (d, column) in block.chunks_exact(LANES).enumerate() {
        rows.iter_mut().skip(d).step_by(stride).zip(column).for_each(|(to, &x)| *to = x);
    }
    rows
}

vectorised! {
    /// Turns scores into weights (in `weights`) and gradients of weights into gradients of scores (in `grads`).
    fn score_grads<R: Real>(
        rule: &Attention,
        block: &LaneBlock<R>,
        keys: Range<usize>,
        weights: &mut [R],
        grads: &mut [R],
    ) {
        let (weights, _) = weights.as_chunks_mut::<LANES>();
        let (grads, _) = grads.as_chunks_mut::<LANES>();
        let cap = rule.softcap.map(|cap| (R::from_f64(cap), R::from_f64(1.0 / cap)));
        for (weights, grads) in weights.iter_mut().zip(grads.iter_mut()) {
            let lanes = weights.iter_mut().zip(grads).zip(block.lse.iter().zip(&block.delta));
            match cap {
                None => lanes.for_each(|((weight, grad), (&lse, &delta))| {
                    *weight = (*weight - lse).exp();
                    *grad = *weight * (*grad - delta);
                }),
                Some((cap, inverse)) => lanes.for_each(|((weight, grad), (&lse, &delta))| {
                    let tanh = (*weight * inverse).tanh();
                    *weight = (cap * tanh - lse).exp();
                    *grad = *weight * (*grad - delta) * (R::ONE - tanh * tanh);
                }),
            }
        }
        hide_unseen(rule, block.lanes.clone(), keys.clone(), weights, R::ZERO);
        hide_unseen(rule, block.lanes.clone(), keys, grads, R::ZERO);
    }
}
