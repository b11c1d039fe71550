//! Decoders that lose heads and channels: pruned by the same groups as networks, written as plain numbers, measured against what
//! they were.

use crate::compress::Outcome;
use crate::network::{self, Context};
use crate::staging::Staging;
use crate::{EngineError, Options, Progress, convert, pool, proof, provenance};
use graph::DecoderConfig;
use import::Imported;
use plan::{Counters, Journal, NetworkEntry, Note, Plan, Provenance, Stage, StepEntry, Versus};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Carries out the steps of a plan.
pub(crate) fn compress(
    imported: &Imported,
    plan: &Plan,
    out: &Path,
    options: &Options<'_>,
    progress: &dyn Progress,
) -> Result<Outcome, EngineError> {
    pool(options)?.install(|| run(imported, plan, out, options, progress))
}

fn run(
    imported: &Imported,
    plan: &Plan,
    out: &Path,
    options: &Options<'_>,
    progress: &dyn Progress,
) -> Result<Outcome, EngineError> {
    let sources: Vec<&Path> = imported.files.iter().map(PathBuf::as_path).chain([&*imported.path]).collect();
    let staging = Staging::open(out, &sources, options.replace)?;
    let begun = Instant::now();
    let (pruned, steps) = steps(imported, plan, out, options, progress)?;
    let pruning = begun.elapsed().as_secs_f64();
    let written = convert::write(&pruned, plan.container, &staging.path(), progress)?;
    let tokenizer = imported.tokenizer()?;
    let source = proof::Source { imported, tokenizer: &tokenizer, target: &pruned.model };
    let spec = &plan.recipe.proof;
    let (proof, tensors) = proof::prove(&source, &staging.written()?, None, spec, options, progress)?;
    let violations = proof.quality.as_ref().map_or(Vec::new(), |quality| spec.violations(quality));
    let (before, after) = (Counters::of(&imported.model)?, Counters::of(&pruned.model)?);
    let all = begun.elapsed().as_secs_f64();
    let mut notes: Vec<Note> = written.notes.into_iter().map(|what| Note { weight: None, what }).collect();
    notes.extend(steps.iter().flat_map(|s| s.notes.clone()));
    let stage = |name: &str, seconds| Stage { name: name.into(), seconds };
    let journal = Journal {
        calibration: None,
        provenance: provenance(imported, plan, options, progress)?,
        tensors,
        notes,
        stages: vec![stage(&plan.mix, pruning), stage("write, check and measure", all - pruning)],
        size: Versus { predicted: after.bytes as f64, measured: Some(proof.bytes as f64) },
        memory: Versus { predicted: plan.prediction.memory.0 as f64, measured: eval::peak_memory().map(|b| b as f64) },
        seconds: Versus { predicted: plan.prediction.seconds(), measured: Some(all) },
        proof,
        network: Some(NetworkEntry {
            before,
            after,
            steps,
            layers: Vec::new(),
            difference: None,
            accuracy: None,
            energy: None,
            fusion: None,
        }),
    };
    if !violations.is_empty() {
        let rejected = staging.reject()?;
        return Err(EngineError::Gates { rejected, violations, journal: Box::new(journal) });
    }
    Ok(Outcome { journal, files: staging.commit()? })
}

fn provenance(
    imported: &Imported,
    plan: &Plan,
    options: &Options<'_>,
    progress: &dyn Progress,
) -> Result<Provenance, EngineError> {
    Ok(Provenance {
        tool: concat!("tinier ", env!("CARGO_PKG_VERSION")).into(),
        source: provenance::hashes(&imported.path, &imported.files, progress)?,
        recipe: plan.recipe.to_toml(),
        seed: options.seed,
        threads: options.threads(),
        machine: eval::machine(),
    })
}

/// The decoder after every step, its configuration following.
fn steps(
    imported: &Imported,
    plan: &Plan,
    out: &Path,
    options: &Options<'_>,
    progress: &dyn Progress,
) -> Result<(Imported, Vec<StepEntry>), EngineError> {
    let mut pruned = imported.clone();
    let context = Context::new(imported, options, progress, out);
    let mut entries = Vec::new();
    for step in &plan.recipe.steps {
        let (pass, start) = (step.name(), Instant::now());
        let unsound = |when| move |source| EngineError::Unsound { pass, when, source };
        pruned.model.check().map_err(unsound("before"))?;
        let done = network::run(&mut pruned.model, step, &context)?;
        passes::prune::configure(&mut pruned.model).map_err(|e| EngineError::Pass { pass, source: e.into() })?;
        pruned.model.check().map_err(unsound("after"))?;
        let (after, seconds) = (Counters::of(&pruned.model)?, start.elapsed().as_secs_f64());
        entries.push(done.entry(pass, after, seconds));
    }
    if let (Some(old), Some(new)) = (imported.model.decoder(), pruned.model.decoder()) {
        resize(&mut pruned.config, old, new);
    }
    Ok((pruned, entries))
}

/// Makes a `config.json` say what the decoder has become: numbers that were the old ones become the new ones.
fn resize(config: &mut Map<String, Value>, old: &DecoderConfig, new: &DecoderConfig) {
    let config = match config.get_mut("text_config") {
        Some(Value::Object(text)) => text,
        _ => config,
    };
    let expert = |c: &DecoderConfig| c.experts.as_ref().map_or(c.ffn, |e| e.ffn);
    let sizes = [
        ("num_attention_heads", old.heads, new.heads),
        ("num_key_value_heads", old.kv_heads, new.kv_heads),
        ("moe_intermediate_size", expert(old), expert(new)),
        ("intermediate_size", expert(old), expert(new)),
        ("intermediate_size", old.ffn, new.ffn),
    ];
    for (key, old, new) in sizes {
        if let Some(value) = config.get_mut(key).filter(|value| value.as_u64() == Some(old as u64)) {
            *value = new.into();
        }
    }
    // Loaders divide the width by the heads where nothing is said.
    config.insert("head_dim".into(), new.head_dim.into());
}
