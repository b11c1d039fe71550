//! Structured pruning: channels, heads and neurons are taken out, and the model is physically smaller.
//!
//! **What it does.** [`groups`] finds what must go together, [`criterion`] says what matters, [`allocation`] chooses until a budget
//! holds, [`removal`] makes the patch, [`check`] proves every group before anything is applied. Layers and experts of decoders go
//! [`whole`].
//! **When to use.** Where runtimes are to do less work: networks for phones and boards; also decoders.
//! **What it costs.** Seconds: the weights are read once, each group runs twice over its own nodes.
//! **What it needs.** Nothing but the model for magnitudes; data for `taylor` and `sensitivity`.
//! **Numbers.** `bench/prune`.
//! **Paper.** Fang et al., *DepGraph: Towards Any Structural Pruning*, CVPR 2023; *Isomorphic Pruning for Vision Models*, ECCV 2024.
//! **Differences from the paper.** Groups are classes of indices, not of layers: channel shuffles, a value concatenated
//! twice, and grouped convolutions need no rules of their own. Whatever the graph cannot look into is frozen, and reported.

mod allocation;
pub mod check;
mod criterion;
mod decoder;
mod experts;
pub mod groups;
mod latency;
mod layers;
mod removal;
mod sensitivity;
mod shuffle;
mod sliced;
pub mod sparse;
mod taylor;
mod union;
mod untie;
pub mod whole;

pub use decoder::configure;
pub use groups::{Channel, Freedom, Frozen, Group, Groups};
pub use removal::Removal;
pub use union::{Axis, Of};

use graph::{GraphError, Model, Patch, Role, SourceError};
use plan::{Criterion, GroupEntry, Note, PruneSpec, Resource};
use std::collections::BTreeMap;

/// Why nothing was pruned.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum PruneError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Graph(#[from] GraphError),
    #[error(transparent)]
    Run(#[from] exec::Error),
    #[error(transparent)]
    Lane(#[from] calib::LaneError),
    #[error("this choice of zeros learns from text that a decoder runs over; give --calibration, or take `magnitude`")]
    NoText,
    #[error("what the model makes of the text is not finite {at}, so nothing can be compared")]
    NotFiniteOnText { at: String },
    #[error(
        "{of} are those of a language model, and this is none; take channels, macs, parameters, bytes, peak or latency"
    )]
    NoDecoder { of: Resource },
    #[error("the model has no experts: its layers are dense; take layers or channels")]
    NoExperts,
    #[error("which {of} matter by `{by}` is measured on text that the model runs over; give --calibration")]
    NeedsText { by: &'static str, of: &'static str },
    #[error("{asked} {of} are to be left, and there are {before}; ask for fewer")]
    TooMany { of: Resource, asked: u64, before: usize },
    #[error("{asked} of {before} {of} are to be left, and no fewer than {least} can be; ask for more")]
    TooFew { of: Resource, asked: u64, least: usize, before: usize },
    #[error("the data cannot be read")]
    Samples { source: Box<dyn std::error::Error + Send + Sync> },
    #[error("weight `{weight}` is quantized ({encoding}); prune before quantizing")]
    Quantized { weight: String, encoding: String },
    #[error("weight `{weight}` has numbers that are not finite, so its channels cannot be compared")]
    NotFinite { weight: String },
    #[error("a budget of {asked} {of} cannot be met: {least} of {before} are left when every group keeps its least")]
    Budget { of: Resource, asked: u64, least: u64, before: u64 },
    #[error("nothing can be pruned: {}", .why.as_deref().unwrap_or("no weight makes channels that another reads"))]
    Nothing { why: Option<String> },
    #[error("no matrix of plain numbers was named, so nothing becomes sparse")]
    NoMatrices,
    #[error("the budget holds as it is: nothing was pruned")]
    Met,
    #[error(
        "layers would keep different numbers of {what}, and a decoder's formats have one for all; prune across `uniform`"
    )]
    Uneven { what: &'static str },
    #[error(
        "the group of `{group}` is none: without its channels the network computes something else ({apart:.1e} apart); \
         this is a fault of an op's axis relations"
    )]
    NotInvariant { group: String, apart: f64 },
}

/// What pruning works with beside a model.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// What the network is run on, where something is measured; random numbers where there are no data.
    pub data: Option<&'a dyn calib::Samples>,
    /// Seed of everything drawn.
    pub seed: u64,
    /// Hears of every group that is done.
    pub advance: &'a (dyn Fn(u64) + Sync),
}

