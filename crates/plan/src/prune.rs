//! What pruning is asked for: how much may be left, what counts as important, and who gives.

use crate::units::Bytes;
use crate::{Counters, Gradual, Pace, Pattern, Penalty};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::fmt;
use std::str::FromStr;

/// Channels, or whole layers or experts of a decoder, are taken out of a model until a budget holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct PruneSpec {
    /// What may be left.
    pub budget: Budget,
    /// What matters.
    pub by: Criterion,
    /// How groups share the loss.
    pub across: Allocation,
    /// Kept channels are a multiple of this, where a group has as many: 8 where nothing is said and time is counted, which what runtimes
    /// run fast decides, else 1.
    pub multiple: usize,
    /// Weights whose outputs may go, by name, role or regular expression; all where there are none. Key heads take the queries with
    /// them that share them; queries that are named without keys go alone, as many of every key head.
    pub only: Vec<Pattern>,
    /// Whether channels may go that a norm takes statistics over: what is left then changes, and must be trained again.
    pub through_norms: bool,
    /// When they go.
    pub pace: Pace,
}

impl PruneSpec {
    /// Down to a budget, by what is usual for what it counts, the same share of every group.
    pub fn to(budget: Budget) -> PruneSpec {
        PruneSpec {
            budget,
            by: budget.of.part().criterion(),
            across: Allocation::default(),
            multiple: budget.of.multiple(),
            only: Vec::new(),
            through_norms: false,
            pace: Pace::Once,
        }
    }

    /// Whether the model is run to tell which channels matter.
    pub fn measures(&self) -> bool {
        self.by == Criterion::Taylor || self.across == Allocation::Sensitivity
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
    /// Layers of a decoder.
    Layers,
    /// Experts of each layer of a decoder.
    Experts,
}

/// What is taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Indices of axes: channels, heads, neurons.
    Channels,
    /// Decoder layers.
    Layers,
    /// Experts of mixtures.
    Experts,
}

impl Part {
    /// What says which matter, where nothing else is asked for.
    pub const fn criterion(self) -> Criterion {
        match self {
            Part::Channels => Criterion::L2,
            Part::Layers => Criterion::Influence,
            Part::Experts => Criterion::Reap,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Part::Channels => "channels",
            Part::Layers => "layers",
            Part::Experts => "experts",
        }
    }
}

impl Resource {
    /// Every one.
    pub const ALL: [Resource; 8] = [
        Resource::Channels,
        Resource::Macs,
        Resource::Parameters,
        Resource::Bytes,
        Resource::Peak,
        Resource::Latency,
        Resource::Layers,
        Resource::Experts,
    ];

    /// The name in recipes.
    pub const fn name(self) -> &'static str {
        match self {
            Resource::Channels => "channels",
            Resource::Macs => "macs",
            Resource::Parameters => "parameters",
            Resource::Bytes => "bytes",
            Resource::Peak => "peak",
            Resource::Latency => "latency",
            Resource::Layers => "layers",
            Resource::Experts => "experts",
        }
    }

    /// What goes until a budget of it holds.
    pub const fn part(self) -> Part {
        match self {
            Resource::Layers => Part::Layers,
            Resource::Experts => Part::Experts,
            Resource::Channels
            | Resource::Macs
            | Resource::Parameters
            | Resource::Bytes
            | Resource::Peak
            | Resource::Latency => Part::Channels,
        }
    }

    /// What kept channels are a multiple of where nothing is said.
    const fn multiple(self) -> usize {
        if matches!(self, Resource::Latency) { 8 } else { 1 }
    }

    /// How much of it a network has. Channels, layers and experts are counted where they go, so not here: parameters stand for them.
    pub fn count(self, of: &Counters) -> u64 {
        match self {
            // Times are measured, not counted; by what takes them.
            Resource::Macs | Resource::Latency => of.total_macs(),
            Resource::Channels | Resource::Parameters | Resource::Layers | Resource::Experts => of.parameters,
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
    #[error(
        "`{0}` is nothing that pruning counts; write channels, macs, parameters, bytes, peak, latency, layers or experts"
    )]
    Resource(String),
    #[error("channels are counted in shares: write a number between 0 and 1")]
    Channels,
    #[error("{0} is given in shares or in times, and only it: write latency=0.5, or latency=2ms")]
    Time(&'static str),
    #[error(
        "pruning needs one budget; give one of channels, macs, parameters, bytes, peak, latency, layers and experts, not {0}"
    )]
    Count(usize),
    #[error("`by = \"{by}\"` says nothing of {of}; {of} go by {}", .fits.join(", "))]
    Criterion { by: &'static str, of: &'static str, fits: Vec<&'static str> },
    #[error("{of} go whole, at once, and as many of each layer: leave out `{field}`, which is for channels")]
    Whole { of: &'static str, field: &'static str },
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
            (Resource::Latency, _) => Ok(self),
            (_, Amount::Time(_)) => Err(BudgetError::Time("latency")),
            // All of what goes whole is no budget, so one of them is meant.
            (Resource::Layers | Resource::Experts, Amount::Share(1.0)) => Ok(Budget { left: Amount::Count(1), ..self }),
            _ => Ok(self),
        }
    }
}

