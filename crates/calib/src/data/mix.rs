//! Several domains in one selection.

use super::{Choice, DataError, Features, Pool, Words, take};
use serde::{Deserialize, Serialize};

/// How domains share the windows that are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mix {
    /// They don't: all text is one.
    #[default]
    Together,
    /// As many windows from each; the first domains get what is left over.
    Equal,
    /// By how much text they have, largest remainders first.
    Proportional,
    /// The round of the ZipCal paper: as many windows from *each* as are asked for in all, then of these the ones that
    /// are farthest from each other (k-centre: always the farthest from all taken), beginning with the first.
    ///
    /// The paper measures distance by a sentence encoder; here it is by the hashed, rarity-weighted words of a window
    /// (TF-IDF), which needs no other model.
    Diverse,
}

impl Mix {
    /// Every way.
    pub const ALL: [Mix; 4] = [Mix::Together, Mix::Equal, Mix::Proportional, Mix::Diverse];

    /// Its name in records and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Mix::Together => "together",
            Mix::Equal => "equal",
            Mix::Proportional => "proportional",
            Mix::Diverse => "diverse",
        }
    }
}

/// Windows of the pool, domain after domain. The pool has as many as are asked for.
pub(super) fn choose(pool: &Pool, choice: Choice, features: Features<'_>) -> Result<Vec<usize>, DataError> {
    let domains = pool.domains();
    let counts: Vec<usize> = domains.iter().map(|(_, windows)| windows.len()).collect();
    let n = choice.samples;
    let shares = match choice.mix {
        Mix::Together => {
            let all: Vec<usize> = (0..pool.len()).collect();
            return Ok(take(pool, &all, n, choice, features));
        }
        Mix::Equal => equal(n, counts.len()),
        Mix::Proportional => proportional(n, &counts),
        Mix::Diverse => counts.iter().map(|c| n.min(*c)).collect(),
    };
    let mut chosen = Vec::new();
    for ((domain, windows), share) in domains.iter().zip(shares) {
        if share > windows.len() {
            return Err(DataError::TooFewOf { domain: domain.to_string(), share, windows: windows.len() });
        }
        chosen.extend(take(pool, windows, share, choice, features));
    }
    if choice.mix == Mix::Diverse {
        let vectors = rarity_vectors(pool, &chosen, features.words);
        return Ok(farthest(&vectors, n).into_iter().map(|i| chosen[i]).collect());
    }
    Ok(chosen)
}

fn equal(n: usize, domains: usize) -> Vec<usize> {
    (0..domains).map(|i| n / domains + usize::from(i < n % domains)).collect()
}

fn proportional(n: usize, counts: &[usize]) -> Vec<usize> {
    let total = counts.iter().sum::<usize>().max(1);
    let mut shares: Vec<usize> = counts.iter().map(|c| n * c / total).collect();
    let mut order: Vec<usize> = (0..counts.len()).collect();
    order.sort_by_key(|i| (std::cmp::Reverse(n * counts[*i] % total), *i));
    let left = n - shares.iter().sum::<usize>();
    order.into_iter().take(left).for_each(|i| shares[i] += 1);
    shares
}

/// Numbers that stand for a window.
const HASHED: usize = 256;

/// Per window, `Σ (1 + ln count) · ln(windows / windows that have the word)` over words, each added or subtracted at
/// a place that its hash says; of length 1.
fn rarity_vectors(pool: &Pool, windows: &[usize], words: &Words) -> Vec<Vec<f32>> {
    let mut has = vec![0usize; words.count()];
    for window in windows {
        words.set(pool.text(*window)).into_iter().for_each(|w| has[w as usize] += 1);
    }
    let vector = |window: &usize| {
        let mut known: Vec<u32> = pool.text(*window).iter().filter_map(|id| words.of(*id)).collect();
        known.sort_unstable();
        let mut vector = vec![0f32; HASHED];
        for run in known.chunk_by(|a, b| a == b) {
            let rarity = (windows.len() as f32 / has[run[0] as usize] as f32).ln();
            let hash = u64::from(run[0]).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
            let sign = if hash & 1 == 0 { 1.0 } else { -1.0 };
            vector[(hash >> 1) as usize % HASHED] += sign * (1.0 + (run.len() as f32).ln()) * rarity;
        }
        normalized(vector)
    };
    windows.iter().map(vector).collect()
}

/// The vector at length 1; as it is where it has none.
pub(super) fn normalized(mut vector: Vec<f32>) -> Vec<f32> {
    let norm = vector.iter().map(|v| v * v).sum::<f32>().sqrt();
    if norm > 0.0 {
        vector.iter_mut().for_each(|v| *v /= norm);
    }
    vector
}

/// k-centre, greedily: the first, then always the one farthest from all taken; the earlier where several are.
fn farthest(vectors: &[Vec<f32>], n: usize) -> Vec<usize> {
    let mut distance = vec![f32::INFINITY; vectors.len()];
    let mut taken = Vec::with_capacity(n);
    let mut next = 0;
    while taken.len() < n.min(vectors.len()) {
        taken.push(next);
        for (d, vector) in distance.iter_mut().zip(vectors) {
            *d = d.min(super::cluster::distance(vector, &vectors[next]));
        }
        // What is taken is behind everything, equals too.
        distance[next] = f32::NEG_INFINITY;
        let best = distance.iter().enumerate().max_by(|(i, a), (j, b)| a.total_cmp(b).then(j.cmp(i)));
        next = best.map_or(0, |(i, _)| i);
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up() {
        assert_eq!(equal(8, 3), [3, 3, 2]);
        assert_eq!(proportional(10, &[50, 30, 20]), [5, 3, 2]);
        assert_eq!(proportional(10, &[1, 1, 1]), [4, 3, 3]);
        assert_eq!(proportional(3, &[1, 1, 1]), [1, 1, 1]);
        for n in 0..40 {
            let shares = proportional(n, &[7, 0, 30, 3]);
            assert_eq!(shares.iter().sum::<usize>(), n);
            assert!(shares.iter().zip([7, 0, 30, 3]).all(|(s, c)| *s <= c), "{n}");
        }
    }

    #[test]
    fn the_farthest_comes_next_and_nothing_twice() {
        let vectors: Vec<Vec<f32>> = [0.0, 0.1, 5.0, 2.0, 5.0].map(|x| vec![x]).to_vec();
        assert_eq!(farthest(&vectors, 5), [0, 2, 3, 1, 4]);
    }
}
