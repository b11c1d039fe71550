//! Who gives: how many channels every group keeps, and which.
//!
//! `global` and `isomorphic` take channels one by one, each the smallest beside the mean of those that its group still has: what
//! Torch-Pruning comes to in many small steps. On ResNet-56 it takes nearly all of some blocks and leaves most of others; ranking
//! all channels once by their share of the first mean spreads the loss, and costs 1.5 points more after recovery (`bench/recovery`).
//!
//! All allocations follow one number between 0 and 1: the share of channels that is kept, or, where groups pay by what
//! they are worth, how little a price counts. [`Choice::fit`] bisects it until a budget holds, counting on the graph as it
//! would then be.

use super::groups::{Channel, Group};
use super::latency::Profile;
use super::sensitivity::moved;
use super::{PruneError, Removal};
use graph::Model;
use plan::{Allocation, Amount, Counters, PruneSpec, Resource};
use std::collections::BTreeMap;

/// A group keeps at least this share where groups compete: an empty layer is no layer.
const FLOOR: f64 = 0.05;
/// Shares closer than this are the same.
const FINE: f64 = 1e-3;

/// What is chosen from.
pub(super) struct Choice<'a> {
    pub model: &'a Model,
    pub groups: &'a [Group],
    /// By group and channel; small ones go first.
    pub scores: Vec<Vec<f64>>,
    pub spec: &'a PruneSpec,
    /// By group, where allocation asks for it: how far the output moves ([`super::sensitivity::AT`]).
    pub curves: &'a [[f64; 3]],
    /// What nodes take, where the budget is of time.
    pub profile: Option<Profile>,
    /// Share of the budget that is aimed at.
    pub aim: f64,
}

/// Widths at which nodes are timed.
const WIDTHS: [f64; 5] = [1.0, 0.75, 0.5, 0.25, 0.125];
/// Steps in which a group gives by price.
const STEPS: usize = 32;

impl<'a> Choice<'a> {
    /// The channels to take out so that the budget holds.
    pub fn fit(&self) -> Result<Vec<Vec<&'a Channel>>, PruneError> {
        match (self.spec.budget.of, self.spec.budget.left) {
            (Resource::Channels, Amount::Share(share)) if self.spec.across != Allocation::Sensitivity => {
                Ok(self.chosen(&self.kept(share, &[])))
            }
            _ => self.bisect(),
        }
    }

    /// The channels that go so that the budget just holds: between two neighbouring allocations every group goes along evenly.
    fn bisect(&self) -> Result<Vec<Vec<&'a Channel>>, PruneError> {
        let budget = self.spec.budget;
        let before = self.count(&[])?;
        let target = (self.aim * budget.left.of(before) as f64) as u64;
        let savings = self.savings(before)?;
        let least = self.count(&self.chosen(&self.kept(0.0, &savings)))?;
        if least > target {
            return Err(PruneError::Budget { of: budget.of, asked: target, least, before });
        }
        let (low, high) = self.between(target, |keep| self.kept(keep, &savings))?;
        let mix = |t: f64| low.iter().zip(&high).map(|(low, high)| low + (high - low) * t).collect();
        let (best, _) = self.between(target, mix)?;
        Ok(self.chosen(&best))
    }

    /// The last allocation under which the budget holds, and the first one under which it does not, of those between 0 and 1.
    fn between(&self, target: u64, of: impl Fn(f64) -> Vec<f64>) -> Result<(Vec<f64>, Vec<f64>), PruneError> {
        let (mut low, mut high) = (0.0, 1.0);
        while high - low > FINE {
            let middle = f64::midpoint(low, high);
            match self.count(&self.chosen(&of(middle)))? <= target {
                true => low = middle,
                false => high = middle,
            }
        }
        Ok((of(low), of(high)))
    }

    /// What is left of the budget's resource without these channels.
    fn count(&self, gone: &[Vec<&Channel>]) -> Result<u64, PruneError> {
        if self.spec.budget.of == Resource::Channels {
            let all: usize = self.groups.iter().map(|g| g.channels.len()).sum();
            return Ok((all - gone.iter().map(Vec::len).sum::<usize>()) as u64);
        }
        let model = self.without(gone)?;
        if let Some(profile) = &self.profile {
            return Ok(profile.predict(&model));
        }
        Ok(self.spec.budget.of.count(&Counters::of(&model)?))
    }

    /// The model without these channels.
    pub fn without(&self, gone: &[Vec<&Channel>]) -> Result<Model, PruneError> {
        let removal = Removal::of(gone.iter().flatten().copied());
        let mut model = self.model.clone();
        model.apply(removal.patch(self.model)?)?;
        Ok(model)
    }

    /// Times the network at several widths.
    pub fn timed(mut self) -> Result<Choice<'a>, PruneError> {
        let mut profile = Profile::default();
        for width in WIDTHS {
            let kept: Vec<f64> = self.groups.iter().map(|g| width * g.channels.len() as f64).collect();
            profile.see(&self.without(&self.chosen(&kept))?)?;
        }
        self.profile = Some(profile);
        Ok(self)
    }

    /// The share of the resource that half of each group's channels takes with it; nothing where no one asks.
    fn savings(&self, before: u64) -> Result<Vec<f64>, PruneError> {
        if self.spec.across != Allocation::Sensitivity {
            return Ok(Vec::new());
        }
        let half = |group: &Group| {
            let gone = group.channels.iter().take(group.channels.len() / 2).collect();
            Ok(before.saturating_sub(self.count(&[gone])?) as f64 / before.max(1) as f64)
        };
        self.groups.iter().map(half).collect()
    }

    /// How many channels each group keeps, before rounding.
    fn kept(&self, keep: f64, savings: &[f64]) -> Vec<f64> {
        match self.spec.across {
            Allocation::Sensitivity => self.sell(keep, savings),
            Allocation::Uniform => self.groups.iter().map(|g| keep * g.channels.len() as f64).collect(),
            Allocation::Global => self.compete(keep, |_| ""),
            Allocation::Isomorphic => self.compete(keep, |g| &g.kind),
        }
    }

    /// The channels that go, by group: the least important ones.
    fn chosen(&self, kept: &[f64]) -> Vec<Vec<&'a Channel>> {
        let one = |((group, scores), kept): ((&'a Group, &Vec<f64>), &f64)| {
            let mut order: Vec<usize> = (0..scores.len()).collect();
            order.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]));
            let go = scores.len() - rounded(*kept, scores.len(), self.spec.multiple);
            order.into_iter().take(go).map(|c| &group.channels[c]).collect()
        };
        self.groups.iter().zip(&self.scores).zip(kept).map(one).collect()
    }

    /// How many channels each group keeps at a price: `(1 − keep) / keep` of what one per cent of the resource moves on average.
    fn sell(&self, keep: f64, savings: &[f64]) -> Vec<f64> {
        let (moved_all, saved_all) = (self.curves.iter().map(|c| c[1]).sum::<f64>(), savings.iter().sum::<f64>());
        let price = (1.0 - keep) / keep.max(1e-6) * moved_all / saved_all.max(f64::MIN_POSITIVE);
        let one = |((group, curve), saved): ((&Group, &[f64; 3]), &f64)| {
            let worth = |x: f64| price * 2.0 * saved * x - moved(curve, x);
            let shares = (0..STEPS).map(|step| step as f64 / STEPS as f64);
            let best = shares.max_by(|a, b| worth(*a).total_cmp(&worth(*b))).unwrap_or(0.0);
            (1.0 - best) * group.channels.len() as f64
        };
        self.groups.iter().zip(self.curves).zip(savings).map(one).collect()
    }

    /// How many channels each group keeps when the least of all of a bucket go, one by one. What counts is how small a channel is
    /// beside those that its group still has: groups of unlike channels give first, and most of what they have.
    fn compete<'g>(&'g self, keep: f64, bucket: impl Fn(&'g Group) -> &'g str) -> Vec<f64> {
        let mut buckets: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        self.groups.iter().enumerate().for_each(|(n, group)| buckets.entry(bucket(group)).or_default().push(n));
        let mut queues: Vec<Queue> = self.scores.iter().map(|scores| Queue::of(scores)).collect();
        for of in buckets.into_values() {
            let all: usize = of.iter().map(|n| queues[*n].left()).sum();
            for _ in 0..(all as f64 * (1.0 - keep)).round() as usize {
                let next = of.iter().filter_map(|n| Some((queues[*n].next()?, *n)));
                let Some((_, least)) = next.min_by(|a, b| a.0.total_cmp(&b.0)) else { break };
                queues[least].gone += 1;
            }
        }
        queues.iter().map(|queue| queue.left() as f64).collect()
    }
}

