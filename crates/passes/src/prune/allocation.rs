//! Who gives: how many channels every group keeps, and which.
//!
//! All allocations follow one number between 0 and 1, the share of channels that is kept; [`fit`] bisects it until a
//! budget holds, counting on the graph as it would then be.

use super::groups::{Channel, Group};
use super::{PruneError, Removal};
use graph::Model;
use plan::{Allocation, Amount, Counters, PruneSpec, Resource};
use std::collections::BTreeMap;

/// A group keeps at least this share where groups compete: an empty layer is no layer.
const FLOOR: f64 = 0.1;
/// Shares closer than this are the same.
const FINE: f64 = 1e-3;

/// What is chosen from.
pub(super) struct Choice<'a> {
    pub model: &'a Model,
    pub groups: &'a [Group],
    /// By group and channel; small ones go first.
    pub scores: Vec<Vec<f64>>,
    pub spec: &'a PruneSpec,
}

impl<'a> Choice<'a> {
    /// The channels to take out so that the budget holds.
    pub fn fit(&self) -> Result<Vec<Vec<&'a Channel>>, PruneError> {
        let keep = match (self.spec.budget.of, self.spec.budget.left) {
            (Resource::Channels, Amount::Share(share)) => share,
            _ => self.bisect()?,
        };
        Ok(self.chosen(keep))
    }

    /// The largest share of channels under which the budget holds.
    fn bisect(&self) -> Result<f64, PruneError> {
        let budget = self.spec.budget;
        let before = counted(&Counters::of(self.model)?, budget.of);
        let target = budget.left.of(before);
        let (mut low, mut high) = (0.0, 1.0);
        let least = self.count(low)?;
        if least > target {
            return Err(PruneError::Budget { of: budget.of, asked: target, least, before });
        }
        while high - low > FINE {
            let middle = f64::midpoint(low, high);
            match self.count(middle)? <= target {
                true => low = middle,
                false => high = middle,
            }
        }
        Ok(low)
    }

    /// What is left of the budget's resource when this share of channels is kept.
    fn count(&self, keep: f64) -> Result<u64, PruneError> {
        let removal = Removal::of(self.chosen(keep).into_iter().flatten());
        let mut model = self.model.clone();
        model.apply(removal.patch(self.model)?)?;
        Ok(counted(&Counters::of(&model)?, self.spec.budget.of))
    }

    /// The channels that go when this share is kept, by group.
    fn chosen(&self, keep: f64) -> Vec<Vec<&'a Channel>> {
        let kept = match self.spec.across {
            Allocation::Uniform => self.groups.iter().map(|g| keep * g.channels.len() as f64).collect(),
            Allocation::Global => self.compete(keep, |_| ""),
            Allocation::Isomorphic => self.compete(keep, |g| &g.kind),
        };
        let one = |((group, scores), kept): ((&'a Group, &Vec<f64>), f64)| {
            let mut order: Vec<usize> = (0..scores.len()).collect();
            order.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]));
            let go = scores.len() - rounded(kept, scores.len(), self.spec.multiple);
            order.into_iter().take(go).map(|c| &group.channels[c]).collect()
        };
        self.groups.iter().zip(&self.scores).zip(kept).map(one).collect()
    }

    /// How many channels each group keeps when the least of all of a bucket go.
    fn compete<'g>(&'g self, keep: f64, bucket: impl Fn(&'g Group) -> &'g str) -> Vec<f64> {
        let mut ranks: BTreeMap<&str, Vec<(f64, usize)>> = BTreeMap::new();
        for (n, (group, scores)) in self.groups.iter().zip(&self.scores).enumerate() {
            ranks.entry(bucket(group)).or_default().extend(scores.iter().map(|s| (*s, n)));
        }
        let mut kept: Vec<f64> = self.groups.iter().map(|g| g.channels.len() as f64).collect();
        let floors: Vec<f64> = kept.iter().map(|n| (n * FLOOR).max(1.0)).collect();
        for mut rank in ranks.into_values() {
            rank.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            let mut go = (rank.len() as f64 * (1.0 - keep)).round() as usize;
            for (_, group) in rank {
                if go > 0 && kept[group] - 1.0 >= floors[group] {
                    kept[group] -= 1.0;
                    go -= 1;
                }
            }
        }
        kept
    }
}

/// The multiple nearest to what is wanted, not 0; all where there are no more than one multiple.
fn rounded(wanted: f64, of: usize, multiple: usize) -> usize {
    if of <= multiple {
        return of;
    }
    let times = (wanted / multiple as f64 - 0.5).ceil().max(1.0);
    (times as usize * multiple).min(of)
}

fn counted(counters: &Counters, of: Resource) -> u64 {
    match of {
        Resource::Macs => counters.total_macs(),
        Resource::Channels | Resource::Parameters => counters.parameters,
        Resource::Bytes => counters.bytes,
        Resource::Peak => counters.memory.planned,
    }
}

#[cfg(test)]
mod tests {
    use super::rounded;

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
