//! What the user asks for: a TOML file in which every unknown field is an error.
//!
//! ```toml
//! preset = "q4_k_m"             # or target = "4.5bpw", max-size = "300MB", max-kld = 0.01
//! method = "gptq"               # how codes are chosen; descent where there is calibration text, else round
//! transforms = ["awq"]          # what is done to weights before: rotate, awq, smooth
//!
//! [[rule]]                      # later rules win
//! match = "re:.*down_proj.*"    # a weight's name, a role, or re: and a regular expression
//! encoding = "q6_k"
//!
//! [calibration]
//! text = ["letters.txt"]
//! samples = 128
//!
//! [[step]]                      # what is done before, in this order: see step.rs
//! prune = { layers = 0.75 }
//!
//! [output]
//! format = "gguf"
//! split-size = "2GB"
//!
//! [proof]
//! min-top1 = 0.9
//! ```

use crate::measure::Comparison;
use crate::names::{meant, nearest, serde_encoding};
use crate::units::{Bpw, Bytes};
use crate::{Method, Pattern, Preset, Step, Transform};
use codec::Encoding;
use graph::Model;
use serde::{Deserialize, Serialize};

/// Why a recipe is none.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[allow(missing_docs)]
pub enum RecipeError {
    #[error("the recipe is not valid: {message}{}", meant(suggestion))]
    Toml { message: String, suggestion: Option<String> },
    #[error("the recipe asks for `{0}` and `{1}`; keep one of them")]
    TwoGoals(&'static str, &'static str),
    #[error(
        "the recipe asks for nothing; give `preset`, `target`, `max-size`, `max-kld`, a `[[rule]]` or a `[[step]]`"
    )]
    Nothing,
    #[error("the step `{step}`: {why}")]
    Step { step: &'static str, why: String },
    #[error("`max-kld` is {0}; it has to be a number of nats above 0")]
    Divergence(f64),
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Recipe {
    /// What all weights follow.
    pub goal: Goal,
    /// Exceptions from it; a later one wins over an earlier one.
    pub rules: Vec<Rule>,
    /// How codes are chosen; the best that calibration allows, where it is not said.
    pub method: Option<Method>,
    /// What is done to weights before they are encoded, in this order; rotations come first wherever they stand.
    pub transforms: Vec<Transform>,
    /// What is done to a network, or to a decoder before its weights are encoded, in this order.
    pub steps: Vec<Step>,
    /// What methods learn from.
    pub calibration: CalibrationSpec,
    /// What is written.
    pub output: Output,
    /// How it is proven.
    pub proof: ProofSpec,
}

/// What all weights follow where no rule says otherwise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// A named mix.
    Preset(Preset),
    /// The best mix of at most so many bits per weight.
    Bpw(Bpw),
    /// The best mix of at most so many bytes.
    Size(Bytes),
    /// The smallest mix that diverges by at most so many nats per token.
    Divergence(f64),
    /// Everything stays as it is.
    Keep,
}

impl Goal {
    /// The bytes that an artifact may have, and how they were asked for.
    pub fn budget(self, model: &Model) -> Option<(u64, String)> {
        match self {
            Goal::Bpw(bpw) => Some(((bpw.0 * model.parameters() as f64 / 8.0) as u64, bpw.to_string())),
            Goal::Size(size) => Some((size.0, size.to_string())),
            Goal::Preset(_) | Goal::Divergence(_) | Goal::Keep => None,
        }
    }
}

/// An exception: weights that match get this encoding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Rule {
    /// Which weights.
    #[serde(rename = "match")]
    pub pattern: Pattern,
    /// What they become.
    #[serde(with = "serde_encoding")]
    pub encoding: Encoding,
}

/// What methods learn from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct CalibrationSpec {
    /// Files of text, or one selection that `tinier calibrate-data` wrote.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub text: Vec<String>,
    /// Windows of it; 128 where it is not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub samples: Option<usize>,
    /// Tokens of a window; the shorter of 512 and what the model was made for, where it is not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length: Option<usize>,
    /// Which model the statistics are of.
    #[serde(skip_serializing_if = "Mode::is_default")]
    pub mode: Mode,
    /// Which tokens experts learn from.
    #[serde(skip_serializing_if = "Experts::is_default")]
    pub experts: Experts,
    /// Whether the rounding of all matrices is learned together at the end, on divergence from the original.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub refine: bool,
}

