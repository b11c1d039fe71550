//! Pruning, at the pace that a specification asks for: at once, in rounds with recovery between them, or after training under a
//! penalty. Whatever the pace, what goes is taken out: the network is smaller after every round.

use super::recover;
use super::steps::{Context, Done};
use crate::training::Lesson;
use crate::{EngineError, Unit};
use calib::{NextTokens, Samples};
use graph::{Body, Model};
use import::ImportError;
use passes::prune::whole::{self, Chosen};
use passes::prune::{PruneError, Pruned};
use plan::{Amount, Budget, Counters, Gradual, GroupEntry, Note, Pace, Part, Penalty, PruneSpec, Resource};
use train::Fading;

/// Takes channels out of a network, or layers or experts out of a decoder.
pub(super) fn prune(model: &mut Model, spec: &PruneSpec, context: &Context<'_>) -> Result<Done, EngineError> {
    if spec.budget.of.part() != Part::Channels {
        return whole(model, spec, context);
    }
    match &spec.pace {
        Pace::Once => {
            let chosen = choose(model, spec, context).map_err(failed)?;
            take_out(model, chosen)
        }
        Pace::Gradual(gradual) => in_rounds(model, spec, gradual, context),
        Pace::Penalty(penalty) => under_penalty(model, spec, penalty, context),
    }
}

/// Takes layers or experts out: the decoder is built again from what stays.
fn whole(model: &mut Model, spec: &PruneSpec, context: &Context<'_>) -> Result<Done, EngineError> {
    context.progress.begin("prune", 0, Unit::Blocks);
    let chosen = whole::choose(model, spec, context.windows, &|done| context.progress.advance(done));
    context.progress.end();
    let Chosen { staying, figures, notes, groups } = chosen.map_err(failed)?;
    let (config, weights) = staying.of(model).map_err(failed)?;
    let built = import::build(&config, &weights, context.target);
    let graph = built.map_err(|problem| ImportError { path: context.target.into(), problems: vec![problem] })?;
    *model = Model { body: Body::Decoder { config, graph }, weights };
    Ok(Done { notes, figures, groups, ..Done::default() })
}

fn choose(model: &Model, spec: &PruneSpec, context: &Context<'_>) -> Result<Pruned, PruneError> {
    context.progress.begin("prune", 0, Unit::Groups);
    let advance = |done| context.progress.advance(done);
    let text = NextTokens(context.windows);
    let of_text = Some(&text as &dyn Samples).filter(|text| spec.measures() && !text.is_empty());
    let with = passes::prune::Context { data: context.data.or(of_text), seed: context.seed, advance: &advance };
    let chosen = passes::prune::prune(model, spec, &with);
    context.progress.end();
    let mut chosen = chosen?;
    if !spec.measures() && !text.is_empty() {
        let what =
            "channels were compared by their weights alone, though there is text: `by = \"taylor\"` may lose far less";
        chosen.notes.push(Note { weight: None, what: what.into() });
    }
    Ok(chosen)
}

fn failed(source: PruneError) -> EngineError {
    EngineError::Pass { pass: "prune", source: source.into() }
}

fn take_out(model: &mut Model, mut chosen: Pruned) -> Result<Done, EngineError> {
    let (notes, figures) = (std::mem::take(&mut chosen.notes), std::mem::take(&mut chosen.figures));
    let groups = std::mem::take(&mut chosen.groups);
    chosen.take_out(model).map_err(failed)?;
    Ok(Done { notes, figures, groups, ..Done::default() })
}

fn in_rounds(
    model: &mut Model,
    spec: &PruneSpec,
    gradual: &Gradual,
    context: &Context<'_>,
) -> Result<Done, EngineError> {
    let (before, mut left, mut all) = (Counters::of(model)?, 1.0, Done::default());
    for round in 1..=gradual.rounds {
        let budget = budget(spec.budget, gradual, &before, round, left);
        match choose(model, &PruneSpec { budget, ..spec.clone() }, context) {
            Ok(chosen) => merge(&mut all, take_out(model, chosen)?),
            // Whole channels may have gone a little too far the round before.
            Err(PruneError::Met) if round > 1 => {}
            Err(error) => return Err(failed(error)),
        }
        left = gradual.left(share(spec.budget, &before), round);
        let learned = recover::recover(model, &gradual.recover, context)?;
        let name = |(name, value): (String, f64)| (format!("round {round}, {name}"), value);
        all.figures.extend(learned.figures.into_iter().map(name));
        all.notes.extend(learned.notes.into_iter().filter(|_| round == gradual.rounds));
    }
    Ok(all)
}

/// The share that is left at the end.
fn share(budget: Budget, before: &Counters) -> f64 {
    match budget.left {
        Amount::Share(share) => share,
        // Recipes refuse rounds towards a time.
        Amount::Count(count) | Amount::Time(count) => count as f64 / budget.of.count(before).max(1) as f64,
    }
}

/// What is left after a round, of what there was before the first; channels and times, which are no count, of the `left` before the round.
fn budget(last: Budget, gradual: &Gradual, before: &Counters, round: usize, left: f64) -> Budget {
    let now = gradual.left(share(last, before), round);
    let amount = match last.of {
        Resource::Channels | Resource::Latency => Amount::Share(now / left),
        of => Amount::Count((of.count(before) as f64 * now) as u64),
    };
    Budget { of: last.of, left: amount }
}

/// Adds what a round did: groups keep the count that they had before the first.
fn merge(all: &mut Done, round: Done) {
    let first = std::mem::take(&mut all.groups);
    let entry = |group: GroupEntry| {
        let before = first.iter().find(|g| g.name == group.name).map_or(group.before, |g| g.before);
        GroupEntry { before, ..group }
    };
    all.groups = round.groups.into_iter().map(entry).collect();
    all.notes = round.notes;
}

fn under_penalty(
    model: &mut Model,
    spec: &PruneSpec,
    penalty: &Penalty,
    context: &Context<'_>,
) -> Result<Done, EngineError> {
    let mut chosen = choose(model, spec, context).map_err(failed)?;
    let unsound = |source| EngineError::Unsound { pass: "prune", when: "while", source };
    chosen.prepare.take().map_or(Ok(()), |patch| model.apply(patch)).map_err(unsound)?;
    let fading = Some(Fading { elements: chosen.removal.elements(model), most: penalty.most });
    let learned = recover::learn(model, &penalty.recover, context, |lesson| Lesson { fading, ..lesson })?;
    let mut done = take_out(model, chosen)?;
    recover::measure_norms(model, &penalty.recover, context)?;
    done.figures.extend(learned.figures);
    done.notes.extend(learned.notes);
    Ok(done)
}
