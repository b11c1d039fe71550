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
fn uniform(seed: u64, position: u64) -> f64 {
    let mut z = seed.wrapping_add((position + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

/// Chooses the token at `position` of a text from its logits. Fails where the largest is not a finite number.
pub fn sample<R: Scalar>(logits: &[R], sampling: Sampling, position: usize) -> Result<u32, Error> {
    let mut order: Vec<(u32, f64)> = logits.iter().enumerate().map(|(id, x)| (id as u32, x.to_f64())).collect();
    if order.iter().any(|(_, x)| x.is_nan()) {
        return Err(Error::Logits);
    }
    let best = order.iter().copied().reduce(|best, next| if next.1 > best.1 { next } else { best });
    let Some((best, top)) = best.filter(|(_, top)| top.is_finite()) else { return Err(Error::Logits) };
    let Sampling::Random { temperature, top_k, top_p, seed } = sampling else { return Ok(best) };
    order.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    order.truncate(top_k.unwrap_or(usize::MAX).max(1));
    order.iter_mut().for_each(|(_, x)| *x = ((*x - top) / temperature).exp());
    let total: f64 = order.iter().map(|(_, p)| p).sum();
    let mut reached = 0.0;
    let nucleus = order.iter().take_while(|(_, p)| {
        let before = reached;
        reached += p / total;
        before < top_p
    });
    let nucleus: Vec<_> = nucleus.copied().collect();
    let kept: f64 = nucleus.iter().map(|(_, p)| p).sum();
    let mut left = uniform(seed, position as u64) * kept;
    for (id, p) in &nucleus {
        left -= p;
        if left < 0.0 {
            return Ok(*id);
        }
    }
    Ok(nucleus.last().map_or(best, |(id, _)| *id))
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
