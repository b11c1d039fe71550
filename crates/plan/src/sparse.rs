//! What unstructured sparsity is asked for: how many numbers become zero, and which.

use crate::{Pattern, TrainingSpec};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::fmt;
use std::str::FromStr;

/// Numbers of matrices become zero, and stay where they are.
///
/// ```toml
/// sparsify = { zeros = "2:4", by = "wanda" }
/// sparsify = { zeros = 0.9, by = "movement", recover = { epochs = 3, rate = 0.01 } }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SparseSpec {
    /// How many.
    pub zeros: Zeros,
    /// Which.
    #[serde(default)]
    pub by: SparseBy,
    /// Matrices, by name, role or regular expression; all inside the blocks of a decoder, or all of a network, where there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub only: Vec<Pattern>,
    /// Training in which a network's zeros come little by little; they come at once where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recover: Option<TrainingSpec>,
}

impl SparseSpec {
    /// What makes no sense of it, if anything.
    pub fn problem(&self) -> Option<String> {
        match (self.by, self.zeros, &self.recover) {
            (SparseBy::Movement, _, None) => Some("movement is what training does: give `recover = { … }`".into()),
            (SparseBy::Wanda | SparseBy::SparseGpt, _, Some(_)) => {
                Some("only `magnitude` and `movement` choose while a network learns".into())
            }
            (_, Zeros::Of { .. }, Some(_)) => Some("zeros that come little by little are a share, such as 0.8".into()),
            (_, _, recover) => recover.as_ref().and_then(TrainingSpec::problem),
        }
    }
}

/// How many numbers become zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Zeros {
    /// This share, between 0 and 1.
    Share(f64),
    /// So many of every so many in a row: `2:4`.
    Of {
        /// How many.
        zeros: usize,
        /// Of how many.
        of: usize,
    },
}

/// Which numbers become zero. What each computes stands in `passes/src/prune/sparse.rs`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SparseBy {
    /// The smallest.
    #[default]
    Magnitude,
    /// The smallest times the size of what they are multiplied with.
    Wanda,
    /// Those whose loss the others make good best, and they do.
    SparseGpt,
    /// Those that training moves towards zero.
    Movement,
}

impl SparseBy {
    /// Whether the model must be run over text.
    pub const fn calibrates(self) -> bool {
        matches!(self, SparseBy::Wanda | SparseBy::SparseGpt)
    }
}

/// Why an amount of zeros makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no amount of zeros; write a share between 0 and 1, or a pattern such as 2:4")]
pub struct ZerosError(String);

impl FromStr for Zeros {
    type Err = ZerosError;

    fn from_str(text: &str) -> Result<Zeros, ZerosError> {
        let wrong = || ZerosError(text.into());
        if let Some((zeros, of)) = text.split_once(':') {
            let number = |n: &str| n.trim().parse::<usize>().map_err(|_| wrong());
            let (zeros, of) = (number(zeros)?, number(of)?);
            return if zeros > 0 && zeros < of { Ok(Zeros::Of { zeros, of }) } else { Err(wrong()) };
        }
        match text.trim().parse::<f64>() {
            Ok(share) if share > 0.0 && share < 1.0 => Ok(Zeros::Share(share)),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Zeros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Zeros::Share(share) => write!(f, "{share}"),
            Zeros::Of { zeros, of } => write!(f, "{zeros}:{of}"),
        }
    }
}

impl Serialize for Zeros {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Zeros::Share(share) => s.serialize_f64(*share),
            pattern => s.collect_str(pattern),
        }
    }
}

impl<'de> Deserialize<'de> for Zeros {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Zeros, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Any {
            Share(f64),
            Pattern(String),
        }
        let text = match Any::deserialize(d)? {
            Any::Share(share) => share.to_string(),
            Any::Pattern(text) => text,
        };
        text.parse().map_err(D::Error::custom)
    }
}
