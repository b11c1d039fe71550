//! A Hugging Face folder, its linear layers packed as GPTQ's or AWQ's tools do.
//!
//! What such folders can hold: integers under f16 scales. GPTQ takes 2, 3, 4 and 8 bits, and a config that names one
//! width and group for most modules and lists the others (`dynamic`); AWQ takes 4 bits and one group for all. Modules
//! that stay plain are listed in both. Loaders compute in f16, so the config says `float16`.
//!
//! `quantize_config.json` repeats GPTQ's config for older loaders.
//!
//! Layouts: [`codec::packed::Transposed`]. Sources: AutoGPTQ and GPTQModel `quantization/config.py`, AutoAWQ
//! `models/_config.py`, vLLM's `gptq_utils.py` and `awq.py`.

use crate::folder::{self, Beside, Layout, Named, ignore, set_dtype};
use crate::stream::Parts;
use crate::{ExportError, Progress, Written};
use codec::packed::{Granularity, Integers, ScaleType, Transposed, ZeroPoints};
use codec::{Encoding, Packed, PartSpec};
use formats::hf::{AwqConfig, GptqConfig, Grouping, QUANTIZE_CONFIG};
use graph::Weight;
use import::Imported;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::path::Path;

/// Whose layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// GPTQ's, its zero points stored so.
    Gptq(ZeroPoints),
    /// AWQ's.
    Awq,
}

/// Writes a model, its weights in the encodings that they have, as the new folder `out`.
/// The files of the result are those with tensors.
pub fn write(
    model: &Imported,
    target: Target,
    out: &Path,
    max_shard: u64,
    progress: Progress<'_>,
) -> Result<Written, ExportError> {
    folder::write(&target, model, out, max_shard, progress)
}

impl Target {
    /// How a packed weight lies, and its columns to a group; `None` where there is no place for it.
    fn of(self, packed: Packed) -> Option<(Transposed, Grouping)> {
        let Packed::Int { bits, per, scale: ScaleType::F16, .. } = packed else { return None };
        let group = match per {
            Granularity::Group(size) => Some(size.get() as usize),
            Granularity::Channel => None,
            Granularity::Tensor | Granularity::Block => return None,
        };
        let layout = match self {
            Target::Gptq(zeros) if [2, 3, 4, 8].contains(&bits.get()) => Transposed::Gptq { bits, zeros },
            Target::Awq if bits.get() == 4 => Transposed::Awq,
            _ => return None,
        };
        Some((layout, Grouping { bits, group }))
    }
}