/// Which tokens the experts of a mixture learn from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Experts {
    /// Those that the router sends to them. An expert without any is rounded, and the journal says so.
    #[default]
    Routed,
    /// All of them, whatever the router says: rare experts see as much as common ones. Their part of the work grows by
    /// as much as there are more experts than a token goes to.
    All,
}

impl Experts {
    fn is_default(&self) -> bool {
        *self == Experts::default()
    }
}

/// Which model statistics are gathered from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// The one that is being made: each block sees what the blocks before it lost. Slower, and better.
    #[default]
    Sequential,
    /// The original, throughout.
    WholeModel,
}

impl Mode {
    fn is_default(&self) -> bool {
        *self == Mode::default()
    }
}

/// A kind of artifact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Container {
    /// One or more GGUF files.
    Gguf,
    /// A Hugging Face folder with `quantization_config`.
    CompressedTensors,
    /// A Hugging Face folder as GPTQ's tools write it, zero points stored as one less.
    Gptq,
    /// The same, zero points stored as they are.
    GptqV2,
    /// A Hugging Face folder as AWQ's tools write it.
    Awq,
    /// A Hugging Face folder of plain numbers.
    Safetensors,
    /// An ONNX file.
    Onnx,
}

impl std::fmt::Display for Container {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Container::Gguf => "gguf",
            Container::CompressedTensors => "compressed-tensors",
            Container::Gptq => "gptq",
            Container::GptqV2 => "gptq-v2",
            Container::Awq => "awq",
            Container::Safetensors => "safetensors",
            Container::Onnx => "onnx",
        })
    }
}

/// What is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Output {
    /// Kind of artifact; the preset's own where none is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<Container>,
    /// No file larger than this, where one tensor is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split_size: Option<Bytes>,
    /// How servers are to keep keys and values; as they do by themselves where it is not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv_cache: Option<KvCache>,
}

/// How servers keep keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KvCache {
    /// In E4M3, under scales found on calibration text.
    Fp8,
}

impl std::str::FromStr for KvCache {
    type Err = &'static str;

    fn from_str(word: &str) -> Result<KvCache, &'static str> {
        if word == "fp8" { Ok(KvCache::Fp8) } else { Err("expected fp8") }
    }
}

/// How the artifact is proven.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ProofSpec {
    /// A file of evaluation text; the text that comes with the program where none is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Tokens of a window; the shorter of 512 and what the model was made for, where none is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<usize>,
    /// Tokens of the text to use; all where none is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<usize>,
    /// The run fails where a smaller share of tokens has the same most probable next token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_top1: Option<f64>,
    /// The run fails where the mean divergence is larger, in nats per token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_kld: Option<f64>,
    /// The run fails where perplexity grows by a larger share: 0.05 is five per cent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_ppl_increase: Option<f64>,
}

/// A bound that was not kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("{bound} is {required}, measured {measured:.4}")]
pub struct Violation {
    /// Name of the bound, as recipes spell it.
    pub bound: String,
    /// What was asked for.
    pub required: f64,
    /// What came.
    pub measured: f64,
}

impl ProofSpec {
    /// Whether any bound is set.
    pub fn gated(&self) -> bool {
        self.min_top1.is_some() || self.max_kld.is_some() || self.max_ppl_increase.is_some()
    }

    /// The bounds that a measurement does not keep. One that is not a number keeps none.
    pub fn violations(&self, measured: &Comparison) -> Vec<Violation> {
        let top1 =
            ("min-top1", self.min_top1, measured.top1.value, measured.top1.value >= self.min_top1.unwrap_or(0.0));
        let most = |name, bound: Option<f64>, value: f64| (name, bound, value, value <= bound.unwrap_or(f64::INFINITY));
        [
            top1,
            most("max-kld", self.max_kld, measured.kld.mean.value),
            most("max-ppl-increase", self.max_ppl_increase, measured.ppl_increase.value),
        ]
        .into_iter()
        .filter(|(.., kept)| !kept)
        .filter_map(|(bound, required, measured, _)| {
            Some(Violation { bound: bound.into(), required: required?, measured })
        })
        .collect()
    }
}

