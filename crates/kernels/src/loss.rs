//! Losses over a vocabulary, fused with their gradients: cross-entropy, and Kullback–Leibler divergence from a reference.
//!
//! Rows of logits are read once for the normaliser (largest element, then a sum of exponentials kept in `f64`) and once
//! for the result; no row of probabilities is ever stored beside the logits.

use crate::parallel::{Rows, map_rows};
use crate::real::Real;
use crate::simd::{lane_sum, maximum, vectorised};
use crate::softmax::{log_sum_exp, rows};

/// A target that counts for nothing: its loss and gradient are zero.
pub const IGNORE: u32 = u32::MAX;

vectorised! {
    fn nll_here<R: Real>(logits: &[R], targets: &[u32], vocab: usize, losses: &mut [f64]) {
        for ((row, &target), loss) in logits.chunks_exact(vocab).zip(targets).zip(losses) {
            *loss = match row.get(target as usize) {
                Some(hit) => log_sum_exp(row) - hit.to_f64(),
                None => 0.0,
            };
        }
    }
}

vectorised! {
    fn nll_grad_here<R: Real>(logits: &mut [R], targets: &[u32], vocab: usize, weight: R, losses: &mut [f64]) {
        for ((row, &target), loss) in logits.chunks_exact_mut(vocab).zip(targets).zip(losses) {
            let Some(hit) = row.get(target as usize).map(|hit| hit.to_f64()) else {
                row.fill(R::ZERO);
                *loss = 0.0;
                continue;
            };
            let top = maximum(row);
            let sum = exponentials(row, top);
            *loss = sum.ln() + top.to_f64() - hit;
            let factor = R::from_f64(weight.to_f64() / sum);
            row.iter_mut().for_each(|x| *x *= factor);
            row[target as usize] -= weight;
        }
    }
}

/// Replaces `x` by `e^{x − top}` and returns the sum.
#[inline(always)]
fn exponentials<R: Real>(x: &mut [R], top: R) -> f64 {
    let mut total = 0.0;
    for block in x.chunks_mut(256) {
        block.iter_mut().for_each(|x| *x = (*x - top).exp());
        total += lane_sum([block], |[x], sum| sum + x).to_f64();
    }
    total
}

fn check_targets(logits: usize, targets: &[u32], vocab: usize, losses: usize) {
    assert!(rows(logits, vocab) == targets.len() && targets.len() == losses, "loss of unlike lengths");
    assert!(targets.iter().all(|&t| t == IGNORE || (t as usize) < vocab), "target outside the vocabulary");
}

/// The negative log-likelihood of each target, in nats: `losses[i] = ln Σ e^{logits[i]} − logits[i][targets[i]]`.
///
/// # Panics
/// When the lengths do not agree or a target is neither in the vocabulary nor [`IGNORE`].
pub fn cross_entropy<R: Real>(logits: &[R], targets: &[u32], vocab: usize, losses: &mut [f64]) {
    check_targets(logits.len(), targets, vocab, losses.len());
    map_rows(targets.len(), Rows::new(losses, 1), Rows::<R>::none(), |rows, losses, _| {
        let logits = &logits[rows.start * vocab..rows.end * vocab];
        nll_here(logits, &targets[rows], vocab, losses);
    });
}

/// [`cross_entropy`], and replaces the logits by the gradient of `weight · Σ losses`: `weight·(softmax − onehot)`.
///
/// # Panics
/// As [`cross_entropy`].
pub fn cross_entropy_grad<R: Real>(logits: &mut [R], targets: &[u32], vocab: usize, weight: R, losses: &mut [f64]) {
    check_targets(logits.len(), targets, vocab, losses.len());
    map_rows(targets.len(), Rows::new(losses, 1), Rows::new(logits, vocab), |rows, losses, logits| {
        nll_grad_here(logits, &targets[rows], vocab, weight, losses);
    });
}

vectorised! {
    fn kl_here<R: Real>(p: &[R], q: &[R], vocab: usize, losses: &mut [f64]) {
        for ((p, q), loss) in p.chunks_exact(vocab).zip(q.chunks_exact(vocab)).zip(losses) {
            *loss = kl_row(p, q, log_sum_exp(p), log_sum_exp(q));
        }
    }
}

/// `Σ p·(ln p − ln q)`: the terms are formed about `e^{−lse}`-normalised values, blocks are summed in `f64`.
#[inline(always)]
fn kl_row<R: Real>(p: &[R], q: &[R], p_norm: f64, q_norm: f64) -> f64 {
    let (p_norm, shift) = (R::from_f64(p_norm), R::from_f64(q_norm - p_norm));
    let mut total = 0.0;
    for (p, q) in p.chunks(256).zip(q.chunks(256)) {
        total += lane_sum([p, q], |[p, q], sum| {
            let probability = (p - p_norm).exp();
            let gap = (p - q) + shift;
            // A token of probability zero adds nothing, even where both logits are minus infinity.
            if probability > R::ZERO { probability.mul_add(gap, sum) } else { sum }
        })
        .to_f64();
    }
    total.max(0.0)
}

/// The divergence of each row of `q` from the reference `p`, both logits: `losses[i] = Σ pᵢ·ln(pᵢ/qᵢ)`, in nats.
///
/// # Panics
/// When the lengths do not agree.
pub fn kl_divergence<R: Real>(p_logits: &[R], q_logits: &[R], vocab: usize, losses: &mut [f64]) {
    assert!(rows(p_logits.len(), vocab) == losses.len() && q_logits.len() == p_logits.len(), "KL of unlike lengths");
    map_rows(losses.len(), Rows::new(losses, 1), Rows::<R>::none(), |rows, losses, _| {
        let span = rows.start * vocab..rows.end * vocab;
        kl_here(&p_logits[span.clone()], &q_logits[span], vocab, losses);
    });
}

vectorised! {
    fn kl_grad_here<R: Real>(p: &[R], q: &mut [R], vocab: usize, weight: R, losses: &mut [f64]) {
        for ((p, q), loss) in p.chunks_exact(vocab).zip(q.chunks_exact_mut(vocab)).zip(losses) {
            let (p_norm, q_norm) = (log_sum_exp(p), log_sum_exp(q));
            *loss = kl_row(p, q, p_norm, q_norm);
            let (p_norm, q_norm) = (R::from_f64(p_norm), R::from_f64(q_norm));
            for (q, &p) in q.iter_mut().zip(p) {
                *q = weight * ((*q - q_norm).exp() - (p - p_norm).exp());
            }
        }
    }
}

/// [`kl_divergence`], and replaces `q_logits` by the gradient of `weight · Σ losses`: `weight·(softmax q − softmax p)`.
///
/// # Panics
/// As [`kl_divergence`].
pub fn kl_divergence_grad<R: Real>(p_logits: &[R], q_logits: &mut [R], vocab: usize, weight: R, losses: &mut [f64]) {
    assert!(rows(p_logits.len(), vocab) == losses.len() && q_logits.len() == p_logits.len(), "KL of unlike lengths");
    map_rows(losses.len(), Rows::new(losses, 1), Rows::new(q_logits, vocab), |rows, losses, q| {
        kl_grad_here(&p_logits[rows.start * vocab..rows.end * vocab], q, vocab, weight, losses);
    });
}