impl Layout for Target {
    fn name(&self) -> &'static str {
        match self {
            Target::Gptq(_) => "a GPTQ folder",
            Target::Awq => "an AWQ folder",
        }
    }

    fn parts(&self, weight: &Weight, packed: Packed) -> Result<Option<Vec<PartSpec>>, ExportError> {
        let Some((layout, Grouping { group, .. })) = self.of(packed) else { return Ok(None) };
        let (rows, cols) = (weight.rows(), weight.cols());
        let groups = cols.div_ceil(group.unwrap_or(cols).max(1));
        let parts = layout.parts(rows, cols, groups, ScaleType::F16);
        Ok(Some(parts.map_err(|source| self.error(weight, source))?.to_vec()))
    }

    fn bytes<'a>(&self, weight: &Weight, packed: Packed, parts: Parts<'a>) -> Result<Parts<'a>, ExportError> {
        let Some((layout, _)) = self.of(packed) else { return Ok(parts) };
        let (rows, cols) = (weight.rows(), weight.cols());
        let repack = |source| ExportError::Repack { weight: weight.name.clone(), source };
        let specs = packed.parts(rows, cols).map_err(|e| repack(e.into()))?;
        let find =
            |suffix: &str| specs.iter().position(|s| s.suffix == suffix).and_then(|i| parts.get(i)).map(|p| &p[..]);
        let integers = Integers::read(Encoding::Packed(packed), rows, cols, &find).map_err(repack)?;
        let tensors = layout.write(&integers, ScaleType::F16).map_err(|source| self.error(weight, source))?;
        Ok(tensors.into_iter().map(Cow::Owned).collect())
    }

    fn beside(&self, _: &Imported, _: &[Named<'_>]) -> Result<Vec<Beside>, ExportError> {
        Ok(vec![])
    }

    fn configure(
        &self,
        _: &Imported,
        weights: &[Named<'_>],
        config: &mut Map<String, Value>,
    ) -> Result<Vec<(&'static str, Value)>, ExportError> {
        set_dtype(config, "float16");
        let plain: Vec<String> = ignore(weights).into_iter().filter(|module| !module.ends_with("lm_head")).collect();
        let groupings = weights.iter().filter_map(|w| Some((w, self.of(w.packed()?)?.1)));
        let groupings: Vec<(&Named<'_>, Grouping)> = groupings.collect();
        let Some(usual) = most_frequent(&groupings) else { return Ok(vec![]) };
        let quantization = match self {
            Target::Gptq(zeros) => gptq(*zeros, usual, weights, &groupings, &plain).to_json(),
            Target::Awq => {
                if let Some((weight, _)) = groupings.iter().find(|(_, g)| *g != usual) {
                    let (weight, encoding) = (weight.name.clone(), weight.weight.encoding);
                    return Err(ExportError::OneGroup { weight, encoding, container: self.name() });
                }
                AwqConfig { group: usual.group }.to_json(&plain)
            }
        };
        config.insert("quantization_config".into(), quantization.clone());
        Ok(if *self == Target::Awq { vec![] } else { vec![(QUANTIZE_CONFIG, quantization)] })
    }

    /// Whether zero points are all in the middle is read from them.
    fn same(&self, written: Encoding, read: Encoding) -> bool {
        let any = |encoding| match encoding {
            Encoding::Packed(Packed::Int { bits, per, scale, .. }) => {
                Encoding::Packed(Packed::Int { bits, per, scale, symmetric: true })
            }
            other => other,
        };
        any(written) == any(read)
    }
}

impl Target {
    fn error(self, weight: &Weight, source: codec::packed::TransposedError) -> ExportError {
        ExportError::Transposed { weight: weight.name.clone(), container: self.name(), source }
    }
}

fn most_frequent(groupings: &[(&Named<'_>, Grouping)]) -> Option<Grouping> {
    let count = |g: &Grouping| groupings.iter().filter(|(_, other)| other == g).count();
    groupings.iter().rev().map(|(_, g)| *g).max_by_key(count)
}

/// The config: one grouping, and what differs from it.
fn gptq(
    zeros: ZeroPoints,
    usual: Grouping,
    weights: &[Named<'_>],
    groupings: &[(&Named<'_>, Grouping)],
    plain: &[String],
) -> GptqConfig {
    let symmetric = |w: &Named<'_>| !matches!(w.packed(), Some(Packed::Int { symmetric: false, .. }));
    let mut config = GptqConfig::new(usual, zeros, weights.iter().all(symmetric));
    let others = groupings.iter().filter(|(_, g)| *g != usual).map(|(w, g)| (w.module(), Some(*g)));
    for (module, grouping) in others.chain(plain.iter().map(|module| (module.as_str(), None))) {
        for name in [Some(module.to_owned()), joined(module)].into_iter().flatten() {
            let rule = (format!("^{}$", name.replace('.', "\\.")), grouping);
            if !config.dynamic.contains(&rule) {
                config.dynamic.push(rule);
            }
        }
    }
    config
}

/// What servers call the layer that they join a module into.
fn joined(module: &str) -> Option<String> {
    let (before, last) = module.rsplit_once('.')?;
    match last {
        "q_proj" | "k_proj" | "v_proj" => Some(format!("{before}.qkv_proj")),
        "gate_proj" | "up_proj" => Some(format!("{before}.gate_up_proj")),
        _ => None,
    }
}