/// What matters. What each computes stands in `passes/src/prune/criterion.rs`, `layers.rs` and `experts.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Criterion {
    /// Sum of magnitudes.
    L1,
    /// Sum of squares.
    L2,
    /// Magnitude of batch norms' scales.
    BnScale,
    /// Distance from the other filters of the group.
    Fpgm,
    /// First-order change of the loss on data.
    Taylor,
    /// Of layers: how far each turns the hidden state, on text.
    Influence,
    /// Of layers: the loss on text without each, one layer after the other.
    Loss,
    /// Of experts: how much each adds to the tokens that are sent to it, on text.
    Reap,
}

impl Criterion {
    /// Every one.
    pub const ALL: [Criterion; 8] = [
        Criterion::L1,
        Criterion::L2,
        Criterion::BnScale,
        Criterion::Fpgm,
        Criterion::Taylor,
        Criterion::Influence,
        Criterion::Loss,
        Criterion::Reap,
    ];

    /// The name in recipes.
    pub const fn name(self) -> &'static str {
        match self {
            Criterion::L1 => "l1",
            Criterion::L2 => "l2",
            Criterion::BnScale => "bn-scale",
            Criterion::Fpgm => "fpgm",
            Criterion::Taylor => "taylor",
            Criterion::Influence => "influence",
            Criterion::Loss => "loss",
            Criterion::Reap => "reap",
        }
    }

    /// Whether it can tell which of these matter.
    pub fn fits(self, part: Part) -> bool {
        match self {
            Criterion::L1 | Criterion::L2 => part != Part::Layers,
            Criterion::BnScale | Criterion::Fpgm | Criterion::Taylor => part == Part::Channels,
            Criterion::Influence | Criterion::Loss => part == Part::Layers,
            Criterion::Reap => part == Part::Experts,
        }
    }
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
    #[serde(skip_serializing_if = "Option::is_none")]
    layers: Option<Amount>,
    #[serde(skip_serializing_if = "Option::is_none")]
    experts: Option<Amount>,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<Criterion>,
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

impl Written {
    /// A field that is given and speaks of channels only.
    fn of_channels(&self) -> Option<&'static str> {
        let given = [
            ("across", self.across != Allocation::Uniform),
            ("multiple", self.multiple.is_some()),
            ("only", !self.only.is_empty()),
            ("through-norms", self.through_norms),
            ("gradual", self.gradual.is_some()),
            ("penalty", self.penalty.is_some()),
        ];
        given.into_iter().find(|(_, given)| *given).map(|(field, _)| field)
    }
}

impl TryFrom<Written> for PruneSpec {
    type Error = BudgetError;

    fn try_from(w: Written) -> Result<PruneSpec, BudgetError> {
        let amounts = [w.channels, w.macs, w.parameters, w.bytes, w.peak, w.latency, w.layers, w.experts];
        let given = Resource::ALL.into_iter().zip(amounts).filter_map(|(of, left)| Some(Budget { of, left: left? }));
        let budgets: Vec<Budget> = given.collect();
        let [budget] = budgets[..] else { return Err(BudgetError::Count(budgets.len())) };
        let part = budget.of.part();
        let by = w.by.unwrap_or(part.criterion());
        if !by.fits(part) {
            let fits = Criterion::ALL.into_iter().filter(|c| c.fits(part)).map(Criterion::name).collect();
            return Err(BudgetError::Criterion { by: by.name(), of: part.name(), fits });
        }
        if let (Part::Layers | Part::Experts, Some(field)) = (part, w.of_channels()) {
            return Err(BudgetError::Whole { of: part.name(), field });
        }
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
            by,
            across: w.across,
            multiple: w.multiple.unwrap_or(budget.of.multiple()),
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
            layers: of(Resource::Layers),
            experts: of(Resource::Experts),
            by: Some(spec.by),
            across: spec.across,
            multiple: (spec.multiple != spec.budget.of.multiple()).then_some(spec.multiple),
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
