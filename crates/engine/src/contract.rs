//! What every loader expects of an artifact, checked on the reopened files: each weight there once, of its shape and
//! encoding, every block and scale one that an encoder could have written. On the way, each weight is compared with
//! its source: `‖Q − W‖ / ‖W‖`.
//!
//! What the loaders of one format expect beyond that is in [`crate::loader`].
//!
//! Weights go through one at a time per thread, a stretch of rows at a time where their encodings allow.

use codec::{CodecError, Encoding};
use graph::{Model, Role, SourceError, Weight};
use plan::{TensorEntry, encoding_name};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// How an artifact breaks its contract.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ContractError {
    #[error("weight `{weight}` is missing")]
    Missing { weight: String },
    #[error("it has {artifact} weights, the source has {source_weights}")]
    Count { artifact: usize, source_weights: usize },
    #[error("weight `{weight}` has shape {got:?}, the source has {expected:?}")]
    Shape { weight: String, got: Vec<usize>, expected: Vec<usize> },
    #[error("weight `{weight}` is {got}, the plan says {expected}")]
    Encoding { weight: String, got: String, expected: String },
    #[error("weight `{weight}`: {why}")]
    Invalid { weight: String, why: CodecError },
    #[error("weights `{weight}` and `{other}` are joined by servers but have different `{part}`")]
    Fused { weight: String, other: String, part: &'static str },
    #[error("weights `{weight}` and `{other}` are joined by servers but are {encoding} and {other_encoding}")]
    FusedEncodings { weight: String, other: String, encoding: String, other_encoding: String },
    #[error("weight `{weight}` is {encoding}, but loaders expect embeddings and the output head as plain numbers")]
    NotPlain { weight: String, encoding: String },
    #[error("module `{module}` is plain, but the config says that it is packed: it is not on the `ignore` list")]
    NotIgnored { module: String },
    #[error("module `{module}` is packed, but the config's `ignore` list names it")]
    Ignored { module: String },
    #[error("experts of layer {layer} are {encoding} and {other}; loaders expect all alike")]
    Experts { layer: usize, encoding: String, other: String },
    #[error("the input of weight `{weight}` has the scale {number}, which is not a positive number")]
    InputScale { weight: String, number: f32 },
    #[error("weights `{weight}` and `{other}` share an input but not its scale")]
    InputScales { weight: String, other: String },
    #[error("the cache of layer {layer} has no scale, other layers have, or it is not a positive number")]
    CacheScale { layer: usize },
    #[error("the groups of weight `{weight}` are scattered over its columns")]
    Scattered { weight: String },
    #[error("number {index} of weight `{weight}` was {expected:e} and is {got:e}")]
    Number { weight: String, index: usize, expected: f32, got: f32 },
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("its tokenizer turns {what:?} into other ids than the source's; the vocabulary was not carried over")]
    Tokenizer { what: String },
    #[error("its tokenizer does not turn the ids of a text back into the same text as the source's")]
    Detokenizer,
}

/// Elements of a stretch of rows.
const STRETCH: usize = 1 << 18;

/// A weight of the artifact, and the one of the source that it stands for.
pub(crate) struct Pair<'a> {
    source: &'a Arc<Weight>,
    artifact: &'a Arc<Weight>,
    /// To be added to the artifact's numbers: what its norms hold less than the source's.
    shift: f32,
}

/// Finds the counterpart of every weight, in the order of the source, and compares shapes.
pub(crate) fn pairs<'a>(source: &'a Model, artifact: &'a Model) -> Result<Vec<Pair<'a>>, ContractError> {
    let pairs = source.weights.iter().map(|(_, w)| pair(source, artifact, w)).collect::<Result<Vec<_>, _>>()?;
    if artifact.weights.len() != pairs.len() {
        return Err(ContractError::Count { artifact: artifact.weights.len(), source_weights: pairs.len() });
    }
    Ok(pairs)
}

/// By place where the architecture is known: containers spell names differently.
fn pair<'a>(source: &'a Model, artifact: &'a Model, weight: &'a Arc<Weight>) -> Result<Pair<'a>, ContractError> {
    let id = match weight.place.role {
        Role::Other => artifact.weights.find(&weight.name),
        _ => artifact.weights.at(weight.place),
    };
    let id = id.ok_or_else(|| ContractError::Missing { weight: weight.name.clone() })?;
    let found = artifact.weights.get(id);
    if found.shape != weight.shape {
        let (got, expected) = (found.shape.clone(), weight.shape.clone());
        return Err(ContractError::Shape { weight: weight.name.clone(), got, expected });
    }
    let offset = |model: &Model| model.decoder().map_or(0.0, |config| config.norm_offset);
    let shift = if weight.place.role.is_norm() { offset(artifact) - offset(source) } else { 0.0 };
    Ok(Pair { source: weight, artifact: found, shift: shift as f32 })
}

