//! # Coverage of the vocabulary
//!
//! **What it does.** Takes, again and again, the window with the most words that no window before it had. Frequent words are
//! covered by the first few; what counts after that is the long tail of Zipf's law.
//!
//! **When to use.** Always, unless the text that the model will see is known: it needs no model and no luck.
//!
//! **What it costs.** Time linear in the pool, typically a second. Memory: the distinct words of each window.
//!
//! **What it needs.** Token ids, and which word each token is ([`Words`]): case and spaces around do not count.
//!
//! **Numbers.** In the paper, means of 11 tasks with 128 samples, it equals choice by activations (62.9 and 62.5 of 63.4
//! after pruning a quarter of Llama-3.1-8B, 61.0 and 60.9 at four bits), some 240 times faster. The differences from
//! random text are about half a point.
//!
//! **Paper.** ZipCal: calibration data by vocabulary coverage, 2026.
//!
//! **Differences from the paper.** The paper looks at 2000 random candidates a step; here every step takes the best of all,
//! which is the plain greedy choice (at least 1 − 1/e of the best possible coverage), found lazily: a window's gain can only
//! shrink, so a window whose gain is up to date and no smaller than all others' old gains is the best. Ties go to the window
//! with more distinct words, then to the earlier one.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

/// Which word each token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words {
    of: Vec<Option<u32>>,
    count: usize,
}

impl Words {
    /// From the text of each token, by id: lower case without spaces around; what is empty then, or `None`, is no word.
    pub fn new<T: AsRef<str>>(tokens: impl IntoIterator<Item = Option<T>>) -> Words {
        let mut known: HashMap<String, u32> = HashMap::new();
        let mut word = |text: T| {
            let text = text.as_ref().trim().to_lowercase();
            let next = known.len() as u32;
            (!text.is_empty()).then(|| *known.entry(text).or_insert(next))
        };
        let of: Vec<_> = tokens.into_iter().map(|token| token.and_then(&mut word)).collect();
        Words { of, count: known.len() }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The word of a token.
    pub fn of(&self, id: u32) -> Option<u32> {
        self.of.get(id as usize).copied().flatten()
    }

    /// The different words of a text, in order.
    pub fn set(&self, ids: &[u32]) -> Vec<u32> {
        let mut words: Vec<u32> = ids.iter().filter_map(|id| self.of(*id)).collect();
        words.sort_unstable();
        words.dedup();
        words
    }
}

/// Takes `n` sets of words (numbers below `words`), each with the most words that those before lack.
pub(super) fn greedy(sets: &[Vec<u32>], words: usize, n: usize) -> Vec<usize> {
    let mut covered = vec![false; words];
    let gain = |covered: &[bool], i: usize| sets[i].iter().filter(|w| !covered[**w as usize]).count();
    let mut heap: BinaryHeap<_> = sets.iter().enumerate().map(|(i, s)| (s.len(), s.len(), Reverse(i))).collect();
    let mut taken = Vec::with_capacity(n);
    while taken.len() < n
        && let Some((old, size, Reverse(i))) = heap.pop()
    {
        let now = gain(&covered, i);
        if now < old {
            heap.push((now, size, Reverse(i)));
            continue;
        }
        sets[i].iter().for_each(|w| covered[*w as usize] = true);
        taken.push(i);
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::super::random::Random;
    use super::*;

    /// The definition.
    fn plain(sets: &[Vec<u32>], words: usize, n: usize) -> Vec<usize> {
        let (mut covered, mut taken) = (vec![false; words], Vec::new());
        for _ in 0..n {
            let rest = (0..sets.len()).filter(|i| !taken.contains(i));
            let gain = |i: usize| sets[i].iter().filter(|w| !covered[**w as usize]).count();
            let best = rest.max_by_key(|i| (gain(*i), sets[*i].len(), Reverse(*i))).unwrap();
            sets[best].iter().for_each(|w| covered[*w as usize] = true);
            taken.push(best);
        }
        taken
    }

    #[test]
    fn lazy_is_plain_greedy_ties_and_all() {
        for seed in 0..60 {
            let mut random = Random::new(seed);
            let words = 5 + random.below(60);
            let set = |random: &mut Random| {
                let n = random.below(words.min(12) + 1);
                let mut set: Vec<u32> = random.sample(words, n).into_iter().map(|w| w as u32).collect();
                set.sort_unstable();
                set
            };
            let sets: Vec<_> = (0..40).map(|_| set(&mut random)).collect();
            assert_eq!(greedy(&sets, words, 40), plain(&sets, words, 40), "seed {seed}");
            assert_eq!(greedy(&sets, words, 7), plain(&sets, words, 7), "seed {seed}");
        }
    }

    #[test]
    fn words_know_neither_case_nor_spaces() {
        let words = Words::new([Some(" The"), Some("the"), Some("  "), None, Some("cat"), Some("THE ")]);
        assert_eq!(words.count(), 2);
        assert_eq!(words.set(&[0, 1, 2, 3, 4, 5, 99]), [0, 1]);
    }
}
