//! Mixed precision: every unit of a model gets the encoding that serves the whole best, within a budget of bytes or of
//! divergence.
//!
//! A unit is what a loader wants alike: in GGUF a matrix, or the experts of a layer that are stacked into one tensor; for
//! vLLM the matrices that it joins into one product (q, k and v; gate and up), or all experts of a layer. What each
//! encoding costs the model is found by whoever can run it ([`Sensitivity`]); [`allocate`](crate::allocate()) then
//! chooses, over bytes of the whole artifact.

use crate::allocate::{Allocation, Choice, least, within};
use crate::cost::{self, Setting};
use crate::preset::{Facts, Mix, Pack, Preset};
use crate::units::Bytes;
use crate::{Container, Goal, Method, Plan, PlanError, PlannedTensor, Recipe, encoding_name, resolve};
use codec::BlockFormat::{self, *};
use codec::{Dtype, Encoding};
use graph::{Model, Weight, WeightId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Weights that are encoded alike.
#[derive(Clone, Debug, PartialEq)]
pub struct Unit {
    /// Which.
    pub weights: Vec<WeightId>,
    /// What they may become, smallest first.
    pub candidates: Vec<Candidate>,
}

/// What a unit may become.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// How it would lie in bytes.
    pub encoding: Encoding,
    /// Nats per token that the model loses by it, finite; 0 until it is known.
    pub loss: f64,
}

/// What the encodings of a model's units cost it.
#[derive(Clone, Debug, PartialEq)]
pub struct Sensitivity {
    /// All units, their losses known.
    pub units: Vec<Unit>,
    /// How far predicted losses can be trusted.
    pub validation: Validation,
}

/// Predicted losses beside measured ones, over pairs of a unit and an encoding that predictions knew nothing of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Validation {
    /// How many pairs.
    pub pairs: usize,
    /// Spearman's rank correlation.
    pub rank_correlation: f64,
    /// The factor that half of the predictions are within.
    pub typical_factor: f64,
    /// Spearman's rank correlation of what Fisher information alone predicts, nothing measured, where there was memory
    /// for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fisher: Option<f64>,
}

/// How a budget was spent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Spent {
    /// Nats per token that the chosen encodings cost, each by itself, summed.
    pub loss: f64,
    /// No choice of these bytes costs less.
    pub bound: f64,
    /// How far these figures can be trusted.
    pub validation: Validation,
}

/// GGUF types for rows of whole superblocks, smallest first.
const LONG: [BlockFormat; 9] = [TQ1_0, TQ2_0, Q2_K, Q3_K, IQ4_XS, Q4_K, Q5_K, Q6_K, Q8_0];
/// GGUF types for rows of whole blocks.
const SHORT: [BlockFormat; 7] = [MXFP4, IQ4_NL, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0];
/// What vLLM serves as weights alone.
const PACKS: [Pack; 4] = [Pack::W4A16, Pack::W4A16Asym, Pack::W4A16G32, Pack::W8A16];

/// The units of a model whose encodings a budget decides; `None` where the recipe has no budget, asks for an artifact
/// that cannot be mixed, or the model cannot be run.
pub fn units(model: &Model, recipe: &Recipe) -> Option<Vec<Unit>> {
    let kind = Kind::of(recipe.output.format.unwrap_or(Container::Gguf))?;
    let budget = matches!(recipe.goal, Goal::Bpw(_) | Goal::Size(_) | Goal::Divergence(_));
    let facts = model.decoder().map(Facts::of).filter(|_| budget && recipe.steps.is_empty())?;
    let free = |w: &Weight| kind.encodes(&facts, w) && !recipe.rules.iter().any(|rule| resolve::applies(rule, w));
    let mut alike: BTreeMap<Alike, Vec<WeightId>> = BTreeMap::new();
    for (id, weight) in model.weights.iter().filter(|(_, w)| free(w)) {
        alike.entry(kind.alike(id, weight)).or_default().push(id);
    }
    Some(alike.into_values().map(|weights| kind.unit(model, weights)).collect())
}

/// What stands together: layer, part of the layer, or a weight alone.
type Alike<'a> = (Option<usize>, &'a str, Option<WeightId>);

/// Containers whose tensors may differ in encoding.
#[derive(Clone, Copy)]
enum Kind {
    Gguf,
    CompressedTensors,
}

impl Kind {
    fn of(container: Container) -> Option<Kind> {
        match container {
            Container::Gguf => Some(Kind::Gguf),
            Container::CompressedTensors => Some(Kind::CompressedTensors),
            Container::Gptq | Container::GptqV2 | Container::Awq | Container::Safetensors | Container::Onnx => None,
        }
    }

    /// The largest preset: what units are not made of, it decides.
    fn preset(self) -> Preset {
        match self {
            Kind::Gguf => Preset::Mix(Mix::Q8_0),
            Kind::CompressedTensors => Preset::Pack(Pack::W8A16),
        }
    }

    fn encodes(self, facts: &Facts, weight: &Weight) -> bool {
        !matches!(self.preset().encoding(facts, weight), Encoding::Plain(_)) && weight.elements() > 0
    }