/// The channels of a group in the order in which they go.
struct Queue {
    /// Small ones first.
    scores: Vec<f64>,
    /// Of each and all behind it.
    sums: Vec<f64>,
    gone: usize,
}

impl Queue {
    fn of(scores: &[f64]) -> Queue {
        let mut scores = scores.to_vec();
        scores.sort_by(f64::total_cmp);
        let mut sums = scores.clone();
        (1..sums.len()).rev().for_each(|n| sums[n - 1] += sums[n]);
        Queue { scores, sums, gone: 0 }
    }

    fn left(&self) -> usize {
        self.scores.len() - self.gone
    }

    /// The next one's share of the mean of those that are left; none where the group has its least.
    fn next(&self) -> Option<f64> {
        let floor = (self.scores.len() as f64 * FLOOR).max(1.0);
        let mean = self.sums.get(self.gone)? / self.left() as f64;
        let share = if mean > 0.0 { self.scores[self.gone] / mean } else { 0.0 };
        ((self.left() - 1) as f64 >= floor).then_some(share)
    }
}

/// The multiple nearest to what is wanted, not 0; all where all are wanted, or there are no more than one multiple.
fn rounded(wanted: f64, of: usize, multiple: usize) -> usize {
    if of <= multiple || wanted >= of as f64 {
        return of;
    }
    let times = (wanted / multiple as f64 - 0.5).ceil().max(1.0);
    (times as usize * multiple).min(of)
}

#[cfg(test)]
mod tests {
    use super::{Queue, rounded};

    #[test]
    fn groups_of_unlike_channels_give_first() {
        let mut queue = Queue::of(&[9.0, 1.0, 9.0, 1.0]);
        assert_eq!(queue.next(), Some(0.2));
        queue.gone = 2;
        assert_eq!(queue.next(), Some(1.0), "those that are left are alike");
        queue.gone = 3;
        assert_eq!(queue.next(), None, "the last one stays");
        assert_eq!(Queue::of(&[0.0, 0.0]).next(), Some(0.0));
    }

    #[test]
    fn rounding_keeps_something() {
        assert_eq!(rounded(12.5, 25, 1), 12);
        assert_eq!(rounded(0.0, 25, 1), 1);
        assert_eq!(rounded(13.0, 24, 8), 16);
        assert_eq!(rounded(1.0, 24, 8), 8);
        assert_eq!(rounded(1.0, 6, 8), 6);
        assert_eq!(rounded(20.0, 20, 8), 20, "what is whole stays whole");
    }
}
