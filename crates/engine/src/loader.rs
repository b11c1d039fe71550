//! What the loaders of folders expect beyond sound weights, checked on the reopened artifact.
//!
//! | | who |
//! |---|---|
//! | q, k, v and gate, up packed alike | vLLM, SGLang join them |
//! | the scales of their input the same | vLLM takes one |
//! | embeddings and head plain | all |
//! | a plain linear layer on `ignore`, a packed one not | compressed-tensors |
//! | experts of a layer alike | vLLM stacks them |
//! | scales of inputs and caches positive; of caches for every layer | vLLM; a missing one loads as garbage |
//! | groups are runs of columns | all but GPTQ with `g_idx` |
//!
//! Zero points need no check of their own: importers read them by the convention that the config names, and every number
//! is compared.

use crate::contract::ContractError;
use codec::Encoding;
use formats::hf::QuantizationConfig;
use formats::hf::quantization::Format;
use graph::{Model, Role, Weight};
use import::{Imported, Kind};
use std::collections::BTreeMap;

/// Checks an artifact; a GGUF file has nothing of this.
pub(crate) fn check(artifact: &Imported) -> Result<(), ContractError> {
    let model = &artifact.model;
    if artifact.kind != Kind::HuggingFace || !model.weights.iter().any(|(_, w)| is_packed(w)) {
        return Ok(());
    }
    if let Some(weight) = artifact.scattered.first() {
        return Err(ContractError::Scattered { weight: weight.clone() });
    }
    for (_, weight) in model.weights.iter() {
        check_plain(weight)?;
        check_fused(model, weight)?;
    }
    check_experts(model)?;
    check_running(model)?;
    check_ignored(artifact)
}

fn is_packed(weight: &Weight) -> bool {
    matches!(weight.encoding, Encoding::Packed(_))
}

fn check_plain(weight: &Weight) -> Result<(), ContractError> {
    match weight.place.role {
        Role::TokenEmbed | Role::OutputHead if is_packed(weight) => {
            Err(ContractError::NotPlain { weight: weight.name.clone(), encoding: weight.encoding.to_string() })
        }
        _ => Ok(()),
    }
}

/// Whether a weight's zero points are all in the middle is no difference to a loader.
fn alike(a: &Weight, b: &Weight) -> bool {
    let any = |encoding| match encoding {
        Encoding::Packed(codec::Packed::Int { bits, per, scale, .. }) => {
            Encoding::Packed(codec::Packed::Int { bits, per, scale, symmetric: true })
        }
        Encoding::Plain(_) => Encoding::Plain(codec::Dtype::F32),
        other => other,
    };
    any(a.encoding) == any(b.encoding)
}

fn check_fused(model: &Model, weight: &Weight) -> Result<(), ContractError> {
    match model.weights.fused(weight).into_iter().find(|other| !alike(weight, other)) {
        None => Ok(()),
        Some(other) => Err(ContractError::FusedEncodings {
            weight: weight.name.clone(),
            other: other.name.clone(),
            encoding: weight.encoding.to_string(),
            other_encoding: other.encoding.to_string(),
        }),
    }
}

fn check_experts(model: &Model) -> Result<(), ContractError> {
    let mut first: BTreeMap<(usize, Role), &Weight> = BTreeMap::new();
    for (_, weight) in model.weights.iter() {
        let (Some(layer), Some(_)) = (weight.place.layer, weight.place.expert) else { continue };
        let other = *first.entry((layer, weight.place.role)).or_insert(weight);
        if !alike(weight, other) {
            let (encoding, other) = (other.encoding.to_string(), weight.encoding.to_string());
            return Err(ContractError::Experts { layer, encoding, other });
        }
    }
    Ok(())
}

/// Scales of inputs and of the cache.
fn check_running(model: &Model) -> Result<(), ContractError> {
    let run = &model.weights.run;
    let good = |number: f32| number.is_finite() && number > 0.0;
    for (id, input) in &run.inputs {
        let weight = model.weights.get(*id);
        if let Some(number) = input.number().filter(|number| !good(*number)) {
            return Err(ContractError::InputScale { weight: weight.name.clone(), number });
        }
        for other in model.weights.fused(weight) {
            let theirs = model.weights.find(&other.name).and_then(|id| run.inputs.get(&id));
            if theirs != Some(input) {
                return Err(ContractError::InputScales { weight: weight.name.clone(), other: other.name.clone() });
            }
        }
    }
    let layers = model.decoder().map_or(0, |config| config.layers.len());
    let scaled = |layer: &usize| run.cache.get(layer).is_some_and(|s| good(s.key) && good(s.value));
    match (0..layers).find(|layer| !run.cache.is_empty() && !scaled(layer)) {
        Some(layer) => Err(ContractError::CacheScale { layer }),
        None => Ok(()),
    }
}

/// The `ignore` list of compressed-tensors names what is plain, and nothing else.
fn check_ignored(artifact: &Imported) -> Result<(), ContractError> {
    let Some(config) = artifact.config.get("quantization_config").filter(|c| c.get("config_groups").is_some()) else {
        return Ok(());
    };
    let Ok(config) = serde_json::from_value::<QuantizationConfig>(config.clone()) else { return Ok(()) };
    let by_class = config.config_groups.values().any(|g| g.targets.iter().any(|t| t == "Linear"));
    let named = |module: &str| config.ignore.iter().any(|name| name == module);
    let patterns = config.ignore.iter().any(|name| name.starts_with("re:") || name == "Linear");
    if config.format == Format::Dense || patterns {
        return Ok(());
    }
    for (_, weight) in artifact.model.weights.iter().filter(|(_, w)| w.shape.len() == 2 && !w.place.bias) {
        let module = weight.name.strip_suffix(".weight").unwrap_or(&weight.name);
        let linear = !matches!(weight.place.role, Role::TokenEmbed | Role::Other);
        match (is_packed(weight), named(module)) {
            (true, true) => return Err(ContractError::Ignored { module: module.into() }),
            (false, false) if by_class && linear => return Err(ContractError::NotIgnored { module: module.into() }),
            _ => {}
        }
    }
    Ok(())
}
