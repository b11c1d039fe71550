//! Choosing what text a model is calibrated on.
//!
//! A [`Pool`] is everything that may be used: sources of token ids, cut into windows of one length. [`choose`] takes some
//! of its windows by a [`Method`]; where the pool has several domains, a [`Mix`] says how they share. What was chosen, from
//! where, and how much of the pool's vocabulary it covers, is a [`Selection`]: a record that can be kept and used again.
//!
//! | method | what it does | costs |
//! |---|---|---|
//! | `first` | the first windows, in order, as llama-imatrix | nothing |
//! | `random` | windows at random | nothing |
//! | `coverage` | as many different words as windows can hold ([`coverage`]) | seconds |
//! | `cluster` | windows that the model itself finds different ([`cluster`]) | a run of some blocks over the whole pool |
//!
//! All are deterministic: the same pool and seed give the same windows at any number of threads.

pub mod cluster;
pub mod coverage;
mod mix;
mod random;
mod selection;

pub use coverage::Words;
pub use mix::Mix;
pub use selection::{Chosen, Coverage, Origin, Selection};

use crate::LaneError;
pub(crate) use random::Random;
use serde::{Deserialize, Serialize};

/// A text as token ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its file.
    pub name: String,
    /// What it belongs to, where domains count.
    pub domain: String,
    /// SHA-256 of the file's bytes, in hex.
    pub sha256: String,
    /// The whole text, without tokens that begin or end one.
    pub ids: Vec<u32>,
}

/// Sources, and the windows that they are cut into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    sources: Vec<Source>,
    bos: Option<u32>,
    length: usize,
    vocab: usize,
    places: Vec<Place>,
}

/// Where a window begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    source: usize,
    first: usize,
}

/// How windows are chosen. See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum Method {
    First,
    Random,
    Coverage,
    Cluster,
}

impl Method {
    /// Every method.
    pub const ALL: [Method; 4] = [Method::First, Method::Random, Method::Coverage, Method::Cluster];

    /// Its name in records and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Method::First => "first",
            Method::Random => "random",
            Method::Coverage => "coverage",
            Method::Cluster => "cluster",
        }
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// How windows are chosen.
    pub method: Method,
    /// How domains share.
    pub mix: Mix,
    /// How many windows.
    pub samples: usize,
    /// Seed of what is drawn.
    pub seed: u64,
}

/// What windows are compared by.
#[derive(Clone, Copy, Debug)]
pub struct Features<'a> {
    /// Which word each token is.
    pub words: &'a Words,
    /// What the model makes of each window ([`cluster::features`]); needed by [`Method::Cluster`] alone.
    pub states: &'a [Vec<f32>],
}

/// Why nothing could be chosen.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum DataError {
    #[error("there is no text to choose from")]
    Empty,
    #[error("{name}: the text is empty; name a file with text")]
    EmptySource { name: String },
    #[error("windows of {length} tokens are too short: at least 2 are needed")]
    Length { length: usize },
    #[error(
        "{samples} windows of {length} tokens are asked for, the text has {windows}; give more text, or ask for fewer or shorter ones"
    )]
    TooFew { samples: usize, length: usize, windows: usize },
    #[error(
        "domain `{domain}`: its share is {share} windows, its text has {windows}; give it more text, or ask for fewer windows"
    )]
    TooFewOf { domain: String, share: usize, windows: usize },
    #[error(
        "{name}: token {at} is {id}, the model's vocabulary has {vocab}; the text was made into tokens for another model"
    )]
    Id { name: String, at: usize, id: u32, vocab: usize },
    #[error("window {window} has {got} tokens, the first has {expected}; the selection is damaged, choose again")]
    Ragged { window: usize, expected: usize, got: usize },
    #[error("clustering needs what the model makes of each of {windows} windows, {got} are known")]
    NoFeatures { windows: usize, got: usize },
    #[error("the model has {blocks} blocks; there is no block {block} to look behind")]
    Block { block: usize, blocks: usize },
    #[error(
        "what the model makes of window {window} is not finite; its weights are damaged, or the text is strange to it"
    )]
    NotFinite { window: usize },
    #[error(transparent)]
    Run(#[from] LaneError),
}

