//! The proof: an artifact is opened as any user would open it, checked, and run against its source.

use crate::provenance::{files_below, total_bytes};
use crate::{EngineError, Options, Progress, Unit, contract, quality};
use codec::Encoding;
use contract::ContractError;
use graph::Model;
use import::Imported;
use import::tokenizer::Tokenizer;
use plan::{Check, Proof, ProofSpec, TensorEntry};
use std::path::{Path, PathBuf};

/// What an artifact was made of.
pub(crate) struct Source<'a> {
    /// What it is measured against.
    pub reference: &'a Model,
    pub tokenizer: &'a Tokenizer,
    /// What the artifact's weights should be: the source's, but for transforms and steps.
    pub target: &'a Model,
}

/// What tokenizers are compared on where there is no other text: letters, digits, white space, other scripts, symbols.
pub(crate) const SAMPLE: &str = "The quick brown fox, 1234567890 times!\n\n\tdef f(x):  return x**2 \u{2014} na\u{ef}ve \u{4f60}\u{597d} \u{1f600} don't I'll";
/// Characters of an evaluation text that tokenizers are compared on.
const SAMPLE_CHARS: usize = 20_000;

/// Opens, checks and measures the artifact at `path`. `planned` holds the encoding of every weight of the source.
pub(crate) fn prove(
    source: &Source<'_>,
    path: &Path,
    planned: Option<&[Encoding]>,
    spec: &ProofSpec,
    options: &Options<'_>,
    progress: &dyn Progress,
) -> Result<(Proof, Vec<TensorEntry>), EngineError> {
    let broken = |source| EngineError::Contract { artifact: path.into(), source };
    let artifact = import::open(path).map_err(|source| EngineError::Reopen { artifact: path.into(), source })?;
    let (from, to) = (source.reference, &artifact.model);
    let pairs = contract::pairs(source.target, to).map_err(broken)?;
    contract::check_fused(to).map_err(broken)?;
    crate::loader::check(&artifact).map_err(broken)?;
    progress.begin("check weights", pairs.len() as u64, Unit::Weights);
    let tensors = contract::check(&pairs, planned, &|done| progress.advance(done));
    progress.end();
    let tensors = tensors.map_err(broken)?;
    let text = options.text.map_or(SAMPLE, |t| &t.text);
    check_tokenizer(source.tokenizer, &artifact.tokenizer()?, text).map_err(broken)?;
    let quality = match options.text {
        Some(text) => quality::compare(from, to, source.tokenizer, text, spec, options, progress)?,
        None => None,
    };
    let bytes = artifact_bytes(path, &artifact)?;
    let count = format!("{} weights", tensors.len());
    let check = |name: &str, over: &str| Check { name: name.into(), over: over.into() };
    let checks = vec![
        check("names, shapes and encodings", &count),
        check("blocks and scales valid, numbers finite", &count),
        check("tokenizer: the same ids and text", &format!("{} characters", sample(text).chars().count())),
    ];
    let bpw = bytes as f64 * 8.0 / source.target.parameters().max(1) as f64;
    Ok((Proof { checks, bpw, bytes, quality, asked: spec.clone() }, tensors))
}

/// Bytes of an artifact's files: all of a folder, or all files of a split.
pub(crate) fn artifact_bytes(path: &Path, artifact: &Imported) -> Result<u64, EngineError> {
    let files: Vec<PathBuf> = if path.is_dir() { files_below(path)? } else { artifact.files.clone() };
    Ok(total_bytes(&files))
}

/// Both tokenizers must give the same ids for a text, and the same text for these ids.
pub(crate) fn check_tokenizer(source: &Tokenizer, artifact: &Tokenizer, text: &str) -> Result<(), ContractError> {
    for what in [SAMPLE, sample(text)] {
        let (expected, got) = (encode(source, what)?, encode(artifact, what)?);
        if expected != got {
            let what = what.chars().take(40).collect();
            return Err(ContractError::Tokenizer { what });
        }
        if decode(source, &expected)? != decode(artifact, &expected)? {
            return Err(ContractError::Detokenizer);
        }
    }
    Ok(())
}

fn encode(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>, ContractError> {
    tokenizer.encode_with_special(text).map_err(|_| ContractError::Tokenizer { what: text.chars().take(40).collect() })
}

fn decode(tokenizer: &Tokenizer, ids: &[u32]) -> Result<String, ContractError> {
    tokenizer.decode(ids).map_err(|_| ContractError::Detokenizer)
}

fn sample(text: &str) -> &str {
    let end = text.char_indices().nth(SAMPLE_CHARS).map_or(text.len(), |(at, _)| at);
    &text[..end]
}
