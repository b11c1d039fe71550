//! From a recipe to a plan: what every weight becomes, or why that cannot be.

use crate::cost::{self, Setting};
use crate::names::meant;
use crate::preset::{Facts, Mix, Pack, Preset};
use crate::units::Bytes;
use crate::{Container, Goal, Method, Plan, PlannedTensor, Recipe, Step, encoding_name, step_names};
use codec::packed::{Granularity, ScaleType};
use codec::{CodecError, Dtype, Encoding, Packed};
use graph::{Body, Model, Weight, WeightId};
use std::collections::BTreeSet;

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum PlanError {
    #[error("the rule `{pattern}` matches no weight (`tinier inspect` lists them){}", meant(suggestion))]
    NothingMatched { pattern: String, suggestion: Option<String> },
    #[error("nothing to do: no weight would change under `{mix}`")]
    NothingChanges { mix: String },
    #[error(
        "presets, rules and sizes are for language models; a network takes steps: give --prune or --int8, or `[[step]]` in a recipe"
    )]
    NoSteps,
    #[error(
        "a decoder that is only pruned is written as plain numbers, not into {0}: take safetensors or gguf, or add a preset"
    )]
    OnlyPruned(Container),
    #[error(
        "`max-kld` looks for the smallest artifact of a model as it is, and this recipe has steps; give a preset or a size"
    )]
    StepsThenDivergence,
    #[error(
        "the weights of a plan with steps are planned again when the steps are done, so they cannot be edited here; write \
         `[[rule]]` into the recipe"
    )]
    StepsEdited,
    #[error("the step `{step}` is for networks (ONNX files), and this is none")]
    NoNetwork { step: &'static str },
    #[error("weight `{tensor}`: {why}")]
    DoesNotFit { tensor: String, why: CodecError },
    #[error(
        "weight `{tensor}` would be {encoding}, which a {container} artifact cannot hold; take another encoding or output format"
    )]
    Container { tensor: String, encoding: String, container: Container },
    #[error("the preset `{preset}` makes {makes} artifacts, the recipe's output is {asked}; change one of them")]
    PresetContainer { preset: Preset, makes: Container, asked: Container },
    #[error("no output format: the recipe has no preset to follow; give `format` under `[output]`")]
    NoContainer,
    #[error(
        "a budget of {asked} is too small: the smallest preset, `{preset}`, needs {needs} ({bpw:.2} bits per weight)"
    )]
    Budget { asked: String, preset: Preset, needs: Bytes, bpw: f64 },
    #[error("a budget of {asked} is too small: the smallest that is possible is {needs} ({bpw:.3} bits per weight)")]
    Smallest { asked: String, needs: Bytes, bpw: f64 },
    #[error("a divergence of {asked} is too small: the least that is possible is about {least:.2e}")]
    LeastDivergence { asked: f64, least: f64 },
    #[error(
        "the smallest artifact of a divergence is found on calibration text, for gguf and compressed-tensors; give \
         --calibration, or a preset"
    )]
    NoSensitivity,
    #[error("no preset that chooses by size makes {0} artifacts; give a preset")]
    NoLadder(Container),
    #[error(
        "weight `{tensor}` cannot be encoded by `{method}`: it is no factor of a product, or stays plain; use `round`"
    )]
    Method { tensor: String, method: Method },
    #[error("the plan is not valid: {message}{note}")]
    Unreadable { message: String, note: String },
    #[error("the plan names the weight `{tensor}`, which the model does not have")]
    Stray { tensor: String },
    #[error("the plan does not say what becomes of weight `{tensor}`")]
    Missing { tensor: String },
    #[error("the plan was made for another model: weight `{tensor}` has another shape or encoding there")]
    OtherModel { tensor: String },
}

/// Presets in falling quality, for a size to choose among. Each is the best of its size in llama.cpp's published
/// tables; the older types (`Q5_1`, `Q4_0`, …) are larger than better ones, and the ternary ones are for models that
/// were trained as such.
const GGUF_LADDER: [Mix; 12] = [
    Mix::F32,
    Mix::BF16,
    Mix::Q8_0,
    Mix::Q6_K,
    Mix::Q5_K_M,
    Mix::Q5_K_S,
    Mix::Q4_K_M,
    Mix::Q4_K_S,
    Mix::IQ4_XS,
    Mix::Q3_K_M,
    Mix::Q3_K_S,
    Mix::Q2_K,
];
const PACK_LADDER: [Pack; 2] = [Pack::W8A16, Pack::W4A16];

