//! What goes whole: layers and experts.
//!
//! A decoder is built from its configuration and from the weights at its [places](Place). What is left of one without some of its
//! layers or experts is a shorter configuration and the same weights at other places, under the names of these; its graph is then
//! built again. So there is nothing to cut out of a graph, and encoded weights stay encoded.

use super::PruneError;
use codec::Encoding;
use graph::{DecoderConfig, Experts, Model, PermutedRows, Place, Role, Weight, WeightStore};
use plan::{GroupEntry, Note, Part, PruneSpec, Resource};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What stays of a decoder, by the numbers that it has there, ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Staying {
    /// Layers.
    pub layers: Vec<usize>,
    /// Experts, by their layer, as many of each; of a layer that is not listed all stay.
    pub experts: BTreeMap<usize, Vec<usize>>,
}

/// What was chosen to stay.
pub struct Chosen {
    /// Layers and experts.
    pub staying: Staying,
    /// What was measured.
    pub figures: Vec<(String, f64)>,
    /// What a reader must know.
    pub notes: Vec<Note>,
    /// What chose among which.
    pub groups: Vec<GroupEntry>,
}

/// What choosing works with.
#[derive(Clone, Copy)]
pub(super) struct Task<'a> {
    pub model: &'a Model,
    pub config: &'a DecoderConfig,
    pub spec: &'a PruneSpec,
    /// Text, in windows of one length; empty where there is none.
    pub windows: &'a [Vec<u32>],
    /// Hears of every block that is done.
    pub advance: &'a (dyn Fn(u64) + Sync),
}

/// Chooses the layers or experts that stay under a budget of them. Text is `windows` of one length; empty where there is none.
pub fn choose(
    model: &Model,
    spec: &PruneSpec,
    windows: &[Vec<u32>],
    advance: &(dyn Fn(u64) + Sync),
) -> Result<Chosen, PruneError> {
    let of = spec.budget.of;
    let config = model.decoder().ok_or(PruneError::NoDecoder { of })?;
    let task = Task { model, config, spec, windows, advance };
    match of.part() {
        Part::Experts => super::experts::choose(task),
        Part::Layers | Part::Channels => super::layers::choose(task),
    }
}

/// How many of so many a budget leaves.
pub(super) fn left(spec: &PruneSpec, before: usize, least: usize) -> Result<usize, PruneError> {
    let of = spec.budget.of;
    let asked = spec.budget.left.of(before as u64);
    match usize::try_from(asked).unwrap_or(usize::MAX) {
        n if n > before => Err(PruneError::TooMany { of, asked, before }),
        n if n == before => Err(PruneError::Met),
        n if n < least => Err(PruneError::TooFew { of, asked, least, before }),
        n => Ok(n),
    }
}

/// The numbers of the largest scores, ascending; of equals the first.
pub(super) fn largest(scores: &[f64], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    order.truncate(count);
    order.sort_unstable();
    order
}

impl Staying {
    /// The configuration and the weights of what stays.
    pub fn of(&self, model: &Model) -> Result<(DecoderConfig, WeightStore), PruneError> {
        let old = model.decoder().ok_or(PruneError::NoDecoder { of: Resource::Layers })?;
        let layers = self.layers.iter().filter_map(|n| old.layers.get(*n).cloned()).collect();
        let count = self.experts.values().next().map(Vec::len);
        let experts = old.experts.clone().map(|e| Experts { count: count.unwrap_or(e.count), ..e });
        let mut weights = WeightStore::default();
        for (id, weight) in model.weights.iter() {
            let Some(place) = self.place(weight.place) else { continue };
            let new = weights.insert(self.moved(weight, place)?);
            let input = model.weights.run.inputs.get(&id);
            weights.run.inputs.extend(input.map(|input| (new, *input)));
        }
        let cache = self.layers.iter().enumerate();
        let cache = cache.filter_map(|(new, old)| Some((new, *model.weights.run.cache.get(old)?)));
        weights.run.cache = cache.collect();
        Ok((DecoderConfig { layers, experts, ..old.clone() }, weights))
    }

    /// Where a weight stands then; nowhere where it goes.
    fn place(&self, old: Place) -> Option<Place> {
        let Some(layer) = old.layer else { return Some(old) };
        let at = |list: &[usize], number: usize| list.iter().position(|n| *n == number);
        let expert = match (old.expert, self.experts.get(&layer)) {
            (Some(number), Some(stay)) => Some(at(stay, number)?),
            (expert, _) => expert,
        };
        Some(Place { layer: Some(at(&self.layers, layer)?), expert, ..old })
    }

    /// The weight at its new place; a router loses the rows of experts that go.
    fn moved(&self, weight: &Arc<Weight>, place: Place) -> Result<Weight, PruneError> {
        let mut moved = Weight { name: renamed(&weight.name, place), place, ..Weight::clone(weight) };
        let stay = weight.place.layer.and_then(|layer| self.experts.get(&layer));
        if let (Role::Router, Some(stay)) = (place.role, stay) {
            if matches!(weight.encoding, Encoding::Packed(_)) {
                let (weight, encoding) = (weight.name.clone(), weight.encoding.to_string());
                return Err(PruneError::Quantized { weight, encoding });
            }
            moved.shape.iter_mut().take(1).for_each(|rows| *rows = stay.len());
            moved.source = Arc::new(PermutedRows::new(weight.clone(), stay.clone()));
        }
        Ok(moved)
    }
}

/// A weight's name at another place: the first number in it is that of its layer, the second that of its expert.
fn renamed(name: &str, place: Place) -> String {
    let mut numbers = [place.layer, place.expert].into_iter().flatten();
    let part = |part: &str| match part.parse::<usize>().ok().and_then(|_| numbers.next()) {
        Some(number) => number.to_string(),
        None => part.to_owned(),
    };
    name.split('.').map(part).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_places() {
        let place = Place::expert(3, Role::ExpertUp, 0);
        assert_eq!(renamed("model.layers.12.mlp.experts.5.w1.weight", place), "model.layers.3.mlp.experts.0.w1.weight");
        assert_eq!(renamed("model.norm.weight", Place::outer(Role::OutputNorm)), "model.norm.weight");
    }

    #[test]
    fn equals_stay_in_order() {
        assert_eq!(largest(&[1.0, 3.0, 1.0, 2.0], 3), [0, 1, 3]);
    }
}
