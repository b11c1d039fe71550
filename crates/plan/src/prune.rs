//! What pruning is asked for: how much may be left, what counts as important, and who gives.

use crate::units::Bytes;
use crate::{Counters, Gradual, Pace, Pattern, Penalty};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::fmt;
use std::str::FromStr;

/// Channels are taken out of a model until a budget holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct PruneSpec {
    /// What may be left.
    pub budget: Budget,
    /// Which channels matter.
    pub by: Criterion,
    /// How groups share the loss.
    pub across: Allocation,
    /// Kept channels are a multiple of this, where a group has as many.
    pub multiple: usize,
    /// Weights whose outputs may go, by name, role or regular expression; all where there are none.
    pub only: Vec<Pattern>,
    /// Whether channels may go that a norm takes statistics over: what is left then changes, and must be trained again.
    pub through_norms: bool,
    /// When they go.
    pub pace: Pace,
}

impl PruneSpec {
    /// Down to a budget, by what is usual: squared magnitude, the same share of every group.
    pub fn to(budget: Budget) -> PruneSpec {
        PruneSpec {
            budget,
            by: Criterion::default(),
            across: Allocation::default(),
            multiple: 1,
            only: Vec::new(),
            through_norms: false,
            pace: Pace::Once,
        }
    }
}

/// How much may be left, and of what.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    /// What is counted.
    pub of: Resource,
    /// How much may be left.
    pub left: Amount,
}

/// What a budget counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resource {
    /// Channels of every group; of multiply–accumulates and parameters about the square of that share is left.
    Channels,
    /// Multiply–accumulates of one sample.
    Macs,
    /// Elements of weights.
    Parameters,
    /// Bytes of weights.
    Bytes,
    /// Bytes of activations that one sample needs at once.
    Peak,
    /// Time of one sample, measured on this machine.
    Latency,
}

impl Resource {
    /// Every one.
    pub const ALL: [Resource; 6] =
        [Resource::Channels, Resource::Macs, Resource::Parameters, Resource::Bytes, Resource::Peak, Resource::Latency];

    /// The name in recipes.
    pub const fn name(self) -> &'static str {
        match self {
            Resource::Channels => "channels",
            Resource::Macs => "macs",
            Resource::Parameters => "parameters",
            Resource::Bytes => "bytes",
            Resource::Peak => "peak",
            Resource::Latency => "latency",
        }
    }

    /// How much of it a network has. Channels are counted by group, so not here: parameters stand for them.
    pub fn count(self, of: &Counters) -> u64 {
        match self {
            // Times are measured, not counted; by what takes them.
            Resource::Macs | Resource::Latency => of.total_macs(),
            Resource::Channels | Resource::Parameters => of.parameters,
            Resource::Bytes => of.bytes,
            Resource::Peak => of.memory.planned,
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Resource::Latency { "nanoseconds" } else { self.name() })
    }
}

/// A share of what there was, or a count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Amount {
    /// Between 0 and 1.
    Share(f64),
    /// So many, or so many bytes.
    Count(u64),
    /// So many nanoseconds.
    Time(u64),
}

impl Amount {
    /// The count, of what was `before`.
    pub fn of(self, before: u64) -> u64 {
        match self {
            Amount::Share(share) => (before as f64 * share) as u64,
            Amount::Count(count) | Amount::Time(count) => count,
        }
    }
}

/// Why a budget makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum BudgetError {
    #[error("`{0}` is no amount; write a share such as 0.5, a count, a size such as 300kB, or a time such as 2ms")]
    Amount(String),
    #[error("`{0}` is nothing that pruning counts; write channels, macs, parameters, bytes, peak or latency")]
    Resource(String),
    #[error("channels are counted in shares: write a number between 0 and 1")]
    Channels,
    #[error("{0} is given in shares or in times, and only it: write latency=0.5, or latency=2ms")]
    Time(&'static str),
    #[error("pruning needs one budget; give one of channels, macs, parameters, bytes, peak and latency, not {0}")]
    Count(usize),
    #[error("kept channels are a multiple of 1 or more, not 0")]
    Multiple,
    #[error("channels go in rounds or under a penalty; keep one of `gradual` and `penalty`")]
    Paces,
    #[error("{0}")]
    Pace(String),
}

impl FromStr for Amount {
    type Err = BudgetError;

    fn from_str(text: &str) -> Result<Amount, BudgetError> {
        match text.trim().parse::<f64>() {
            Ok(share) if share > 0.0 && share <= 1.0 => Ok(Amount::Share(share)),
            Ok(count) if count > 1.0 && count < 1e18 => Ok(Amount::Count(count as u64)),
            Ok(_) => Err(BudgetError::Amount(text.into())),
            Err(_) if time(text).is_some() => Ok(Amount::Time(time(text).unwrap_or_default())),
            Err(_) => text.parse::<Bytes>().map(|b| Amount::Count(b.0)).map_err(|_| BudgetError::Amount(text.into())),
        }
    }
}

