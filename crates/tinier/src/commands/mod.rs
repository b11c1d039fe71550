//! One file per command.

pub mod accuracy;
pub mod calibrate_data;
pub mod completions;
pub mod compress;
pub mod convert;
pub mod eval;
pub mod imatrix;
pub mod inspect;
pub mod order;
pub mod plan;
pub mod report;
pub mod run;
pub mod train;
pub mod verify;

use crate::cli::{Common, Gates, Goal, Learn, Steps, Text};
use crate::progress::Bar;
use ::plan::{CalibrationSpec, Experts, Mode, Plan, Preset, ProofSpec, Recipe};
use anyhow::{Context, Result};
use import::Imported;
use std::path::Path;

/// What is compressed to where nothing is said.
const DEFAULT_PRESET: &str = "q4_k_m";

/// Options of the engine.
fn options<'a>(common: &Common, text: Option<&'a engine::Text>) -> engine::Options<'a> {
    engine::Options {
        threads: common.threads,
        max_memory: common.max_memory,
        seed: common.seed,
        text,
        ..Default::default()
    }
}

/// What is asked for: a recipe to resolve, or a plan that was resolved before.
enum Asked {
    Recipe(Box<Recipe>),
    Plan(Box<Plan>),
}

impl Asked {
    /// Reads what the command line names. `max_kld`: what is asked for where that is nothing else.
    fn read(goal: &Goal, steps: &Steps, learn: &Learn, max_kld: Option<f64>) -> Result<Asked> {
        if let Some(path) = &goal.plan {
            return Ok(Asked::Plan(Box::new(Plan::load(&read(path)?).with_context(|| path.display().to_string())?)));
        }
        let steps = steps.steps();
        let asked = goal.preset.is_some() || goal.target.is_some() || goal.max_size.is_some();
        let mut recipe =
            if steps.is_empty() || asked { recipe(goal, max_kld)? } else { Recipe::new(::plan::Goal::Keep) };
        recipe.steps.extend(steps);
        recipe.output.format = goal.format.or(recipe.output.format);
        recipe.output.split_size = goal.split_size.or(recipe.output.split_size);
        recipe.output.kv_cache = goal.kv_cache.or(recipe.output.kv_cache);
        recipe.method = learn.method.or(recipe.method);
        if !learn.transform.is_empty() {
            recipe.transforms.clone_from(&learn.transform);
        }
        recipe.calibration = calibration_spec(learn, &recipe.calibration);
        Ok(Asked::Recipe(Box::new(recipe)))
    }

    /// What methods learn from.
    fn calibration(&self) -> &CalibrationSpec {
        match self {
            Asked::Recipe(recipe) => &recipe.calibration,
            Asked::Plan(plan) => &plan.recipe.calibration,
        }
    }

    /// How the artifact is to be proven.
    fn proof(&mut self) -> &mut ProofSpec {
        match self {
            Asked::Recipe(recipe) => &mut recipe.proof,
            Asked::Plan(plan) => &mut plan.recipe.proof,
        }
    }

    /// The plan: resolved now, or checked against the model.
    fn resolve(self, imported: &Imported, options: &engine::Options<'_>, bar: &Bar) -> Result<Plan> {
        Ok(match self {
            Asked::Recipe(recipe) => engine::Planner::new(imported, &recipe, options, bar)?.plan()?,
            Asked::Plan(plan) => engine::revise(imported, *plan, options)?,
        })
    }
}

fn recipe(goal: &Goal, max_kld: Option<f64>) -> Result<Recipe> {
    if let Some(path) = &goal.recipe {
        return Recipe::parse(&read(path)?).with_context(|| path.display().to_string());
    }
    Ok(Recipe::new(match (goal.target, goal.max_size, goal.preset, max_kld) {
        (Some(target), ..) => ::plan::Goal::Bpw(target),
        (_, Some(size), ..) => ::plan::Goal::Size(size),
        (_, _, Some(preset), _) => ::plan::Goal::Preset(preset),
        (.., Some(most)) => ::plan::Goal::Divergence(most),
        _ => ::plan::Goal::Preset(DEFAULT_PRESET.parse::<Preset>()?),
    }))
}

/// What the command line says of calibration, over what a recipe says.
fn calibration_spec(learn: &Learn, recipe: &CalibrationSpec) -> CalibrationSpec {
    let named: Vec<String> = learn.calibration.iter().map(|p| p.display().to_string()).collect();
    CalibrationSpec {
        text: if named.is_empty() { recipe.text.clone() } else { named },
        samples: learn.samples.or(recipe.samples),
        length: learn.length.or(recipe.length),
        mode: if learn.whole_model { Mode::WholeModel } else { recipe.mode },
        refine: learn.refine || recipe.refine,
        experts: if learn.all_experts { Experts::All } else { recipe.experts },
    }
}

/// What the command line says of the proof, over what a recipe says.
fn proof_spec(text: &Text, gates: &Gates, recipe: &ProofSpec) -> ProofSpec {
    let name = text.text.as_ref().map(|p| p.display().to_string());
    ProofSpec {
        text: name.or_else(|| recipe.text.clone()),
        context: text.context.or(recipe.context),
        tokens: text.tokens.or(recipe.tokens),
        min_top1: gates.min_top1.or(recipe.min_top1),
        max_kld: gates.max_kld.or(recipe.max_kld),
        max_ppl_increase: gates.max_ppl_increase.or(recipe.max_ppl_increase),
    }
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}
