//! A training recipe: TOML in which every unknown field is an error.

use super::{NetworkRecipe, TrainingError};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};
use train::Constants;

/// A recipe of either kind.
#[derive(Clone, Debug, PartialEq)]
pub enum AnyRecipe {
    /// A decoder: it has a `[model]`.
    Decoder(Box<TrainingRecipe>),
    /// A network that names classes.
    Network(Box<NetworkRecipe>),
}

impl AnyRecipe {
    /// Reads a recipe.
    pub fn load(path: &Path) -> Result<AnyRecipe, TrainingError> {
        let text = std::fs::read_to_string(path).map_err(|e| TrainingError::io(path, e))?;
        let bad = |why: String| TrainingError::Recipe { path: path.into(), why };
        let table: toml::Table = toml::from_str(&text).map_err(|e| bad(e.to_string()))?;
        if table.contains_key("model") {
            return Ok(AnyRecipe::Decoder(Box::new(TrainingRecipe::load(path)?)));
        }
        let recipe: NetworkRecipe = toml::from_str(&text).map_err(|e| bad(e.to_string()))?;
        match recipe.training.problem() {
            Some(why) => Err(bad(why)),
            None => Ok(AnyRecipe::Network(Box::new(recipe))),
        }
    }
}

/// All that the training of a decoder follows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TrainingRecipe {
    /// The `config.json` to be; vocabulary and token ids are filled in.
    pub model: Map<String, Value>,
    /// What it learns from.
    pub data: Data,
    /// Its tokenizer.
    pub tokenizer: TokenizerRecipe,
    /// How it learns.
    pub training: Steps,
}

/// Text files, plain or `.gz`; relative names stand beside the recipe, or in the folder that the caller names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Data {
    /// Learned from.
    pub train: PathBuf,
    /// Held out.
    pub valid: PathBuf,
}

/// A byte-level BPE tokenizer, trained on the training text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TokenizerRecipe {
    /// Tokens, the 256 bytes and one special token counted.
    pub vocab: usize,
}

/// How it learns.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Steps {
    /// Optimizer steps.
    pub steps: usize,
    /// Tokens of a window.
    pub context: usize,
    /// Windows of a micro-batch.
    pub batch: usize,
    /// Micro-batches of a step.
    #[serde(default = "one")]
    pub accumulate: usize,
    /// Highest learning rate.
    pub rate: f64,
    /// Last learning rate, as a share of the highest.
    #[serde(default = "tenth")]
    pub floor: f64,
    /// Steps of warm-up.
    pub warmup: usize,
    /// Constants of AdamW.
    #[serde(default)]
    pub optimizer: Constants,
    /// Whether blocks are computed again in the backward, to save memory.
    #[serde(default)]
    pub recompute: bool,
    /// Seed of first weights and of windows.
    #[serde(default)]
    pub seed: u64,
    /// Steps between evaluations, each followed by a checkpoint.
    pub evaluate_every: usize,
    /// Windows of an evaluation.
    pub evaluate_windows: usize,
}

fn one() -> usize {
    1
}

fn tenth() -> f64 {
    0.1
}

impl TrainingRecipe {
    /// Reads a recipe.
    pub fn load(path: &Path) -> Result<TrainingRecipe, TrainingError> {
        let text = std::fs::read_to_string(path).map_err(|e| TrainingError::io(path, e))?;
        let bad = |why: String| TrainingError::Recipe { path: path.into(), why };
        let recipe: TrainingRecipe = toml::from_str(&text).map_err(|e| bad(e.to_string()))?;
        let t = &recipe.training;
        let positive = [
            ("steps", t.steps),
            ("context", t.context),
            ("batch", t.batch),
            ("accumulate", t.accumulate),
            ("evaluate-every", t.evaluate_every),
            ("evaluate-windows", t.evaluate_windows),
        ];
        match positive.into_iter().find(|(_, n)| *n == 0) {
            Some((field, _)) => Err(bad(format!("`training.{field}` is 0; it must be at least 1"))),
            None => Ok(recipe),
        }
    }
}