/// A recipe as it is written.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct Written {
    #[serde(skip_serializing_if = "Option::is_none")]
    preset: Option<Preset>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<Bpw>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_size: Option<Bytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_kld: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<Method>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    transforms: Vec<Transform>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rule: Vec<Rule>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    step: Vec<Step>,
    calibration: CalibrationSpec,
    output: Output,
    proof: ProofSpec,
}

impl TryFrom<Written> for Recipe {
    type Error = RecipeError;

    fn try_from(w: Written) -> Result<Recipe, RecipeError> {
        let goals: Vec<(&str, Goal)> = [
            w.preset.map(|p| ("preset", Goal::Preset(p))),
            w.target.map(|t| ("target", Goal::Bpw(t))),
            w.max_size.map(|s| ("max-size", Goal::Size(s))),
            w.max_kld.map(|most| ("max-kld", Goal::Divergence(most))),
        ]
        .into_iter()
        .flatten()
        .collect();
        let goal = match goals[..] {
            [(_, Goal::Divergence(most))] if !(most > 0.0 && most.is_finite()) => {
                return Err(RecipeError::Divergence(most));
            }
            [(_, goal)] => goal,
            [(a, _), (b, _), ..] => return Err(RecipeError::TwoGoals(a, b)),
            [] if w.rule.is_empty() && w.step.is_empty() && w.output.format.is_none() => {
                return Err(RecipeError::Nothing);
            }
            [] => Goal::Keep,
        };
        if let Some((step, why)) = w.step.iter().find_map(|step| Some((step.name(), step.problem()?))) {
            return Err(RecipeError::Step { step, why });
        }
        Ok(Recipe {
            goal,
            rules: w.rule,
            method: w.method,
            transforms: w.transforms,
            steps: w.step,
            calibration: w.calibration,
            output: w.output,
            proof: w.proof,
        })
    }
}

impl From<Recipe> for Written {
    fn from(recipe: Recipe) -> Written {
        let mut written = Written {
            method: recipe.method,
            transforms: recipe.transforms,
            rule: recipe.rules,
            step: recipe.steps,
            calibration: recipe.calibration,
            output: recipe.output,
            proof: recipe.proof,
            ..Written::default()
        };
        match recipe.goal {
            Goal::Preset(preset) => written.preset = Some(preset),
            Goal::Bpw(target) => written.target = Some(target),
            Goal::Size(size) => written.max_size = Some(size),
            Goal::Divergence(most) => written.max_kld = Some(most),
            Goal::Keep => {}
        }
        written
    }
}

impl Recipe {
    /// Everything follows one goal.
    pub fn new(goal: Goal) -> Recipe {
        Recipe {
            goal,
            rules: Vec::new(),
            method: None,
            transforms: Vec::new(),
            steps: Vec::new(),
            calibration: CalibrationSpec::default(),
            output: Output::default(),
            proof: ProofSpec::default(),
        }
    }

    /// How codes are chosen: what is asked for, else the best there is with the text at hand.
    pub fn method(&self) -> Method {
        let best = if self.calibration.text.is_empty() { Method::Round } else { Method::Descent };
        self.method.unwrap_or(best)
    }

    /// Reads a recipe from TOML.
    pub fn parse(text: &str) -> Result<Recipe, RecipeError> {
        toml::from_str(text).map_err(|e| {
            let message = e.to_string().trim_end().to_owned();
            RecipeError::Toml { suggestion: field_suggestion(e.message()), message }
        })
    }

    /// The recipe as TOML; [`Recipe::parse`] reads it back.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).unwrap_or_default()
    }
}

/// What was meant by an unknown field or word. Serde's message lists the wrong one, then the right ones, in backticks.
pub(crate) fn field_suggestion(message: &str) -> Option<String> {
    if !message.starts_with("unknown ") {
        return None;
    }
    let mut quoted = message.split('`').skip(1).step_by(2);
    let wrong = quoted.next()?;
    nearest(wrong, quoted).map(str::to_owned)
}