/// Resolves a recipe for a model.
pub fn resolve(model: &Model, recipe: &Recipe, setting: &Setting<'_>) -> Result<Plan, PlanError> {
    match (&model.body, recipe.steps.first()) {
        (Body::Network { .. }, _) => return network(model, recipe, setting),
        (Body::Decoder { .. }, Some(_)) => return decoder(model, recipe, setting),
        (_, Some(step)) => return Err(PlanError::NoNetwork { step: step.name() }),
        (_, None) => check_rules(model, recipe)?,
    }
    match recipe.goal {
        Goal::Keep => plan(model, recipe, None, setting),
        Goal::Preset(preset) => plan(model, recipe, Some(preset), setting),
        Goal::Divergence(_) => Err(PlanError::NoSensitivity),
        goal => {
            let (bytes, asked) = goal.budget(model).unwrap_or((u64::MAX, String::new()));
            within(model, recipe, bytes, &asked, setting)
        }
    }
}

/// The plan for a network: its steps decide as they run, so weights stand in it as they are.
fn network(model: &Model, recipe: &Recipe, setting: &Setting<'_>) -> Result<Plan, PlanError> {
    if recipe.steps.is_empty() || recipe.goal != Goal::Keep || !recipe.rules.is_empty() {
        return Err(PlanError::NoSteps);
    }
    as_is(model, recipe, setting)
}

/// A plan in which every weight stands as it is.
fn as_is(model: &Model, recipe: &Recipe, setting: &Setting<'_>) -> Result<Plan, PlanError> {
    let keep = |(_, w): (_, &std::sync::Arc<Weight>)| PlannedTensor::new(w, w.encoding, "as the steps leave it".into());
    let tensors = model.weights.iter().map(keep).collect::<Result<Vec<_>, _>>()?;
    let (container, mix) = (Container::Onnx, step_names(&recipe.steps));
    Ok(planned(model, recipe, container, mix, tensors, setting))
}

/// The plan that these tensors make.
fn planned(
    model: &Model,
    recipe: &Recipe,
    container: Container,
    mix: String,
    tensors: Vec<PlannedTensor>,
    setting: &Setting<'_>,
) -> Plan {
    Plan {
        container,
        mix,
        parameters: model.parameters() as u64,
        prediction: cost::predict(model, &tensors, setting),
        spent: None,
        experts: Vec::new(),
        recipe: recipe.clone(),
        tensors,
    }
}

/// The plan for a decoder that goes through steps. What its weights become behind them is planned again when they are done; until
/// then it stands here for the whole model, where it does not depend on what is left.
fn decoder(model: &Model, recipe: &Recipe, setting: &Setting<'_>) -> Result<Plan, PlanError> {
    if let Some(step) = recipe.steps.iter().find(|step| !matches!(step, Step::Prune(_) | Step::Sparsify(_))) {
        return Err(PlanError::NoNetwork { step: step.name() });
    }
    check_rules(model, recipe)?;
    let behind = match recipe.goal {
        Goal::Divergence(_) => return Err(PlanError::StepsThenDivergence),
        Goal::Preset(preset) => plan(model, recipe, Some(preset), setting)?,
        Goal::Keep if !recipe.rules.is_empty() => plan(model, recipe, None, setting)?,
        Goal::Keep => match recipe.output.format.unwrap_or(Container::Safetensors) {
            container @ (Container::Safetensors | Container::Gguf) => {
                return Ok(Plan { container, ..as_is(model, recipe, setting)? });
            }
            container => return Err(PlanError::OnlyPruned(container)),
        },
        Goal::Bpw(_) | Goal::Size(_) => {
            let (_, mix) = recipe.goal.budget(model).unwrap_or_default();
            let container = recipe.output.format.unwrap_or(Container::Gguf);
            Plan { container, mix, ..as_is(model, recipe, setting)? }
        }
    };
    Ok(Plan { mix: format!("{}-{}", step_names(&recipe.steps), behind.mix), ..behind })
}