/// What pruning chose.
pub struct Pruned {
    /// What must be done to a model before channels can go, if anything.
    pub prepare: Option<Patch>,
    /// What goes then.
    pub removal: Removal,
    /// What stays, and why.
    pub notes: Vec<Note>,
    /// Every group.
    pub groups: Vec<GroupEntry>,
    /// What was measured.
    pub figures: Vec<(String, f64)>,
}

impl Pruned {
    /// Takes the channels out of the model that they were chosen in.
    pub fn take_out(self, model: &mut Model) -> Result<(), PruneError> {
        self.prepare.map_or(Ok(()), |patch| model.apply(patch))?;
        Ok(model.apply(self.removal.patch(model)?)?)
    }
}

/// Finds the channels that a specification lets go, and proves that they can.
pub fn prune(model: &Model, spec: &PruneSpec, context: &Context<'_>) -> Result<Pruned, PruneError> {
    let mut own = model.clone();
    untie::untie(model).map_or(Ok(()), |patch| own.apply(patch))?;
    let (prepare, model) = (untie::untie(model), &own);
    if spec.measures() && context.data.is_none() && model.decoder().is_some() {
        let by = if spec.by == Criterion::Taylor { "taylor" } else { "sensitivity" };
        return Err(PruneError::NeedsText { by, of: "channels" });
    }
    let mut found = groups::find(model, Freedom { norms: spec.through_norms, queries: queries_alone(model, spec) });
    found.groups.retain(|group| asked(model, group, spec));
    if found.groups.is_empty() {
        return Err(PruneError::Nothing { why: found.frozen.into_iter().next().map(|f| f.why) });
    }
    let (scores, strangers) = criterion::scores(model, &found.groups, spec.by, context)?;
    let curves = sensitivity::measure(model, &found.groups, &scores, spec.across, context)?;
    let choice =
        allocation::Choice { model, groups: &found.groups, scores, spec, curves: &curves, profile: None, aim: 1.0 };
    let (chosen, mut times) = match spec.budget.of {
        Resource::Latency => within_time(choice.timed()?)?,
        _ => (choice.fit()?, Vec::new()),
    };
    let removal = Removal::of(chosen.iter().flatten().copied());
    if removal.is_empty() {
        return Err(PruneError::Met);
    }
    let worst = prove(model, &found, &chosen, spec, context)?;
    let gone = chosen.iter().map(Vec::len).sum::<usize>();
    let all = found.groups.iter().map(|g| g.channels.len()).sum::<usize>();
    let mut notes = frozen_notes(&found.frozen);
    notes.extend(strangers.into_iter().map(|weight| Note {
        weight: Some(weight),
        what: "its group has nothing that the criterion looks at; l2 was taken".into(),
    }));
    if context.data.is_none() && spec.measures() {
        let what = "no data were given: what counts as important was measured on random numbers".into();
        notes.push(Note { weight: None, what });
    }
    if spec.through_norms {
        let what = "channels went over which norms take statistics, so no group could be proven: train it again";
        notes.push(Note { weight: None, what: what.into() });
    }
    let entry = |(n, (group, gone)): (usize, (&Group, &Vec<&Channel>))| GroupEntry {
        name: group.name.clone(),
        kind: group.kind.clone(),
        before: group.channels.len(),
        after: group.channels.len() - gone.len(),
        moved: curves.get(n).map_or(Vec::new(), |curve| curve.to_vec()),
    };
    let groups: Vec<GroupEntry> = found.groups.iter().zip(&chosen).enumerate().map(entry).collect();
    notes.extend(odd(&groups).filter(|_| model.decoder().is_none()));
    let figures =
        [("groups", found.groups.len() as f64), ("channels", all as f64), ("channels taken out", gone as f64)];
    let figures = figures.into_iter().chain([("largest difference of a masked group", worst)]);
    let figures = figures.map(|(name, value)| (name.to_owned(), value)).chain(times.drain(..)).collect();
    Ok(Pruned { prepare, removal, notes, groups, figures })
}

/// Channels that onnxruntime keeps together in memory, at least.
const TOGETHER: usize = 4;

