//! Methods: how the codes of a weight are chosen, once its encoding is.

use serde::{Deserialize, Serialize};
use std::fmt;

/// How the codes of a weight are chosen. What each does, costs and needs stands in the file of its name under
/// `passes/src/quantize`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Every number by itself, to the nearest.
    #[default]
    Round,
    /// To the nearest, under scales searched for the least error, weighted by the inputs where they are known.
    Search,
    /// Error feedback: what a column loses, later columns make good.
    Gptq,
    /// Error feedback, then one number and one scale after the other to where the error is least.
    Descent,
}

/// What a method must know of a weight's inputs on calibration text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learns {
    /// Nothing; it needs no text.
    Nothing,
    /// The mean square of every column.
    Columns,
    /// How every two columns go together.
    Hessian,
}

impl Method {
    /// Every method.
    pub const ALL: [Method; 4] = [Method::Round, Method::Search, Method::Gptq, Method::Descent];

    /// The name in recipes.
    pub const fn name(self) -> &'static str {
        match self {
            Method::Round => "round",
            Method::Search => "search",
            Method::Gptq => "gptq",
            Method::Descent => "descent",
        }
    }

    /// What it must know of a weight's inputs.
    pub const fn learns(self) -> Learns {
        match self {
            Method::Round => Learns::Nothing,
            Method::Search => Learns::Columns,
            Method::Gptq | Method::Descent => Learns::Hessian,
        }
    }

    /// Whether it needs the model to be run over calibration text.
    pub const fn calibrates(self) -> bool {
        !matches!(self.learns(), Learns::Nothing)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
