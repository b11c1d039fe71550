//! How an artifact is to be run beside its weights: inputs of linear layers and cached keys and values in eight bits. Scales
//! that servers do not find themselves are found here, on the calibration text, in the model as it was compressed.

use crate::{Calibration, EngineError, Options, Progress, Unit};
use calib::{Magnitudes, magnitudes};
use codec::Encoding;
use graph::{CacheScales, InputQuant, Model, Op, RunQuant, WeightId};
use import::Imported;
use plan::preset::Preset;
use plan::{Container, Note, Plan};
use std::collections::BTreeMap;

/// How inputs are quantized, where the mix says so.
fn input(plan: &Plan) -> Option<InputQuant> {
    match plan.mix.parse() {
        Ok(Preset::Pack(pack)) => pack.input(),
        _ => None,
    }
}

/// Fails where the artifact cannot say how it is to be run, or there is no text to learn it from.
pub(crate) fn check(plan: &Plan, options: &Options<'_>) -> Result<(), EngineError> {
    let cache = plan.recipe.output.kv_cache.is_some();
    if cache && plan.container != Container::CompressedTensors {
        return Err(EngineError::CacheScales { container: plan.container });
    }
    let calibrated = input(plan).is_some_and(|input| input.number().is_some());
    match options.calibration {
        None if calibrated => Err(EngineError::NoScales { of: "inputs" }),
        None if cache => Err(EngineError::NoScales { of: "keys and values" }),
        _ => Ok(()),
    }
}

/// What a folder's writer is given to count its bytes: scales have places, and no values yet.
pub(crate) fn placed(imported: &Imported, plan: &Plan, mut model: Model) -> Imported {
    let layers = model.decoder().map_or(0, |config| config.layers.len());
    let cached = if plan.recipe.output.kv_cache.is_some() { layers } else { 0 };
    let cache = (0..cached).map(|layer| (layer, CacheScales { key: 1.0, value: 1.0 })).collect();
    let inputs = inputs(plan, &model).into_iter().map(|(id, input)| (id, input.calibrated(1.0))).collect();
    model.weights.run = RunQuant { inputs, cache };
    Imported { model, ..imported.clone() }
}

/// Of every packed weight. What a source says of weights that stay as they are holds.
fn inputs(plan: &Plan, model: &Model) -> BTreeMap<WeightId, InputQuant> {
    let Some(input) = input(plan) else { return model.weights.run.inputs.clone() };
    let packed = model.weights.iter().filter(|(_, w)| matches!(w.encoding, Encoding::Packed(_)));
    packed.map(|(id, _)| (id, input)).collect()
}

/// Says in the model how it is to be run.
pub(crate) fn serve(
    plan: &Plan,
    model: &mut Model,
    calibration: Option<&Calibration>,
    progress: &dyn Progress,
) -> Result<Vec<Note>, EngineError> {
    if plan.tensors.iter().any(|t| t.from != t.to) {
        model.weights.run = RunQuant::default();
    }
    let mut inputs = inputs(plan, model);
    let learns = inputs.values().any(|input| input.number() == Some(0.0)) || plan.recipe.output.kv_cache.is_some();
    let (true, Some(calibration)) = (learns, calibration) else {
        model.weights.run.inputs = inputs;
        return Ok(Vec::new());
    };
    let found = measured(model, calibration, progress)?;
    let notes = fill(model, &mut inputs, &found);
    model.weights.run.inputs = inputs;
    if plan.recipe.output.kv_cache.is_some() {
        let scales = |(key, value): (f32, f32)| CacheScales { key: scale(key), value: scale(value) };
        model.weights.run.cache = found.caches.into_iter().map(|(slot, most)| (slot, scales(most))).collect();
    }
    Ok(notes)
}

/// The scale in E4M3 of numbers of this magnitude.
fn scale(magnitude: f32) -> f32 {
    InputQuant::Fp8 { scale: 0.0 }.calibrated(magnitude).number().unwrap_or(1.0)
}

fn measured(model: &Model, calibration: &Calibration, progress: &dyn Progress) -> Result<Magnitudes, EngineError> {
    let (Some(graph), Some(config)) = (model.graph(), model.decoder()) else {
        return Err(EngineError::NoScales { of: "inputs" });
    };
    progress.begin("find scales of inputs", graph.blocks().len() as u64, Unit::Blocks);
    let done = &mut || progress.advance(1);
    let found = magnitudes(graph, &model.weights, config.vocab, &calibration.windows, done);
    progress.end();
    Ok(found?)
}

/// Gives every input its scale; experts that no token reached get that of the others.
fn fill(model: &Model, inputs: &mut BTreeMap<WeightId, InputQuant>, found: &Magnitudes) -> Vec<Note> {
    let mut notes = Vec::new();
    for (id, input) in inputs.iter_mut() {
        let own = found.inputs.get(id).copied().unwrap_or_default();
        let most = if own > 0.0 { own } else { of_others(model, *id, found) };
        *input = input.calibrated(most);
        if own == 0.0 {
            let what = "no token of the calibration text reached it: its inputs have the scale of the other experts'";
            notes.push(Note { weight: Some(model.weights.get(*id).name.clone()), what: what.into() });
        }
    }
    notes
}

/// The largest magnitude among the same matrices of the other experts.
fn of_others(model: &Model, id: WeightId, found: &Magnitudes) -> f32 {
    let nodes = model.graph().map_or(&[][..], |graph| graph.nodes());
    let experts = nodes.iter().filter_map(|node| match &node.op {
        Op::MoeExperts(op) => Some(&op.experts),
        _ => None,
    });
    let alike = |pick: fn(&graph::ops::Expert) -> WeightId| {
        let all = experts.clone().map(move |experts| experts.iter().map(pick).collect::<Vec<_>>());
        all.filter(|all| all.contains(&id)).flatten()
    };
    let all = alike(|e| e.gate).chain(alike(|e| e.up)).chain(alike(|e| e.down));
    all.filter_map(|id| found.inputs.get(&id).copied()).fold(0.0, f32::max)
}
