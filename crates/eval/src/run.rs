//! Perplexity of a model, and a model against its reference: window by window, logits in stretches of rows.
//!
//! Sums run over tokens in their order, in f64, so a result does not depend on the number of threads.

use crate::windows::{Window, windows};
use crate::{EvalError, machine, score, stats};
use plan::{Comparison, Conditions, Perplexity, Protocol};
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::ops::Range;

/// A language model that reads windows first and is then asked for rows of its logits, so that nobody holds them all.
pub trait LanguageModel {
    /// What it keeps of a window: enough to make its logits.
    type Hidden;

    /// Length of a row of logits.
    fn vocab(&self) -> usize;

    /// Reads windows together; a model larger than memory goes through its weights once for all of them.
    fn read(&mut self, windows: &[&[u32]]) -> Result<Vec<Self::Hidden>, EvalError>;

    /// Rows of the logits of a window, row-major.
    fn logits(&mut self, hidden: &Self::Hidden, rows: Range<usize>) -> Result<Vec<f32>, EvalError>;
}

/// On what, and how.
#[derive(Clone, Debug)]
pub struct Setup {
    /// What the text is called.
    pub data: String,
    /// How it is cut.
    pub protocol: Protocol,
    /// The id that the model puts before a text, if it does.
    pub bos: Option<u32>,
    /// Type that the model computes in, for the record.
    pub compute: String,
    /// Threads, for the record.
    pub threads: usize,
    /// Seed, for the record: nothing here is drawn.
    pub seed: u64,
    /// Windows that are read together.
    pub together: usize,
}

impl Setup {
    /// Ids of a text under a protocol, without BOS, in f32, a window at a time.
    pub fn new(data: &str, protocol: Protocol) -> Setup {
        let threads = rayon::current_num_threads();
        Setup { data: data.into(), protocol, bos: None, compute: "f32".into(), threads, seed: 0, together: 1 }
    }

    fn conditions(&self, ids: &[u32], scored: usize) -> Conditions {
        let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        Conditions {
            data: self.data.clone(),
            tokens_sha256: Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect(),
            tokens: ids.len(),
            scored,
            protocol: self.protocol,
            bos: self.bos,
            compute: self.compute.clone(),
            threads: self.threads,
            seed: self.seed,
            machine: machine(),
        }
    }
}

/// Perplexity of a model over the ids of a text, which come without BOS. `progress` hears of every token scored.
pub fn perplexity<M: LanguageModel>(
    model: &mut M,
    ids: &[u32],
    setup: &Setup,
    progress: &mut dyn FnMut(u64),
) -> Result<Perplexity, EvalError> {
    let cut = windows(ids, setup.bos, setup.protocol)?;
    check_ids(&cut, model.vocab())?;
    let mut nlls = Vec::new();
    for group in cut.chunks(setup.together.max(1)) {
        for (window, hidden) in group.iter().zip(read(model, group)?) {
            for stretch in stretches(window, model.vocab()) {
                let logits = model.logits(&hidden, stretch.clone())?;
                let targets = &window.targets[stretch.start - window.rows.start..];
                let scored: Vec<_> =
                    logits.par_chunks(model.vocab()).zip(targets).map(|(row, t)| score::nll(row, *t)).collect();
                progress(scored.len() as u64);
                extend(&mut nlls, scored)?;
            }
        }
    }
    let nll = stats::mean(nlls.iter().copied());
    Ok(Perplexity { perplexity: stats::exp(nll), nll, conditions: setup.conditions(ids, nlls.len()) })
}

/// A model against its reference over the ids of a text, which come without BOS. `progress` hears of every token scored.
pub fn compare<R: LanguageModel, M: LanguageModel>(
    reference: &mut R,
    model: &mut M,
    ids: &[u32],
    setup: &Setup,
    progress: &mut dyn FnMut(u64),
) -> Result<Comparison, EvalError> {
    let vocab = reference.vocab();
    if vocab != model.vocab() {
        return Err(EvalError::Vocabulary { reference: vocab, model: model.vocab() });
    }
    let cut = windows(ids, setup.bos, setup.protocol)?;
    check_ids(&cut, vocab)?;
    let mut pairs = Vec::new();
    for group in cut.chunks(setup.together.max(1)) {
        let (of_reference, of_model) = (read(reference, group)?, read(model, group)?);
        for (window, (r, m)) in group.iter().zip(of_reference.iter().zip(&of_model)) {
            for stretch in stretches(window, vocab) {
                let (r, m) = (reference.logits(r, stretch.clone())?, model.logits(m, stretch.clone())?);
                let targets = &window.targets[stretch.start - window.rows.start..];
                let rows = r.par_chunks(vocab).zip(m.par_chunks(vocab)).zip(targets);
                let scored: Vec<_> = rows.map(|((r, m), t)| score::pair(r, m, *t)).collect();
                progress(scored.len() as u64);
                extend(&mut pairs, scored)?;
            }
        }
    }
    Ok(summary(&pairs, setup.conditions(ids, pairs.len())))
}

fn summary(pairs: &[score::Pair], conditions: Conditions) -> Comparison {
    let klds: Vec<f64> = pairs.iter().map(|p| p.kld).collect();
    let ratio = stats::exp(stats::mean(pairs.iter().map(|p| p.model - p.reference)));
    Comparison {
        reference: stats::exp(stats::mean(pairs.iter().map(|p| p.reference))),
        model: stats::exp(stats::mean(pairs.iter().map(|p| p.model))),
        ppl_increase: plan::Estimate { value: ratio.value - 1.0, ..ratio },
        kld: stats::divergence(&klds),
        top1: stats::mean(pairs.iter().map(|p| f64::from(u8::from(p.same_top)))),
        conditions,
    }
}

fn read<M: LanguageModel>(model: &mut M, group: &[Window]) -> Result<Vec<M::Hidden>, EvalError> {
    let ids: Vec<&[u32]> = group.iter().map(|w| &w.ids[..]).collect();
    model.read(&ids)
}

/// Rows whose logits are about eight megabytes; at least sixteen, so that reading the output head is worth it.
fn stretches(window: &Window, vocab: usize) -> impl Iterator<Item = Range<usize>> {
    let (step, end) = (((2 << 20) / vocab.max(1)).max(16), window.rows.end);
    window.rows.clone().step_by(step).map(move |start| start..end.min(start + step))
}

/// A token without a score is an error that says which.
fn extend<T>(all: &mut Vec<T>, scored: Vec<Option<T>>) -> Result<(), EvalError> {
    for score in scored {
        let token = all.len();
        all.push(score.ok_or(EvalError::NotANumber { token })?);
    }
    Ok(())
}

/// Ids beyond the vocabulary come from another model's tokenizer.
fn check_ids(cut: &[Window], vocab: usize) -> Result<(), EvalError> {
    let beyond = |id: &&u32| **id as usize >= vocab;
    match cut.iter().flat_map(|w| w.ids.iter().chain(&w.targets)).find(beyond) {
        Some(id) => Err(EvalError::Id { id: *id, vocab }),
        None => Ok(()),
    }
}
