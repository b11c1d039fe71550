//! Choosing calibration text for a model: its tokenizer makes texts into a pool, [`calib::data`] chooses.

use crate::texts::{TextFile, encode};
use crate::{Calibration, EngineError, Progress, Unit};
use calib::data::{Choice, Coverage, Features, Method, Pool, Selection, Source, Words, choose, cluster};
use import::Imported;
use plan::ChosenText;
use std::path::Path;

/// Texts as one model sees them.
pub struct Texts<'a> {
    imported: &'a Imported,
    pool: Pool,
    words: Words,
}

impl<'a> Texts<'a> {
    /// Makes texts into ids and cuts these into windows of `length` tokens.
    ///
    /// # Errors
    /// What [`Pool::new`] refuses; windows longer than the model was made for.
    pub fn new(
        imported: &'a Imported,
        texts: &[TextFile],
        length: usize,
        progress: &dyn Progress,
    ) -> Result<Texts<'a>, EngineError> {
        let tokenizer = imported.tokenizer()?;
        let config = imported.model.decoder();
        if let Some(context) = config.map(|c| c.context).filter(|context| length > *context) {
            return Err(EngineError::WindowTooLong { length, context });
        }
        let vocab = config.map_or(tokenizer.vocab_size(), |c| c.vocab);
        progress.begin("make text into tokens", texts.iter().map(|t| t.text.len() as u64).sum(), Unit::Bytes);
        let mut sources = Vec::with_capacity(texts.len());
        for text in texts {
            let TextFile { name, domain, sha256, text } = text;
            let ids = encode(&tokenizer, text)?;
            sources.push(Source { name: name.clone(), domain: domain.clone(), sha256: sha256.clone(), ids });
            progress.advance(text.len() as u64);
        }
        progress.end();
        let words = Words::new((0..vocab as u32).map(|id| tokenizer.decode(&[id]).ok()));
        let bos = tokenizer.bos().filter(|_| tokenizer.add_bos());
        Ok(Texts { imported, pool: Pool::new(sources, length, vocab, bos)?, words })
    }

    /// Windows to choose from.
    pub fn windows(&self) -> usize {
        self.pool.len()
    }

    /// Chooses windows. Clusters are of what leaves the block `block`, counted from 0.
    ///
    /// # Errors
    /// Too little text; clusters of a model whose architecture is unknown.
    pub fn choose(&self, choice: Choice, block: usize, progress: &dyn Progress) -> Result<Selection, EngineError> {
        let states = match choice.method {
            Method::Cluster => self.states(block, progress)?,
            Method::First | Method::Random | Method::Coverage => Vec::new(),
        };
        Ok(choose(&self.pool, choice, Features { words: &self.words, states: &states })?)
    }

    fn states(&self, block: usize, progress: &dyn Progress) -> Result<Vec<Vec<f32>>, EngineError> {
        let graph = self.imported.model.graph().ok_or(EngineError::CannotCluster)?;
        progress.begin("run the first blocks", self.pool.len() as u64, Unit::Tokens);
        let states = cluster::features(graph, &self.imported.model.weights, &self.pool, block);
        progress.end();
        Ok(states?)
    }

    /// What random windows would have covered, for seeds `0 … seeds`: what a choice is to be compared with.
    pub fn at_random(&self, choice: Choice, seeds: u64) -> Result<Vec<Coverage>, EngineError> {
        let random = |seed| self.choose(Choice { method: Method::Random, seed, ..choice }, 0, &crate::Quiet);
        (0..seeds).map(|seed| random(seed).map(|s| s.coverage)).collect()
    }
}

impl Calibration {
    /// Reads a selection that `tinier calibrate-data` wrote.
    ///
    /// # Errors
    /// It is no selection, or not for this model.
    pub fn from_selection(imported: &Imported, path: &Path, json: &str) -> Result<Calibration, EngineError> {
        let wrong = |source| EngineError::Selection { path: path.into(), source };
        let selection: Selection = serde_json::from_str(json).map_err(wrong)?;
        let vocab = match imported.model.decoder() {
            Some(config) => config.vocab,
            None => imported.tokenizer()?.vocab_size(),
        };
        let windows = selection.ids(vocab)?;
        let Selection { method, seed, coverage, random, .. } = selection;
        let random = random.into_iter().map(|random| random.rest).collect();
        Ok(Calibration {
            name: format!("{}: {} windows by {}, seed {seed}", path.display(), windows.len(), method.name()),
            windows,
            chosen: Some(ChosenText { words: coverage.rest, random }),
        })
    }
}
