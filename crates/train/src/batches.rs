//! Training windows: which tokens each step sees, as a pure function of seed and step, so that a resumed run sees the same.

use crate::Rng;

/// A token stream cut into random windows.
#[derive(Clone, Copy, Debug)]
pub struct Batches<'a> {
    tokens: &'a [u32],
    context: usize,
    seed: u64,
}

/// Inputs and next-token targets, `rows × context` each, row-major.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// How many windows.
    pub rows: usize,
    /// Token ids.
    pub inputs: Vec<u32>,
    /// The token after each.
    pub targets: Vec<u32>,
}

impl<'a> Batches<'a> {
    /// Windows of `context` inputs. `None` where the text has no more than `context` tokens.
    pub fn new(tokens: &'a [u32], context: usize, seed: u64) -> Option<Batches<'a>> {
        (context > 0 && tokens.len() > context).then_some(Batches { tokens, context, seed })
    }

    /// The `part`-th micro-batch of a step: `rows` windows at random places.
    pub fn random(&self, step: usize, part: usize, rows: usize) -> Batch {
        let mut rng = Rng::new(self.seed, ((step as u64) << 20) | part as u64);
        let places = self.tokens.len() - self.context;
        self.batch((0..rows).map(|_| rng.below(places)).collect())
    }

    /// Up to `windows` windows one after the other from the start, in micro-batches of `rows`.
    pub fn in_order(&self, windows: usize, rows: usize) -> impl Iterator<Item = Batch> + '_ {
        let count = ((self.tokens.len() - 1) / self.context).min(windows);
        let starts: Vec<_> = (0..count).map(|i| i * self.context).collect();
        starts.chunks(rows.max(1)).map(<[usize]>::to_vec).collect::<Vec<_>>().into_iter().map(|s| self.batch(s))
    }

    fn batch(&self, starts: Vec<usize>) -> Batch {
        let window = |shift: usize| {
            starts.iter().flat_map(|s| &self.tokens[s + shift..s + shift + self.context]).copied().collect()
        };
        Batch { rows: starts.len(), inputs: window(0), targets: window(1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_follow_inputs_and_steps_repeat() {
        let tokens: Vec<u32> = (0..100).collect();
        let batches = Batches::new(&tokens, 8, 7).unwrap();
        let a = batches.random(3, 1, 4);
        assert_eq!(a, batches.random(3, 1, 4));
        assert_ne!(a, batches.random(4, 1, 4));
        assert!(a.inputs.iter().zip(&a.targets).all(|(i, t)| t - i == 1));
        let seen: usize = batches.in_order(usize::MAX, 5).map(|b| b.rows).sum();
        assert_eq!(seen, 12);
        assert!(Batches::new(&tokens[..8], 8, 7).is_none());
    }
}