impl Pool {
    /// Cuts sources into windows of `length` tokens one after the other; what is left at a source's end is not used.
    /// `bos`: what the model puts before a text, which then begins every window and counts to its length.
    ///
    /// # Errors
    /// No text, an empty one, ids beyond `vocab`, windows of fewer than two tokens.
    pub fn new(sources: Vec<Source>, length: usize, vocab: usize, bos: Option<u32>) -> Result<Pool, DataError> {
        if length < 2 {
            return Err(DataError::Length { length });
        }
        if sources.is_empty() {
            return Err(DataError::Empty);
        }
        let mut pool = Pool { sources, bos, length, vocab, places: Vec::new() };
        let body = pool.body();
        for (i, source) in pool.sources.iter().enumerate() {
            let name = || source.name.clone();
            if source.ids.is_empty() {
                return Err(DataError::EmptySource { name: name() });
            }
            if let Some(at) = source.ids.iter().position(|id| *id as usize >= vocab) {
                return Err(DataError::Id { name: name(), at, id: source.ids[at], vocab });
            }
            let firsts = (0..source.ids.len() / body).map(|w| w * body);
            pool.places.extend(firsts.map(|first| Place { source: i, first }));
        }
        Ok(pool)
    }

    /// How many windows there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether the text is too short for one window.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Tokens of a window that are text.
    fn body(&self) -> usize {
        self.length - usize::from(self.bos.is_some())
    }

    /// The text of a window.
    pub fn text(&self, window: usize) -> &[u32] {
        let Some(Place { source, first }) = self.places.get(window) else { return &[] };
        self.sources.get(*source).and_then(|s| s.ids.get(*first..first + self.body())).unwrap_or_default()
    }

    /// A window as the model reads it.
    pub fn ids(&self, window: usize) -> Vec<u32> {
        self.bos.into_iter().chain(self.text(window).iter().copied()).collect()
    }

    /// Domains in the order in which they come, with their windows.
    fn domains(&self) -> Vec<(&str, Vec<usize>)> {
        let mut domains: Vec<(&str, Vec<usize>)> = Vec::new();
        for source in &self.sources {
            if !domains.iter().any(|(name, _)| *name == source.domain) {
                domains.push((&source.domain, Vec::new()));
            }
        }
        for (window, place) in self.places.iter().enumerate() {
            let domain = &self.sources[place.source].domain;
            domains.iter_mut().filter(|(name, _)| name == domain).for_each(|(_, windows)| windows.push(window));
        }
        domains
    }
}

/// Chooses windows of a pool, best first where the method has an order.
///
/// # Errors
/// Fewer windows than asked for (of the pool, or of a domain), features that the method needs and lacks.
pub fn choose(pool: &Pool, choice: Choice, features: Features<'_>) -> Result<Selection, DataError> {
    if pool.len() < choice.samples || choice.samples == 0 {
        return Err(DataError::TooFew { samples: choice.samples, length: pool.length, windows: pool.len() });
    }
    if choice.method == Method::Cluster && features.states.len() != pool.len() {
        return Err(DataError::NoFeatures { windows: pool.len(), got: features.states.len() });
    }
    let windows = mix::choose(pool, choice, features)?;
    Ok(Selection::new(pool, choice, &windows, features.words))
}

/// Takes `n` of some windows of the pool by a method.
fn take(pool: &Pool, from: &[usize], n: usize, choice: Choice, features: Features<'_>) -> Vec<usize> {
    let picked = match choice.method {
        Method::First => (0..n).collect(),
        Method::Random => Random::new(choice.seed).sample(from.len(), n),
        Method::Coverage => {
            let sets: Vec<_> = from.iter().map(|w| features.words.set(pool.text(*w))).collect();
            coverage::greedy(&sets, features.words.count(), n)
        }
        Method::Cluster => {
            let states: Vec<_> = from.iter().map(|w| features.states[*w].as_slice()).collect();
            cluster::medoids(&states, n, choice.seed)
        }
    };
    picked.into_iter().map(|i| from[i]).collect()
}
