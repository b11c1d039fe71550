//! Text for a proof where the user gives none: what the source model itself says, drawn at temperature 1.
//!
//! It needs no data and fits every model. On it the source's perplexity is about the exponential of its own entropy, so
//! it measures damage, not generalisation.

use crate::{EngineError, Progress, Text, Unit};
use exec::{Executor, KvCache, Options, Sampling, Tensor};
use import::Imported;

/// Sequences drawn together.
const SEQUENCES: usize = 32;
/// Tokens of each, if the model's context is no shorter.
const TOKENS: usize = 256;

/// Draws text from a model. The same seed gives the same text.
pub fn sampled_text(imported: &Imported, seed: u64, progress: &dyn Progress) -> Result<Text, EngineError> {
    let tokenizer = imported.tokenizer()?;
    let (Some(graph), Some(config)) = (imported.model.graph(), imported.model.decoder()) else {
        return Err(EngineError::CannotSample { why: "the architecture is unknown" });
    };
    let start = tokenizer.bos().or(tokenizer.eos());
    let start = start.ok_or(EngineError::CannotSample { why: "it has no token that begins a text" })?;
    let tokens = TOKENS.min(config.context);
    let mut executor =
        Executor::<f32>::new(graph, &imported.model.weights, Options::default()).map_err(eval::EvalError::from)?;
    progress.begin("sample text to measure on", (tokens * SEQUENCES) as u64, Unit::Tokens);
    let drawn = draw(&mut executor, start, tokens, seed, progress);
    progress.end();
    let texts = drawn?.into_iter().map(|ids| tokenizer.decode(&ids)).collect::<Result<Vec<_>, _>>()?;
    Ok(Text { name: format!("text sampled from the source, seed {seed}"), text: texts.join("\n") })
}

/// `SEQUENCES` sequences that begin with `start`, which is left out.
fn draw(
    executor: &mut Executor,
    start: u32,
    tokens: usize,
    seed: u64,
    progress: &dyn Progress,
) -> Result<Vec<Vec<u32>>, EngineError> {
    let mut cache = KvCache::new(executor.graph(), SEQUENCES, tokens);
    let (mut next, mut all) = (vec![start; SEQUENCES], vec![Vec::new(); SEQUENCES]);
    for _ in 0..tokens {
        let ids = Tensor::ids(SEQUENCES, next).map_err(eval::EvalError::from)?;
        let logits = executor.prefill(&ids, &mut cache).map_err(eval::EvalError::from)?;
        let rows = logits.data().chunks_exact(logits.width()).enumerate();
        let one = |(row, logits)| {
            let seed = seed.wrapping_mul(SEQUENCES as u64).wrapping_add(row as u64);
            let sampling = Sampling::Random { temperature: 1.0, top_k: None, top_p: 1.0, seed };
            exec::sample(logits, sampling, cache.len())
        };
        next = rows.map(one).collect::<Result<_, _>>().map_err(eval::EvalError::from)?;
        all.iter_mut().zip(&next).for_each(|(ids, id)| ids.push(*id));
        progress.advance(SEQUENCES as u64);
    }
    Ok(all)
}
