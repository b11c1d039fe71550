//! How fast a model generates: the time to the first token, and that of each token after it.

use crate::{EvalError, Running, machine, peak_memory, stats};
use exec::{KvCache, Sampling, Tensor};
use plan::Latency;
use std::time::Instant;

/// Times the greedy continuation of a prompt by `tokens` tokens, at least two. Weights are read from their files
/// before the clock starts if `warm`, else the first token pays for that.
pub fn latency(
    model: &mut Running,
    prompt: &[u32],
    tokens: usize,
    warm: bool,
    compute: &str,
) -> Result<Latency, EvalError> {
    let tokens = tokens.max(2);
    if warm {
        time_tokens(model, prompt, 2)?;
    }
    let seconds = time_tokens(model, prompt, tokens)?;
    let mut after: Vec<f64> = seconds[1..].to_vec();
    after.sort_by(f64::total_cmp);
    Ok(Latency {
        prompt: prompt.len(),
        generated: tokens,
        first_token: seconds[0],
        p50: stats::quantile(&after, 0.5),
        p95: stats::quantile(&after, 0.95),
        p99: stats::quantile(&after, 0.99),
        tokens_per_second: after.len() as f64 / after.iter().sum::<f64>(),
        peak_memory: peak_memory(),
        compute: compute.into(),
        threads: rayon::current_num_threads(),
        machine: machine(),
    })
}

/// Seconds of each token.
fn time_tokens(model: &mut Running, prompt: &[u32], tokens: usize) -> Result<Vec<f64>, EvalError> {
    if prompt.is_empty() {
        return Err(exec::Error::EmptyPrompt.into());
    }
    let executor = model.executor();
    let mut cache = KvCache::new(executor.graph(), 1, prompt.len() + tokens);
    let (mut next, mut seconds) = (prompt.to_vec(), Vec::with_capacity(tokens));
    for _ in 0..tokens {
        let start = Instant::now();
        let logits = executor.prefill(&Tensor::ids(1, next)?, &mut cache)?;
        next = vec![exec::sample(logits.data(), Sampling::Greedy, cache.len())?];
        seconds.push(start.elapsed().as_secs_f64());
    }
    Ok(seconds)
}
