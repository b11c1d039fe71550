//! From recipes to plans on this machine: what encodings cost the model is measured once, and any budget is then spent
//! in a moment.

use crate::compress::{file_type, model_name};
use crate::served::placed;
use crate::{Calibration, EngineError, Options, Progress, Quiet, Unit, pool, provenance};
use graph::Model;
use import::Imported;
use passes::quantize::sequential::Job;
use plan::{Bytes, Container, CostModel, ExpertTokens, Goal, Learning, Plan, PlanError, Recipe, Sensitivity, Setting};

/// Resolves a recipe for a model on this machine. A budget is spent by what encodings cost the model on calibration
/// text; without any it picks a preset.
pub fn plan(imported: &Imported, recipe: &Recipe, options: &Options<'_>) -> Result<Plan, EngineError> {
    Planner::new(imported, recipe, options, &Quiet)?.plan()
}

/// Checks an edited plan against a model, and predicts anew what it will take on this machine.
pub fn revise(imported: &Imported, plan: Plan, options: &Options<'_>) -> Result<Plan, EngineError> {
    let recipe = plan.recipe.clone();
    if !recipe.steps.is_empty() {
        let becomes = |plan: &Plan| plan.tensors.iter().map(|t| (t.to, t.method)).collect::<Vec<_>>();
        let edited = becomes(&self::plan(imported, &recipe, options)?) != becomes(&plan);
        return if edited { Err(PlanError::StepsEdited.into()) } else { Ok(plan) };
    }
    let costs = crate::calibrate()?;
    let plan = plan.revise(&imported.model, &setting(imported, &recipe, options, &costs))?;
    let bytes = artifact_bytes(imported, &plan)?;
    Ok(with_bytes(plan, bytes))
}

/// How many tokens of the calibration text reach each expert of a mixture; nothing where there is no text, or no expert.
pub fn expert_tokens(
    imported: &Imported,
    options: &Options<'_>,
    progress: &dyn Progress,
) -> Result<Vec<ExpertTokens>, EngineError> {
    let model = &imported.model;
    let (Some(graph), Some(config), Some(text)) = (model.graph(), model.decoder(), options.calibration) else {
        return Ok(Vec::new());
    };
    if config.experts.is_none() {
        return Ok(Vec::new());
    }
    progress.begin("count tokens of experts", graph.blocks().len() as u64, Unit::Blocks);
    let done = &mut || progress.advance(1);
    let found = pool(options)?.install(|| calib::coverage(graph, &model.weights, config.vocab, &text.windows, done));
    progress.end();
    Ok(found?.into_iter().map(|(layer, tokens)| ExpertTokens { layer, tokens }).collect())
}

/// A recipe, and what is known of the model that it is for.
pub struct Planner<'a> {
    imported: &'a Imported,
    recipe: &'a Recipe,
    options: &'a Options<'a>,
    costs: CostModel,
    sensitivity: Option<Sensitivity>,
}

/// Times that a plan is made, until its bytes and those of its file agree.
const ROUNDS: usize = 4;

