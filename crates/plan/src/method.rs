//! Methods: how the codes of a weight are chosen, once its encoding is.

use codec::{BlockFormat, Encoding, Packed};
use serde::{Deserialize, Serialize};
use std::fmt;

/// How the codes of a weight are chosen. What each does, costs and needs stands in the file of its name under
/// `passes/src/quantize`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Every number by itself, to the nearest.
    #[default]
    Round,
    /// To the nearest, under scales for which few errors are large and most are small.
    Hqq,
    /// Two ternary planes, nine even levels.
    Ptqtp,
    /// To the nearest, under scales searched for the least error, weighted by the inputs where they are known.
    Search,
    /// Error feedback: what a column loses, later columns make good.
    Gptq,
    /// Error feedback, then one number and one scale after the other to where the error is least.
    Descent,
    /// Descent, then the rounding of a whole block learned by signs of gradients.
    SignRound,
    /// Error feedback and descent on ternary codes.
    Ternary,
}

/// What a method must know of a weight's inputs on calibration text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Learns {
    /// Nothing; it needs no text.
    Nothing,
    /// The mean square of every column.
    Columns,
    /// How every two columns go together.
    Hessian,
    /// And how they drift from the original's as more of the model is compressed.
    Drift,
}

impl Method {
    /// Every method.
    pub const ALL: [Method; 8] = [
        Method::Round,
        Method::Hqq,
        Method::Ptqtp,
        Method::Search,
        Method::Gptq,
        Method::Descent,
        Method::SignRound,
        Method::Ternary,
    ];

    /// The name in recipes.
    pub const fn name(self) -> &'static str {
        match self {
            Method::Round => "round",
            Method::Hqq => "hqq",
            Method::Ptqtp => "ptqtp",
            Method::Search => "search",
            Method::Gptq => "gptq",
            Method::Descent => "descent",
            Method::SignRound => "signround",
            Method::Ternary => "ternary",
        }
    }

    /// What it must know of a weight's inputs.
    pub const fn learns(self) -> Learns {
        match self {
            Method::Round | Method::Hqq | Method::Ptqtp => Learns::Nothing,
            Method::Search => Learns::Columns,
            Method::Gptq => Learns::Hessian,
            Method::Descent | Method::SignRound | Method::Ternary => Learns::Drift,
        }
    }

    /// The method that encodes a weight where this one is asked for: itself, or its nearest where it knows nothing of the
    /// encoding.
    pub fn on(self, encoding: Encoding) -> Method {
        let symmetric = match encoding {
            Encoding::Packed(Packed::Int { symmetric, bits, .. }) => symmetric && bits.get() >= 4,
            Encoding::Block(format) => matches!(format, BlockFormat::Q4_0 | BlockFormat::Q5_0 | BlockFormat::Q8_0),
            _ => false,
        };
        let ternary = matches!(encoding, Encoding::Block(BlockFormat::TQ1_0 | BlockFormat::TQ2_0));
        match self {
            Method::Ptqtp if !symmetric => Method::Round,
            Method::Ternary if !ternary => Method::Descent,
            method => method,
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
