//! Generating text: choosing the next token from its logits, and the loop around it.

use crate::{Error, Executor, KvCache, Scalar, Tensor};

/// How the next token is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sampling {
    /// The most probable one; the lowest id between equals.
    Greedy,
    /// By chance.
    Random {
        /// Divides the logits; above zero.
        temperature: f64,
        /// Only so many of the most probable, if given.
        top_k: Option<usize>,
        /// Only the most probable ones that together reach this probability; 1 for all.
        top_p: f64,
        /// Of the random numbers: the same seed, the same text.
        seed: u64,
    },
}

/// SplitMix64 (Steele et al. 2014): the whole state is the seed, so a token's draw is a function of seed and position.
pub(crate) fn uniform(seed: u64, position: u64) -> f64 {
    let mut z = seed.wrapping_add((position + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

/// Chooses the token at `position` of a text from its logits. Fails where the largest is not a finite number.
pub fn sample<R: Scalar>(logits: &[R], sampling: Sampling, position: usize) -> Result<u32, Error> {
    let mut candidates: Vec<(u32, f64)> = logits.iter().enumerate().map(|(id, x)| (id as u32, x.to_f64())).collect();
    if candidates.iter().any(|(_, x)| x.is_nan()) {
        return Err(Error::Logits);
    }
    let best = candidates.iter().copied().reduce(|best, next| if next.1 > best.1 { next } else { best });
    let Some((best, top)) = best.filter(|(_, top)| top.is_finite()) else { return Err(Error::Logits) };
    let Sampling::Random { temperature, top_k, top_p, seed } = sampling else { return Ok(best) };
    if temperature.is_nan() || temperature <= 0.0 {
        return Err(Error::Temperature(temperature));
    }
    keep_largest(&mut candidates, top_k.unwrap_or(usize::MAX).max(1));
    candidates.iter_mut().for_each(|(_, x)| *x = ((*x - top) / temperature).exp());
    keep_nucleus(&mut candidates, top_p);
    let total: f64 = candidates.iter().map(|(_, p)| p).sum();
    let mut left = uniform(seed, position as u64) * total;
    let drawn = candidates.iter().find(|(_, p)| {
        left -= p;
        left < 0.0
    });
    Ok(drawn.map_or(best, |(id, _)| *id))
}

/// Larger first; the lower id first between equals.
fn by_size(a: &(u32, f64), b: &(u32, f64)) -> std::cmp::Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

/// Keeps the `count` largest.
fn keep_largest(candidates: &mut Vec<(u32, f64)>, count: usize) {
    if count < candidates.len() {
        candidates.select_nth_unstable_by(count, by_size);
        candidates.truncate(count);
    }
    // Whatever order the selection left, draws go by id.
    candidates.sort_unstable_by_key(|(id, _)| *id);
}

/// Keeps the largest that together reach the share `top_p` (Holtzman et al. 2019).
fn keep_nucleus(candidates: &mut Vec<(u32, f64)>, top_p: f64) {
    if top_p >= 1.0 {
        return;
    }
    candidates.sort_unstable_by(by_size);
    let total: f64 = candidates.iter().map(|(_, p)| p).sum();
    let mut reached = 0.0;
    let enough = candidates.iter().position(|(_, p)| {
        reached += p / total;
        reached >= top_p
    });
    candidates.truncate(enough.map_or(candidates.len(), |at| at + 1));
}

/// Continues a prompt by at most `tokens` tokens. Each goes to `on_token`, which says whether to go on.
pub fn generate<R: Scalar>(
    executor: &mut Executor<R>,
    prompt: &[u32],
    tokens: usize,
    sampling: Sampling,
    on_token: &mut dyn FnMut(u32) -> bool,
) -> Result<(), Error> {
    if prompt.is_empty() {
        return Err(Error::EmptyPrompt);
    }
    let mut cache = KvCache::new(executor.graph(), 1, prompt.len() + tokens);
    let mut next = prompt.to_vec();
    for _ in 0..tokens {
        let logits = executor.prefill(&Tensor::ids(1, next)?, &mut cache)?;
        let token = sample(logits.data(), sampling, cache.len())?;
        if !on_token(token) {
            break;
        }
        next = vec![token];
    }
    Ok(())
}
