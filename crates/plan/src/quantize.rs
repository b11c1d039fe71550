//! What quantization of a network is asked for: codes, how ranges are chosen, and what is repaired.

use crate::Pattern;
use crate::names::nearest;
use graph::Levels;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::fmt;
use std::str::FromStr;

/// Values and weights are put on grids of integers, as onnxruntime's kernels take them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct QuantizeSpec {
    /// Codes of weights: `int8`, or `int4`, which saves bytes and computes in float.
    #[serde(with = "levels")]
    pub weights: Levels,
    /// Codes of values: `uint8`, which x86 multiplies signed weights by, or `int8`.
    #[serde(with = "levels")]
    pub values: Levels,
    /// Whether values get the grid of their own range in every run, for which no samples are needed, instead of one for all.
    pub dynamic: bool,
    /// How ranges of values are chosen.
    pub ranges: Calibrator,
    /// How many samples the network is run on, at most.
    pub samples: usize,
    /// Whether channels are made alike across layers first (Nagel et al. 2019).
    pub equalize: bool,
    /// Whether biases make up for what rounding shifts (Nagel et al. 2019).
    pub correct: bool,
    /// How weights are rounded.
    pub round: Rounding,
    /// How far outputs may move on the samples, `‖ŷ − y‖ / ‖y‖`: as few layers as that needs are one step more precise, 8 bits
    /// instead of 4, float instead of 8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<f64>,
    /// How many points of accuracy may be lost, of 100, on labelled samples and on held-out ones: as few layers as that needs are
    /// more precise, 8 bits instead of 4, float instead of 8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_drop: Option<f64>,
    /// Nodes that stay in float: names, or `re:` and a regular expression.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keep: Vec<Pattern>,
}

impl Default for QuantizeSpec {
    fn default() -> QuantizeSpec {
        QuantizeSpec {
            weights: Levels::I8,
            values: Levels::U8,
            dynamic: false,
            ranges: Calibrator::default(),
            samples: 256,
            equalize: false,
            correct: true,
            round: Rounding::default(),
            budget: None,
            max_drop: None,
            keep: Vec::new(),
        }
    }
}

/// How weights are rounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rounding {
    /// Each to the nearest code.
    #[default]
    Nearest,
    /// All of an output channel together, with its scale, for the least error of what the layer makes: error feedback, then
    /// coordinate descent on codes.
    #[serde(alias = "learned")]
    Descent,
    /// Up or down by gradient descent on the same error (AdaRound, Nagel et al. 2020).
    Adaround,
}

/// How the range of a value is chosen from what was seen of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Calibrator {
    /// All that was seen.
    MinMax,
    /// The average of the batches' extremes, later ones counting more.
    MovingAverage,
    /// So many percent of the numbers, the same share cut off at each end.
    Percentile(f64),
    /// Least mean squared error of rounding and clipping together.
    #[default]
    Mse,
    /// Least relative entropy.
    Entropy,
}

/// A word that is no calibrator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no way to choose ranges{hint}; write min-max, moving-average, percentile, percentile=99.99, mse or entropy", hint = meant(.0))]
pub struct UnknownCalibrator(pub String);

fn meant(word: &str) -> String {
    let names = ["min-max", "moving-average", "percentile", "mse", "entropy"];
    nearest(word, names).map_or(String::new(), |name| format!(" (did you mean `{name}`?)"))
}

/// The share that a percentile keeps where none is given, as onnxruntime does.
const PERCENT: f64 = 99.999;

impl FromStr for Calibrator {
    type Err = UnknownCalibrator;

    fn from_str(text: &str) -> Result<Calibrator, UnknownCalibrator> {
        let unknown = || UnknownCalibrator(text.into());
        Ok(match text.trim() {
            "min-max" => Calibrator::MinMax,
            "moving-average" => Calibrator::MovingAverage,
            "percentile" => Calibrator::Percentile(PERCENT),
            "mse" => Calibrator::Mse,
            "entropy" => Calibrator::Entropy,
            other => {
                let percent = other.strip_prefix("percentile=").and_then(|p| p.trim().parse::<f64>().ok());
                Calibrator::Percentile(percent.filter(|p| *p > 0.0 && *p <= 100.0).ok_or_else(unknown)?)
            }
        })
    }
}

impl fmt::Display for Calibrator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Calibrator::MinMax => f.write_str("min-max"),
            Calibrator::MovingAverage => f.write_str("moving-average"),
            Calibrator::Percentile(PERCENT) => f.write_str("percentile"),
            Calibrator::Percentile(percent) => write!(f, "percentile={percent}"),
            Calibrator::Mse => f.write_str("mse"),
            Calibrator::Entropy => f.write_str("entropy"),
        }
    }
}

impl Serialize for Calibrator {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Calibrator {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Calibrator, D::Error> {
        String::deserialize(d)?.parse().map_err(D::Error::custom)
    }
}

/// The name of a type of codes.
pub fn levels_name(levels: Levels) -> &'static str {
    levels::ALL.iter().find(|(_, l)| *l == levels).map_or("int8", |(name, _)| name)
}

/// Codes by the names of their types.
mod levels {
    use super::*;

    pub const ALL: [(&str, Levels); 3] = [("int4", Levels::I4), ("int8", Levels::I8), ("uint8", Levels::U8)];

    pub fn serialize<S: Serializer>(levels: &Levels, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(levels_name(*levels))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Levels, D::Error> {
        let word = String::deserialize(d)?;
        let found = ALL.iter().find(|(name, _)| *name == word).map(|(_, levels)| *levels);
        found.ok_or_else(|| D::Error::custom(format!("`{word}` is no type of codes: write int8, uint8 or int4")))
    }
}