/// The first preset of the ladder whose artifact is small enough.
fn within(model: &Model, recipe: &Recipe, bytes: u64, asked: &str, setting: &Setting<'_>) -> Result<Plan, PlanError> {
    let mut smallest: Option<(Preset, Plan)> = None;
    let container = recipe.output.format.unwrap_or(Container::Gguf);
    for preset in ladder(container) {
        let plan = match plan(model, recipe, Some(preset), setting) {
            Err(PlanError::NothingChanges { .. }) => continue,
            plan => plan?,
        };
        if plan.prediction.artifact.0 <= bytes {
            return Ok(plan);
        }
        if smallest.as_ref().is_none_or(|(_, s)| plan.prediction.artifact < s.prediction.artifact) {
            smallest = Some((preset, plan));
        }
    }
    let (preset, plan) = smallest.ok_or(PlanError::NoLadder(container))?;
    Err(PlanError::Budget { asked: asked.into(), preset, needs: plan.prediction.artifact, bpw: plan.bpw() })
}

fn ladder(container: Container) -> Vec<Preset> {
    match container {
        Container::Gguf => GGUF_LADDER.map(Preset::Mix).to_vec(),
        Container::CompressedTensors => PACK_LADDER.map(Preset::Pack).to_vec(),
        Container::Gptq | Container::GptqV2 | Container::Awq | Container::Safetensors | Container::Onnx => Vec::new(),
    }
}

/// The plan of a preset, or of rules alone.
pub(crate) fn plan(
    model: &Model,
    recipe: &Recipe,
    preset: Option<Preset>,
    setting: &Setting<'_>,
) -> Result<Plan, PlanError> {
    let container = container(recipe, preset)?;
    let facts = model.decoder().map(Facts::of).unwrap_or_default();
    let mut tensors = Vec::with_capacity(model.weights.len());
    let factors = factors(model);
    for (id, weight) in model.weights.iter() {
        let mut tensor = decide(recipe, preset, &facts, weight)?;
        if factors.contains(&id) && has_codes(&tensor) {
            tensor.method = recipe.method().on(tensor.to);
        }
        check_container(container, &tensor)?;
        tensors.push(tensor);
    }
    let mix = preset.map_or("keep", Preset::name).to_owned();
    if container != Container::Gguf && tensors.iter().all(|t| t.from == t.to) {
        return Err(PlanError::NothingChanges { mix });
    }
    Ok(planned(model, recipe, container, mix, tensors, setting))
}

/// The matrices that the model multiplies by: the ones that calibration says something of.
pub(crate) fn factors(model: &Model) -> BTreeSet<WeightId> {
    let nodes = model.graph().map_or(&[][..], |graph| graph.nodes());
    nodes.iter().flat_map(|node| node.op.spec().factors()).collect()
}

/// Whether there are codes to choose.
pub(crate) fn has_codes(tensor: &PlannedTensor) -> bool {
    tensor.from != tensor.to && !matches!(tensor.to, Encoding::Plain(_))
}

/// Methods that learn from a matrix's inputs need a matrix that has codes and inputs.
pub(crate) fn check_method(is_factor: bool, tensor: &PlannedTensor) -> Result<(), PlanError> {
    match tensor.method {
        Method::Round => Ok(()),
        _ if is_factor && has_codes(tensor) => Ok(()),
        method => Err(PlanError::Method { tensor: tensor.name.clone(), method }),
    }
}

/// The last rule that matches, else the preset, else what the weight is.
fn decide(recipe: &Recipe, preset: Option<Preset>, facts: &Facts, weight: &Weight) -> Result<PlannedTensor, PlanError> {
    if let Some(rule) = recipe.rules.iter().rev().find(|r| applies(r, weight)) {
        let to = with_scales_of(recipe.output.format, rule.encoding);
        return PlannedTensor::new(weight, to, format!("rule {}", rule.pattern));
    }
    let Some(preset) = preset else {
        let (to, reason) = keep(recipe, facts, weight);
        return PlannedTensor::new(weight, to, reason);
    };
    let to = with_scales_of(recipe.output.format, preset.encoding(facts, weight));
    let kept = if to == weight.encoding { "kept by preset" } else { "preset" };
    let ideal = with_scales_of(recipe.output.format, preset.encoding(facts, &with_long_rows(weight)));
    let tensor = PlannedTensor::new(weight, to, format!("{kept} {preset}"))?;
    Ok(PlannedTensor { instead_of: (ideal != to).then_some(ideal), ..tensor })
}

