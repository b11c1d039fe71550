//! What the proof runs: the source and the artifact over the same tokens.

use crate::{EngineError, Options, Progress, Unit};
use eval::{Running, Setup};
use exec::{Compute, Residency};
use graph::{DecoderConfig, Model};
use import::tokenizer::Tokenizer;
use plan::{Bytes, Comparison, ProofSpec, Protocol};

/// Text to evaluate on, and what it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// The file's name, for the record.
    pub name: String,
    /// Its contents.
    pub text: String,
}

/// Decoded weights of both models stay resident if they take no more than this, or half of what the user allows.
pub(crate) fn resident(limit: Option<Bytes>) -> u64 {
    limit.map_or(1 << 30, |l| (l.0 / 2).min(1 << 30))
}

/// Bytes of activations that wait between blocks, where weights do not stay.
const WAITING: usize = 32 << 20;

/// Tokens of a window: what is asked for, at most what the model was made for.
pub(crate) fn context(spec: &ProofSpec, config: &DecoderConfig) -> usize {
    spec.context.unwrap_or(512).min(config.context)
}

/// Compares the artifact with its source; `None` where the architecture is unknown.
pub(crate) fn compare(
    source: &Model,
    artifact: &Model,
    tokenizer: &Tokenizer,
    text: &Text,
    spec: &ProofSpec,
    options: &Options<'_>,
    progress: &dyn Progress,
) -> Result<Option<Comparison>, EngineError> {
    let (Some(config), Some(of_source), Some(of_artifact)) = (source.decoder(), source.graph(), artifact.graph())
    else {
        return Ok(None);
    };
    let mut ids = tokenizer.encode(&text.text)?;
    ids.truncate(spec.tokens.unwrap_or(usize::MAX));
    let context = context(spec, config);
    let (residency, together) = residency(source, context, options.max_memory);
    let running = exec::Options { compute: options.compute, residency };
    let mut reference = Running::new(of_source, &source.weights, running)?;
    let mut model = Running::new(of_artifact, &artifact.weights, running)?;
    let setup = Setup {
        bos: tokenizer.bos().filter(|_| tokenizer.add_bos()),
        compute: compute_name(options.compute).into(),
        seed: options.seed,
        together,
        ..Setup::new(&text.name, Protocol::Llama { context })
    };
    progress.begin("evaluate", ids.len() as u64 / 2, Unit::Tokens);
    let result = eval::compare(&mut reference, &mut model, &ids, &setup, &mut |tokens| progress.advance(tokens));
    progress.end();
    Ok(Some(result?))
}

/// Everything resident where that is little; else a block at a time, for as many windows as may wait.
fn residency(model: &Model, context: usize, limit: Option<Bytes>) -> (Residency, usize) {
    let hidden = model.decoder().map_or(1, |c| c.hidden);
    let windows = (WAITING / (4 * hidden * context).max(1)).max(1);
    match plan::decoded_bytes(model) <= resident(limit) {
        true => (Residency::All, 1),
        false => (Residency::Block, windows),
    }
}

fn compute_name(compute: Compute) -> &'static str {
    match compute {
        Compute::F32 => "f32",
        Compute::Bf16 => "bf16",
    }
}