/// A note where groups came to keep odd numbers of channels.
fn odd(groups: &[GroupEntry]) -> Option<Note> {
    let odd = groups.iter().filter(|g| g.before.is_multiple_of(TOGETHER) && !g.after.is_multiple_of(TOGETHER)).count();
    let what = format!(
        "{odd} groups keep a number of channels that is no multiple of {TOGETHER}: onnxruntime may run the network slower than it \
         was, for all that less is computed; give `multiple = 8` where it is to be faster there"
    );
    (odd > 0).then_some(Note { weight: None, what })
}

/// Rounds in which a budget of time is met.
const ROUNDS: usize = 4;

/// Takes out what a budget of time asks for, and times what is left; takes out more while it takes too long.
fn within_time<'a>(mut choice: allocation::Choice<'a>) -> Result<(Vec<Vec<&'a Channel>>, Figures), PruneError> {
    let budget = choice.spec.budget;
    let mut last = (0, 0);
    for _ in 0..ROUNDS {
        let chosen = choice.fit()?;
        let pruned = choice.without(&chosen)?;
        let [before, after] = latency::in_turns([choice.model, &pruned])?.map(|s| (s * 1e9) as u64);
        let (asked, predicted) = (budget.left.of(before), choice.profile.as_ref().map_or(0, |p| p.predict(&pruned)));
        if after <= asked {
            let figures = [("latency before, ms", before), ("predicted, ms", predicted), ("latency after, ms", after)];
            return Ok((chosen, figures.map(|(name, ns)| (name.to_owned(), ns as f64 / 1e6)).to_vec()));
        }
        last = (after, before);
        choice.aim *= (asked as f64 / after.max(1) as f64).clamp(0.5, 0.97);
    }
    let (least, before) = last;
    Err(PruneError::Budget { of: budget.of, asked: budget.left.of(before), least, before })
}

/// What was measured: names and values.
type Figures = Vec<(String, f64)>;

/// Whether a specification names a weight that makes the group's channels.
fn asked(model: &Model, group: &Group, spec: &PruneSpec) -> bool {
    let weights = group.channels.iter().take(1).flat_map(|c| c.indices.keys()).filter_map(|axis| match axis.of {
        Of::Weight(id) if axis.axis == 0 => Some(model.weights.get(id)),
        _ => None,
    });
    let weights: Vec<_> = weights.collect();
    spec.only.is_empty() || spec.only.iter().any(|pattern| weights.iter().any(|w| pattern.matches(w)))
}

/// Whether queries go without the key heads that they share: a specification names the ones and not the others.
fn queries_alone(model: &Model, spec: &PruneSpec) -> bool {
    let names = |role: Role| {
        let mut weights = model.weights.iter().filter(move |(_, w)| w.place.role == role);
        weights.any(|(_, w)| spec.only.iter().any(|pattern| pattern.matches(w)))
    };
    let grouped = model.decoder().is_some_and(|config| config.heads != config.kv_heads);
    grouped && names(Role::AttnQ) && !names(Role::AttnK) && !names(Role::AttnV)
}

/// Checks every group that loses channels; returns the largest difference. Through norms the difference is the price.
fn prove(
    model: &Model,
    found: &Groups,
    chosen: &[Vec<&Channel>],
    spec: &PruneSpec,
    context: &Context<'_>,
) -> Result<f64, PruneError> {
    let mut worst: f64 = 0.0;
    for (group, channels) in found.groups.iter().zip(chosen).filter(|(_, c)| !c.is_empty() && !spec.through_norms) {
        let apart = check::invariance(model, channels, context.seed)?;
        if apart.is_nan() || apart > check::TOLERANCE {
            return Err(PruneError::NotInvariant { group: group.name.clone(), apart });
        }
        worst = worst.max(apart);
        (context.advance)(1);
    }
    Ok(worst)
}

/// One note for each reason.
fn frozen_notes(frozen: &[Frozen]) -> Vec<Note> {
    let mut reasons: BTreeMap<&str, Vec<&Frozen>> = BTreeMap::new();
    frozen.iter().for_each(|f| reasons.entry(&f.why).or_default().push(f));
    let note = |(why, of): (&str, Vec<&Frozen>)| {
        let more = if of.len() > 1 { format!(" and of {} more", of.len() - 1) } else { String::new() };
        let outputs = of.first().map_or(0, |f| f.outputs);
        Note { weight: of.first().map(|f| f.weight.clone()), what: format!("{outputs} outputs{more} stay: {why}") }
    };
    reasons.into_iter().map(note).collect()
}