/// The encoding, its scales as the container stores them: GPTQ and AWQ know f16 only.
fn with_scales_of(container: Option<Container>, encoding: Encoding) -> Encoding {
    match (container, encoding) {
        (Some(Container::Gptq | Container::GptqV2 | Container::Awq), Encoding::Packed(packed)) => {
            Encoding::Packed(packed.following(Dtype::F16))
        }
        _ => encoding,
    }
}

/// The weight, if its rows were a multiple of every block.
fn with_long_rows(weight: &Weight) -> Weight {
    let mut weight = weight.clone();
    if let Some(cols) = weight.shape.last_mut() {
        *cols = 256;
    }
    weight
}

/// What a weight is; but GGUF's readers want vectors, norms and routers as f32.
fn keep(recipe: &Recipe, facts: &Facts, weight: &Weight) -> (Encoding, String) {
    let f32 = Encoding::Plain(Dtype::F32);
    let plain = matches!(weight.encoding, Encoding::Plain(_));
    if recipe.output.format == Some(Container::Gguf) && plain && Mix::BF16.encoding(facts, weight) == f32 {
        return (f32, "f32, as readers of GGUF want it".into());
    }
    (weight.encoding, "kept".into())
}

/// A regular expression or a role means matrices; only its full name means a vector, when the encoding has blocks.
pub(crate) fn applies(rule: &crate::Rule, weight: &Weight) -> bool {
    let plain = matches!(rule.encoding, Encoding::Plain(_));
    rule.pattern.matches(weight) && (plain || weight.shape.len() > 1 || rule.pattern.is_name_of(weight))
}

/// Every rule must match something.
pub(crate) fn check_rules(model: &Model, recipe: &Recipe) -> Result<(), PlanError> {
    let idle = |r: &&crate::Rule| !model.weights.iter().any(|(_, w)| applies(r, w));
    let Some(rule) = recipe.rules.iter().find(idle) else { return Ok(()) };
    let pattern = rule.pattern.to_string();
    let names = model.weights.iter().flat_map(|(_, w)| [w.name.as_str(), w.place.role.name()]);
    let suggestion = crate::nearest(&pattern, names).map(str::to_owned);
    Err(PlanError::NothingMatched { pattern, suggestion })
}

fn container(recipe: &Recipe, preset: Option<Preset>) -> Result<Container, PlanError> {
    match (recipe.output.format, preset) {
        (Some(asked), Some(preset)) if !preset.fits(asked) => {
            Err(PlanError::PresetContainer { preset, makes: preset.container(), asked })
        }
        (Some(asked), _) => Ok(asked),
        (None, Some(preset)) => Ok(preset.container()),
        (None, None) => Err(PlanError::NoContainer),
    }
}

/// What GPTQ and AWQ folders hold: integers under f16 scales of their own rows.
fn transposed(packed: Packed, widths: &[u32]) -> bool {
    let rows = |per| matches!(per, Granularity::Channel | Granularity::Group(_));
    match packed {
        Packed::Int { bits, per, scale: ScaleType::F16, .. } => rows(per) && widths.contains(&bits.get()),
        _ => false,
    }
}

/// Block formats belong in GGUF, packed ones in folders that hold them, plain numbers anywhere.
pub(crate) fn check_container(container: Container, tensor: &PlannedTensor) -> Result<(), PlanError> {
    let holds = match tensor.to {
        Encoding::Plain(_) => true,
        Encoding::Block(_) => container == Container::Gguf,
        Encoding::Packed(packed) => match container {
            Container::CompressedTensors => true,
            Container::Gptq | Container::GptqV2 => transposed(packed, &[2, 3, 4, 8]),
            Container::Awq => transposed(packed, &[4]),
            Container::Gguf | Container::Safetensors | Container::Onnx => false,
        },
    };
    if holds {
        return Ok(());
    }
    Err(PlanError::Container { tensor: tensor.name.clone(), encoding: encoding_name(&tensor.to), container })
}