    fn alike(self, id: WeightId, weight: &Weight) -> Alike<'static> {
        let (layer, role) = (weight.place.layer, weight.place.role);
        match (self, role.fused().first()) {
            (Kind::Gguf, _) if role.is_expert() => (layer, role.name(), None),
            (Kind::CompressedTensors, _) if role.is_expert() => (layer, "experts", None),
            (Kind::CompressedTensors, Some(first)) => (layer, first.name(), None),
            _ => (layer, role.name(), Some(id)),
        }
    }

    fn unit(self, model: &Model, weights: Vec<WeightId>) -> Unit {
        let all = || weights.iter().map(|id| &**model.weights.get(*id));
        let first = all().next().filter(|first| all().all(|w| w.encoding == first.encoding));
        let kept =
            first.map(|w| w.encoding).filter(|e| matches!(e, Encoding::Plain(Dtype::F32 | Dtype::F16 | Dtype::BF16)));
        let mut encodings: Vec<Encoding> = self.encodings(all().map(Weight::cols).collect(), all().next());
        encodings.retain(|e| all().all(|w| e.bytes(w.rows(), w.cols()).is_ok()));
        encodings.extend(kept);
        let bytes = |e: &Encoding| all().filter_map(|w| e.bytes(w.rows(), w.cols()).ok()).sum::<usize>();
        encodings.sort_by_key(bytes);
        encodings.dedup();
        let candidates = encodings.into_iter().map(|encoding| Candidate { encoding, loss: 0.0 }).collect();
        Unit { weights, candidates }
    }

    /// Coded encodings for weights with rows of these lengths.
    fn encodings(self, cols: Vec<usize>, first: Option<&Weight>) -> Vec<Encoding> {
        let fits = |format: &BlockFormat| cols.iter().all(|cols| cols.is_multiple_of(format.codec().block_len()));
        match self {
            Kind::Gguf if fits(&Q2_K) => LONG.map(Encoding::Block).to_vec(),
            Kind::Gguf => SHORT.map(Encoding::Block).to_vec(),
            Kind::CompressedTensors => first.map_or(Vec::new(), |w| PACKS.map(|pack| pack.encoding(w)).to_vec()),
        }
    }
}

/// Spends the budget of a recipe on units whose losses are known.
///
/// # Errors
/// The budget is smaller than the smallest artifact, or the divergence than the least that is possible; it is named.
pub fn mixed(
    model: &Model,
    recipe: &Recipe,
    sensitivity: &Sensitivity,
    setting: &Setting<'_>,
) -> Result<Plan, PlanError> {
    let Some(kind) = Kind::of(recipe.output.format.unwrap_or(Container::Gguf)) else {
        return resolve::resolve(model, recipe, setting);
    };
    resolve::check_rules(model, recipe)?;
    let mut plan = resolve::plan(model, recipe, Some(kind.preset()), setting)?;
    let units = &sensitivity.units;
    let given: u64 = units.iter().flat_map(|unit| &unit.weights).map(|id| plan.tensors[id.0].bytes_after).sum();
    let fixed = plan.prediction.artifact.0 - given;
    let choices = units.iter().map(|unit| choices(model, unit)).collect::<Result<Vec<_>, _>>()?;
    let allocation = match recipe.goal {
        Goal::Divergence(most) => {
            least(&choices, most).map_err(|least| PlanError::LeastDivergence { asked: most, least })?
        }
        goal => {
            let (budget, asked) = goal.budget(model).unwrap_or((u64::MAX, String::new()));
            within(&choices, budget.saturating_sub(fixed)).map_err(|smallest| {
                let (needs, parameters) = (fixed + smallest, model.parameters().max(1) as f64);
                PlanError::Smallest { asked, needs: Bytes(needs), bpw: needs as f64 * 8.0 / parameters }
            })?
        }
    };
    let factors = resolve::factors(model);
    for (unit, chosen) in units.iter().zip(&allocation.chosen) {
        let Some(candidate) = unit.candidates.get(*chosen) else { continue };
        let reason = reason(unit, &allocation);
        for id in &unit.weights {
            let mut tensor = PlannedTensor::new(model.weights.get(*id), candidate.encoding, reason.clone())?;
            let learns = factors.contains(id) && resolve::has_codes(&tensor);
            tensor.method = if learns { recipe.method().on(tensor.to) } else { Method::Round };
            plan.tensors[id.0] = tensor;
        }
    }
    plan.mix = "mixed".into();
    plan.spent = Some(Spent { loss: allocation.loss, bound: allocation.bound, validation: sensitivity.validation });
    plan.prediction = cost::predict(model, &plan.tensors, setting);
    Ok(plan)
}

/// Bytes and losses of a unit's candidates.
fn choices(model: &Model, unit: &Unit) -> Result<Vec<Choice>, PlanError> {
    let planned = |encoding, id: &WeightId| PlannedTensor::new(model.weights.get(*id), encoding, String::new());
    let choice = |c: &Candidate| {
        let tensors = unit.weights.iter().map(|id| planned(c.encoding, id)).collect::<Result<Vec<_>, _>>()?;
        Ok(Choice { bytes: tensors.iter().map(|t| t.bytes_after).sum(), loss: c.loss })
    };
    unit.candidates.iter().map(choice).collect()
}

/// For whoever edits the plan: what every candidate costs, and what a byte was worth.
fn reason(unit: &Unit, allocation: &Allocation) -> String {
    let losses = unit.candidates.iter().map(|c| format!("{} {:.1e}", encoding_name(&c.encoding), c.loss));
    let losses = losses.collect::<Vec<_>>().join(", ");
    format!("budget; nats lost: {losses}; a KiB is worth {:.1e}", allocation.price * 1024.0)
}
