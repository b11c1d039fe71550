//! Which samples each step sees: every epoch all of them in an order of its own, a pure function of seed and epoch.

use crate::Rng;
use std::ops::Range;

/// Epochs over a set, in batches; what does not fill a batch waits for another epoch.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    samples: usize,
    batch: usize,
    seed: u64,
    /// The epoch that `indices` are of.
    epoch: usize,
    indices: Vec<usize>,
}

impl Order {
    /// `None` where the set does not fill a batch.
    pub fn new(samples: usize, batch: usize, seed: u64) -> Option<Order> {
        let order = Order { samples, batch, seed, epoch: usize::MAX, indices: Vec::new() };
        (batch > 0 && samples >= batch).then_some(order)
    }

    /// Steps of an epoch.
    pub fn steps(&self) -> usize {
        self.samples / self.batch
    }

    /// The epoch of a step, and its samples.
    pub fn step(&mut self, step: usize) -> (usize, &[usize]) {
        let (epoch, place) = (step / self.steps(), step % self.steps());
        if epoch != self.epoch {
            self.shuffle(epoch);
        }
        let range: Range<usize> = place * self.batch..(place + 1) * self.batch;
        (epoch, &self.indices[range])
    }

    fn shuffle(&mut self, epoch: usize) {
        let mut rng = Rng::new(self.seed, (1 << 63) | epoch as u64);
        self.indices = (0..self.samples).collect();
        for at in (1..self.samples).rev() {
            self.indices.swap(at, rng.below(at + 1));
        }
        self.epoch = epoch;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_sees_every_sample_once_and_a_step_repeats() {
        let mut order = Order::new(23, 5, 1).unwrap();
        let mut seen: Vec<usize> = (0..4).flat_map(|step| order.step(step).1.to_vec()).collect();
        let (first, second) = (order.step(1).1.to_vec(), order.step(5).1.to_vec());
        assert_ne!(first, second);
        assert_eq!(Order::new(23, 5, 1).unwrap().step(5), (1, &second[..]));
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 20);
        assert!(Order::new(4, 5, 0).is_none());
    }
}