/// Nanoseconds of `2ms`, `800us`, `1.5s`.
fn time(text: &str) -> Option<u64> {
    let units = [("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9)];
    let number = |(unit, size): (&str, f64)| Some(text.trim().strip_suffix(unit)?.trim().parse::<f64>().ok()? * size);
    units.into_iter().find_map(number).filter(|n| (1.0..1e18).contains(n)).map(|n| n as u64)
}

/// `0.5` (of the multiply–accumulates), or what is counted before it: `peak=256KiB`.
impl FromStr for Budget {
    type Err = BudgetError;

    fn from_str(text: &str) -> Result<Budget, BudgetError> {
        let (of, left) = match text.split_once('=') {
            None => (Resource::Macs, text),
            Some((name, left)) => {
                let of = Resource::ALL.into_iter().find(|r| r.name() == name.trim());
                (of.ok_or_else(|| BudgetError::Resource(name.into()))?, left)
            }
        };
        Budget { of, left: left.parse()? }.check()
    }
}

impl Budget {
    fn check(self) -> Result<Budget, BudgetError> {
        match (self.of, self.left) {
            (Resource::Channels, Amount::Count(_) | Amount::Time(_)) => Err(BudgetError::Channels),
            (Resource::Latency, Amount::Count(_)) => Err(BudgetError::Time("latency")),
            (Resource::Macs | Resource::Parameters | Resource::Bytes | Resource::Peak, Amount::Time(_)) => {
                Err(BudgetError::Time("latency"))
            }
            _ => Ok(self),
        }
    }
}

/// Which channels matter. What each computes stands in `passes/src/prune/criterion.rs`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Criterion {
    /// Sum of magnitudes.
    L1,
    /// Sum of squares.
    #[default]
    L2,
    /// Magnitude of batch norms' scales.
    BnScale,
    /// Distance from the other filters of the group.
    Fpgm,
    /// First-order change of the loss on data.
    Taylor,
}

/// How groups share the loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Allocation {
    /// The same share of every group.
    #[default]
    Uniform,
    /// The least important channels of all groups together, one by one.
    Global,
    /// The least important ones among groups that are alike (Fang et al. 2024).
    Isomorphic,
    /// What the output is least sensitive to, measured.
    Sensitivity,
}

/// A specification as it is written.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct Written {
    #[serde(skip_serializing_if = "Option::is_none")]
    channels: Option<Amount>,
    #[serde(skip_serializing_if = "Option::is_none")]
    macs: Option<Amount>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<Amount>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<Amount>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peak: Option<Amount>,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency: Option<Amount>,
    by: Criterion,
    across: Allocation,
    #[serde(skip_serializing_if = "Option::is_none")]
    multiple: Option<usize>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    only: Vec<Pattern>,
    through_norms: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    gradual: Option<Gradual>,
    #[serde(skip_serializing_if = "Option::is_none")]
    penalty: Option<Penalty>,
}

impl TryFrom<Written> for PruneSpec {
    type Error = BudgetError;

    fn try_from(w: Written) -> Result<PruneSpec, BudgetError> {
        let amounts = [w.channels, w.macs, w.parameters, w.bytes, w.peak, w.latency];
        let given = Resource::ALL.into_iter().zip(amounts).filter_map(|(of, left)| Some(Budget { of, left: left? }));
        let budgets: Vec<Budget> = given.collect();
        let [budget] = budgets[..] else { return Err(BudgetError::Count(budgets.len())) };
        if w.multiple == Some(0) {
            return Err(BudgetError::Multiple);
        }
        let pace = match (w.gradual, w.penalty) {
            (None, None) => Pace::Once,
            (Some(gradual), None) => Pace::Gradual(gradual),
            (None, Some(penalty)) => Pace::Penalty(penalty),
            (Some(_), Some(_)) => return Err(BudgetError::Paces),
        };
        if let (Pace::Gradual(_), Amount::Time(_)) = (&pace, budget.left) {
            return Err(BudgetError::Pace("rounds go towards a share of the latency: write latency = 0.5".into()));
        }
        if let Some(why) = pace.problem() {
            return Err(BudgetError::Pace(why));
        }
        Ok(PruneSpec {
            budget: budget.check()?,
            by: w.by,
            across: w.across,
            multiple: w.multiple.unwrap_or(1),
            only: w.only,
            through_norms: w.through_norms,
            pace,
        })
    }
}

impl From<PruneSpec> for Written {
    fn from(spec: PruneSpec) -> Written {
        let of = |resource| (spec.budget.of == resource).then_some(spec.budget.left);
        let (gradual, penalty) = match spec.pace {
            Pace::Once => (None, None),
            Pace::Gradual(gradual) => (Some(gradual), None),
            Pace::Penalty(penalty) => (None, Some(penalty)),
        };
        Written {
            channels: of(Resource::Channels),
            macs: of(Resource::Macs),
            parameters: of(Resource::Parameters),
            bytes: of(Resource::Bytes),
            peak: of(Resource::Peak),
            latency: of(Resource::Latency),
            by: spec.by,
            across: spec.across,
            multiple: (spec.multiple > 1).then_some(spec.multiple),
            only: spec.only,
            through_norms: spec.through_norms,
            gradual,
            penalty,
        }
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Amount::Share(share) => s.serialize_f64(*share),
            Amount::Count(count) => s.serialize_u64(*count),
            Amount::Time(time) => s.collect_str(&format_args!("{time}ns")),
        }
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Amount, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Any {
            Whole(u64),
            Real(f64),
            Text(String),
        }
        let text = match Any::deserialize(d)? {
            Any::Whole(n) => n.to_string(),
            Any::Real(x) => x.to_string(),
            Any::Text(text) => text,
        };
        text.parse().map_err(D::Error::custom)
    }
}