/// Checks every weight and measures its error; `planned` holds the encodings that the plan says, in the same order.
pub(crate) fn check(
    pairs: &[Pair<'_>],
    planned: Option<&[Encoding]>,
    done: &(dyn Fn(u64) + Sync),
) -> Result<Vec<TensorEntry>, ContractError> {
    let check = |(i, pair): (usize, &Pair<'_>)| {
        if let Some(expected) = planned.and_then(|p| p.get(i)) {
            pair.check_encoding(*expected)?;
        }
        let entry = pair.measure()?;
        done(1);
        Ok(entry)
    };
    pairs.par_iter().enumerate().with_max_len(1).map(check).collect()
}

/// Weights that servers join must agree on the scale that their encoding has for a whole matrix.
pub(crate) fn check_fused(artifact: &Model) -> Result<(), ContractError> {
    for (_, weight) in artifact.weights.iter() {
        let Encoding::Packed(packed) = weight.encoding else { continue };
        let others = artifact.weights.fused(weight).into_iter().filter(|o| o.encoding == weight.encoding);
        for other in others.filter(|o| packed.shares_range() && !Arc::ptr_eq(o, weight)) {
            if global_scale(weight)? != global_scale(other)? {
                let (weight, other) = (weight.name.clone(), other.name.clone());
                return Err(ContractError::Fused { weight, other, part: GLOBAL_SCALE });
            }
        }
    }
    Ok(())
}

/// The part with the one scale of a whole matrix.
const GLOBAL_SCALE: &str = "weight_global_scale";

fn global_scale(weight: &Weight) -> Result<Vec<u8>, ContractError> {
    let invalid = |why| ContractError::Invalid { weight: weight.name.clone(), why };
    let specs = weight.encoding.parts(weight.rows(), weight.cols()).map_err(invalid)?;
    let parts = weight.source.parts()?;
    let found = specs.iter().zip(&parts).find(|(spec, _)| spec.suffix == GLOBAL_SCALE);
    Ok(found.map(|(_, bytes)| bytes.to_vec()).unwrap_or_default())
}

/// Checks every weight of an artifact that there is no source for.
pub(crate) fn check_alone(artifact: &Model, done: &(dyn Fn(u64) + Sync)) -> Result<(), ContractError> {
    check_fused(artifact)?;
    let weights: Vec<_> = artifact.weights.iter().map(|(_, weight)| weight).collect();
    weights.par_iter().with_max_len(1).try_for_each(|weight| {
        each_stretch(weight, &mut |_, _| Ok(()))?;
        done(1);
        Ok(())
    })
}

impl Pair<'_> {
    /// Checks that the artifact's numbers are the source's.
    pub fn same_numbers(&self) -> Result<(), ContractError> {
        let before = self.source.read()?;
        let mut different = None;
        each_stretch(self.artifact, &mut |rows, after| {
            let first = rows.start * self.source.cols();
            let pairs = after.iter().zip(before.get(first..).unwrap_or_default());
            let wrong = |(after, before): (&f32, &f32)| *after != *before - self.shift;
            let at = pairs.clone().position(wrong);
            if let (None, Some((got, expected))) = (&different, at.and_then(|at| pairs.clone().nth(at))) {
                different = Some((first + at.unwrap_or_default(), *expected, *got));
            }
            Ok(())
        })?;
        let weight = || self.source.name.clone();
        different.map_or(Ok(()), |(index, expected, got)| {
            Err(ContractError::Number { weight: weight(), index, expected, got })
        })
    }

    fn check_encoding(&self, expected: Encoding) -> Result<(), ContractError> {
        if self.artifact.encoding == expected {
            return Ok(());
        }
        Err(ContractError::Encoding {
            weight: self.source.name.clone(),
            got: encoding_name(&self.artifact.encoding),
            expected: encoding_name(&expected),
        })
    }

    fn measure(&self) -> Result<TensorEntry, ContractError> {
        let whole = matches!(self.source.encoding, Encoding::Packed(_)).then(|| self.source.read()).transpose()?;
        let (mut error, mut norm) = (0.0, 0.0);
        each_stretch(self.artifact, &mut |rows, q| {
            let cols = self.source.cols();
            let read;
            let w = match &whole {
                Some(all) => &all[rows.start * cols..rows.end * cols],
                None => {
                    read = self.source.read_rows(rows.clone())?;
                    self.source.source.release(rows);
                    &read[..]
                }
            };
            for (q, w) in q.iter().zip(w) {
                let (q, w) = (f64::from(*q + self.shift), f64::from(*w));
                error += (q - w) * (q - w);
                norm += w * w;
            }
            Ok(())
        })?;
        Ok(TensorEntry {
            name: self.source.name.clone(),
            encoding: self.artifact.encoding,
            bytes: self.artifact.bytes()? as u64,
            relative_error: if norm > 0.0 { (error / norm).sqrt() } else { 0.0 },
            fitted: None,
        })
    }
}

/// What to do with rows and their numbers.
type See<'a> = &'a mut dyn FnMut(Range<usize>, &[f32]) -> Result<(), ContractError>;

/// Validates a weight's bytes and decodes them, a stretch of rows at a time where the encoding allows.
fn each_stretch(weight: &Weight, see: See<'_>) -> Result<(), ContractError> {
    let (rows, cols) = (weight.rows(), weight.cols());
    let invalid = |why| ContractError::Invalid { weight: weight.name.clone(), why };
    if let Encoding::Packed(_) = weight.encoding {
        let specs = weight.encoding.parts(rows, cols).map_err(invalid)?;
        let parts = weight.source.parts()?;
        let find =
            |suffix: &str| specs.iter().position(|s| s.suffix == suffix).and_then(|i| parts.get(i)).map(|p| &p[..]);
        weight.encoding.validate(rows, cols, find).map_err(invalid)?;
        let numbers = weight.encoding.decode(rows, cols, find).map_err(invalid)?;
        see(0..rows, &numbers)?;
        weight.source.release(0..rows);
        return Ok(());
    }
    let step = (STRETCH / cols.max(1)).max(1);
    for start in (0..rows).step_by(step) {
        let stretch = start..rows.min(start + step);
        let bytes = weight.source.rows(stretch.clone())?;
        weight.encoding.validate(stretch.len(), cols, |_| Some(&bytes)).map_err(invalid)?;
        let numbers = weight.encoding.decode(stretch.len(), cols, |_| Some(&bytes)).map_err(invalid)?;
        see(stretch.clone(), &numbers)?;
        weight.source.release(stretch);
    }
    Ok(())
}
