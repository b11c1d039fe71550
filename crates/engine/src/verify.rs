//! Looking at an artifact again: alone, or against the model that it was made of.

use crate::proof::{Source, artifact_bytes, prove};
use crate::{EngineError, Options, Progress, Unit, contract, pool};
use import::Imported;
use plan::{Check, Proof, ProofSpec, TensorEntry, Violation};
use std::path::Path;

/// What was found.
#[derive(Clone, Debug)]
pub struct Verification {
    /// What was checked and measured.
    pub proof: Proof,
    /// Every weight, where there was a reference to compare with.
    pub tensors: Vec<TensorEntry>,
    /// Bounds that are not kept.
    pub violations: Vec<Violation>,
}

/// Checks an artifact; measures it against `reference` where one is given.
pub fn verify(
    artifact: &Path,
    reference: Option<&Imported>,
    spec: &ProofSpec,
    options: &Options<'_>,
    progress: &dyn Progress,
) -> Result<Verification, EngineError> {
    pool(options)?.install(|| match reference {
        Some(imported) => against(artifact, imported, spec, options, progress),
        None => alone(artifact, spec, progress),
    })
}

fn against(
    artifact: &Path,
    imported: &Imported,
    spec: &ProofSpec,
    options: &Options<'_>,
    progress: &dyn Progress,
) -> Result<Verification, EngineError> {
    let source = Source { reference: &imported.model, tokenizer: &imported.tokenizer()?, target: &imported.model };
    let (proof, tensors) = prove(&source, artifact, None, spec, options, progress)?;
    let violations = proof.quality.as_ref().map_or(Vec::new(), |q| spec.violations(q));
    Ok(Verification { proof, tensors, violations })
}

fn alone(path: &Path, spec: &ProofSpec, progress: &dyn Progress) -> Result<Verification, EngineError> {
    if spec.gated() {
        return Err(EngineError::CannotGate { why: "there is no reference to measure against".into() });
    }
    let artifact = import::open(path)?;
    let weights = artifact.model.weights.len();
    progress.begin("check weights", weights as u64, Unit::Weights);
    let checked = contract::check_alone(&artifact.model, &|done| progress.advance(done));
    progress.end();
    let checked = checked.and_then(|()| crate::loader::check(&artifact));
    checked.map_err(|source| EngineError::Contract { artifact: path.into(), source })?;
    artifact.tokenizer()?;
    let bytes = artifact_bytes(path, &artifact)?;
    let bpw = bytes as f64 * 8.0 / artifact.model.parameters().max(1) as f64;
    let check = |name: &str| Check { name: name.into(), over: format!("{weights} weights") };
    let checks = vec![check("names and shapes"), check("blocks and scales valid, numbers finite")];
    let proof = Proof { checks, bpw, bytes, quality: None, asked: spec.clone() };
    Ok(Verification { proof, tensors: Vec::new(), violations: Vec::new() })
}
