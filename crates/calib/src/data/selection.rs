//! What was chosen, from where: a record that can be kept, compared and used again.

use super::{Choice, DataError, Method, Mix, Pool, Words};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// Windows, and how they came about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selection {
    /// How they were chosen.
    pub method: Method,
    /// How domains shared.
    pub mix: Mix,
    /// The seed of what was drawn.
    pub seed: u64,
    /// Tokens of a window, what begins it counted.
    pub length: usize,
    /// The texts of the pool.
    pub sources: Vec<Origin>,
    /// How much of the pool's vocabulary it has.
    pub coverage: Coverage,
    /// What as many random windows would have had, seed by seed, where that was asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub random: Vec<Coverage>,
    /// The windows, in the order in which they were chosen.
    pub windows: Vec<Chosen>,
}

/// A text of the pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// Its file.
    pub name: String,
    /// What it belongs to.
    pub domain: String,
    /// SHA-256 of the file's bytes, in hex.
    pub sha256: String,
    /// Tokens of it.
    pub tokens: usize,
}

/// A window that was chosen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chosen {
    /// Which of the sources.
    pub source: usize,
    /// Its first token of the source's.
    pub first: usize,
    /// Its tokens as the model reads them.
    pub ids: Vec<u32>,
}

/// Words of a selection among those of its pool.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Coverage {
    /// Different words that were chosen.
    pub words: usize,
    /// Different words of the pool.
    pub of: usize,
    /// The share of the different words of the rest of the pool (what was not chosen) that was chosen somewhere.
    pub rest: f64,
    /// The same, each word counted as often as it comes.
    pub rest_tokens: f64,
}

impl Selection {
    /// The record of some windows of a pool.
    pub(super) fn new(pool: &Pool, choice: Choice, windows: &[usize], words: &Words) -> Selection {
        let origin = |s: &super::Source| Origin {
            name: s.name.clone(),
            domain: s.domain.clone(),
            sha256: s.sha256.clone(),
            tokens: s.ids.len(),
        };
        let chosen = |window: &usize| {
            let place = pool.places[*window];
            Chosen { source: place.source, first: place.first, ids: pool.ids(*window) }
        };
        Selection {
            method: choice.method,
            mix: choice.mix,
            seed: choice.seed,
            length: pool.length,
            sources: pool.sources.iter().map(origin).collect(),
            coverage: Coverage::of(pool, windows, words),
            random: Vec::new(),
            windows: windows.iter().map(chosen).collect(),
        }
    }

    /// The ids of the windows, checked anew: a record may be damaged, or of another model.
    ///
    /// # Errors
    /// No windows, windows of several lengths, ids beyond `vocab`.
    pub fn ids(&self, vocab: usize) -> Result<Vec<Vec<u32>>, DataError> {
        let expected = self.windows.first().map(|w| w.ids.len()).filter(|n| *n > 0).ok_or(DataError::Empty)?;
        for (window, chosen) in self.windows.iter().enumerate() {
            if chosen.ids.len() != expected {
                return Err(DataError::Ragged { window, expected, got: chosen.ids.len() });
            }
            if let Some(at) = chosen.ids.iter().position(|id| *id as usize >= vocab) {
                return Err(DataError::Id { name: format!("window {window}"), at, id: chosen.ids[at], vocab });
            }
        }
        Ok(self.windows.iter().map(|w| w.ids.clone()).collect())
    }
}

impl Coverage {
    fn of(pool: &Pool, windows: &[usize], words: &Words) -> Coverage {
        let taken: HashSet<usize> = windows.iter().copied().collect();
        let mut chosen = vec![false; words.count()];
        for window in windows {
            words.set(pool.text(*window)).into_iter().for_each(|w| chosen[w as usize] = true);
        }
        let mut rest = vec![0u64; words.count()];
        for window in (0..pool.len()).filter(|w| !taken.contains(w)) {
            pool.text(window).iter().filter_map(|id| words.of(*id)).for_each(|w| rest[w as usize] += 1);
        }
        let seen = chosen.iter().zip(&rest).filter(|(chosen, n)| **chosen && **n > 0);
        let (seen_words, seen_tokens) = seen.fold((0, 0), |(words, tokens), (_, n)| (words + 1, tokens + n));
        // Nothing is lacking where nothing is left.
        let share = |part: u64, all: u64| if all == 0 { 1.0 } else { part as f64 / all as f64 };
        Coverage {
            words: chosen.iter().filter(|c| **c).count(),
            of: chosen.iter().zip(&rest).filter(|(chosen, n)| **chosen || **n > 0).count(),
            rest: share(seen_words, rest.iter().filter(|n| **n > 0).count() as u64),
            rest_tokens: share(seen_tokens, rest.iter().sum()),
        }
    }
}