impl<'a> Planner<'a> {
    /// Measures what encodings cost the model, where the recipe has a budget and there is calibration text.
    pub fn new(
        imported: &'a Imported,
        recipe: &'a Recipe,
        options: &'a Options<'a>,
        progress: &dyn Progress,
    ) -> Result<Planner<'a>, EngineError> {
        let units = plan::units(&imported.model, recipe);
        let measure = |(units, text): (_, &Calibration)| {
            pool(options)?.install(|| {
                crate::sensitivity::measure(&imported.model, units, recipe.method(), text, options, progress)
            })
        };
        let sensitivity = units.zip(options.calibration).map(measure).transpose()?;
        Ok(Planner { imported, recipe, options, costs: crate::calibrate()?, sensitivity })
    }

    /// The plan.
    pub fn plan(&self) -> Result<Plan, EngineError> {
        self.plan_for(self.recipe.goal)
    }

    /// The plan for another goal of the same kind. Its bytes are those of the artifact, header and padding counted.
    pub(crate) fn plan_for(&self, goal: Goal) -> Result<Plan, EngineError> {
        let recipe = Recipe { goal, ..self.recipe.clone() };
        let mut setting = setting(self.imported, &recipe, self.options, &self.costs);
        if !matches!(goal, Goal::Preset(_) | Goal::Keep) {
            setting.overhead = self.least_overhead(&recipe, &setting)?;
        }
        let mut plan = self.resolve(&recipe, &setting)?;
        for round in 0..ROUNDS {
            let predicted = plan.prediction.artifact.0;
            let Some(bytes) = artifact_bytes(self.imported, &plan)? else { return Ok(plan) };
            if bytes == predicted || (round > 0 && bytes < predicted) {
                return Ok(with_bytes(plan, Some(bytes)));
            }
            setting.overhead = (setting.overhead + bytes).saturating_sub(predicted);
            plan = self.resolve(&recipe, &setting)?;
        }
        let bytes = artifact_bytes(self.imported, &plan)?;
        Ok(with_bytes(plan, bytes))
    }

    /// Bytes beside the weights in the smallest artifact there is, so that budgets are refused for no byte too many.
    fn least_overhead(&self, recipe: &Recipe, setting: &Setting<'_>) -> Result<u64, EngineError> {
        let sized = |bytes| Recipe { goal: Goal::Size(bytes), ..recipe.clone() };
        let smallest = match self.resolve(&sized(Bytes(0)), setting) {
            Err(PlanError::Smallest { needs, .. } | PlanError::Budget { needs, .. }) => needs,
            _ => return Ok(setting.overhead),
        };
        let plan = self.resolve(&sized(smallest), setting)?;
        let bytes = artifact_bytes(self.imported, &plan)?.unwrap_or(plan.prediction.artifact.0);
        Ok((setting.overhead + bytes).saturating_sub(plan.prediction.artifact.0))
    }

    fn resolve(&self, recipe: &Recipe, setting: &Setting<'_>) -> Result<Plan, PlanError> {
        match &self.sensitivity {
            Some(sensitivity) => plan::mixed(&self.imported.model, recipe, sensitivity, setting),
            None => plan::resolve(&self.imported.model, recipe, setting),
        }
    }

    pub(crate) fn imported(&self) -> &'a Imported {
        self.imported
    }

    pub(crate) fn options(&self) -> &'a Options<'a> {
        self.options
    }
}

pub(crate) fn setting<'a>(
    imported: &Imported,
    recipe: &Recipe,
    options: &Options<'_>,
    costs: &'a CostModel,
) -> Setting<'a> {
    let limit = recipe.proof.tokens.unwrap_or(usize::MAX);
    Setting {
        threads: options.threads(),
        overhead: provenance::total_bytes(&imported.extras),
        // About four letters to a token.
        proof_tokens: options.text.map_or(0, |t| t.text.len() / 4).min(limit),
        context: imported.model.decoder().map_or(1, |config| crate::quality::context(&recipe.proof, config)),
        resident: crate::quality::resident(options.max_memory),
        learning: options
            .calibration
            .map(|c| Learning { refines: recipe.calibration.refine, ..c.learning(&imported.model, options) }),
        costs,
    }
}

/// Bytes of the artifact, as its writer will count them; `None` where that is not known before, or it cannot be written.
fn artifact_bytes(imported: &Imported, plan: &Plan) -> Result<Option<u64>, EngineError> {
    let split = plan.recipe.output.split_size.map(|b| b.0);
    Ok(match plan.container {
        _ if !plan.recipe.steps.is_empty() => None,
        Container::Gguf => {
            let (model, name) = (rounded(imported, plan)?, model_name(imported));
            let file_type = file_type(plan, &model);
            let options = export::gguf::Options { name: &name, file_type, split_max_bytes: split };
            let tokenizer = imported.tokenizer().ok();
            tokenizer.and_then(|tokenizer| export::gguf::bytes(&model, &tokenizer, &imported.path, options).ok())
        }
        // A folder made from a GGUF file gets a tokenizer that is made when it is written.
        Container::CompressedTensors | Container::Safetensors if imported.metadata.is_none() => {
            let shard = split.unwrap_or(export::compressed_tensors::MAX_SHARD);
            export::compressed_tensors::bytes(&placed(imported, plan, rounded(imported, plan)?), shard).ok()
        }
        _ => None,
    })
}

/// The model in the plan's encodings, of which no number is computed.
fn rounded(imported: &Imported, plan: &Plan) -> Result<Model, EngineError> {
    let mut model = imported.model.clone();
    let job = |t: &plan::PlannedTensor| Some(Job::round(model.weights.find(&t.name)?, t.to));
    let jobs: Vec<Job> = plan.tensors.iter().filter_map(job).collect();
    crate::quantize::encode_rows(&mut model, &jobs, &crate::Importance::default())?;
    Ok(model)
}

fn with_bytes(mut plan: Plan, bytes: Option<u64>) -> Plan {
    if let Some(bytes) = bytes {
        plan.prediction.artifact = Bytes(bytes);
        plan.prediction.disk = Bytes(bytes + (1 << 20));
    }
    plan
}
