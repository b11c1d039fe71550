//! An imatrix and the weights of a model: which numbers are whose, and how they are gathered.

use crate::{Calibration, EngineError, Progress, Unit};
use calib::columns;
use formats::imatrix::{Entry, Imatrix};
use graph::{Weight, WeightId};
use import::Imported;
use plan::Note;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// How much each input column of each weight matters.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Importance {
    /// Mean squares, one for each column of the weight.
    pub of: HashMap<WeightId, Vec<f32>>,
    /// What the user must know: weights without importance.
    pub notes: Vec<Note>,
}

/// Why an imatrix does not fit a model.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ImportanceError {
    #[error("the imatrix is of another model: it has {}, which the model has not; make one of this model", names.join(", "))]
    OtherModel { names: Vec<String> },
    #[error(
        "the imatrix is of another model: `{name}` has {sums} columns there, the model's has {experts} × {columns}; make one of this model"
    )]
    Size { name: String, sums: usize, experts: usize, columns: usize },
    #[error(
        "column {column} of what `{weight}` is multiplied with is not finite; the model is damaged, or the text is strange to it"
    )]
    NotFinite { weight: String, column: usize },
    #[error("an imatrix names tensors as GGUF does, but this model's architecture is unknown, and so are those names")]
    Unknown,
}

/// Finds the numbers of each weight. A file may lack weights, but not have others, nor other sizes.
///
/// # Errors
/// The imatrix is of another model, or the model of an unknown architecture.
pub fn importance(imported: &Imported, imatrix: &Imatrix) -> Result<Importance, EngineError> {
    let arch = imported.arch.ok_or(ImportanceError::Unknown)?;
    let matrices = imported.model.weights.iter().filter(|(_, w)| w.shape.len() == 2);
    let mut by_name: BTreeMap<String, Vec<(WeightId, &Weight)>> = BTreeMap::new();
    for (id, weight) in matrices {
        if let Some(name) = arch.gguf_name(weight.place) {
            by_name.entry(name).or_default().push((id, weight));
        }
    }
    check_names(imatrix, &by_name)?;
    let mut found = Importance::default();
    for (name, mut weights) in by_name {
        weights.sort_by_key(|(_, w)| w.place.expert);
        match imatrix.entries.get(&name) {
            Some(entry) => found.add(&name, entry, &weights)?,
            // Embeddings and heads are left out as a rule.
            None => found.lack(weights.iter().filter(|(_, w)| w.place.layer.is_some()).map(|(_, w)| *w)),
        }
    }
    Ok(found)
}

/// Gathers an imatrix of a model over calibration text: mean squares of what its matrices inside blocks are multiplied
/// with, as llama-imatrix does.
///
/// # Errors
/// The model's architecture is unknown; what it makes of the text is not finite.
pub fn gather_imatrix(
    imported: &Imported,
    calibration: &Calibration,
    progress: &dyn Progress,
) -> Result<Imatrix, EngineError> {
    let model = &imported.model;
    let (Some(arch), Some(graph), Some(config)) = (imported.arch, model.graph(), model.decoder()) else {
        return Err(ImportanceError::Unknown.into());
    };
    progress.begin("gather importance", 0, Unit::Weights);
    let mut done = |matrices| progress.advance(matrices as u64);
    let seen = columns(graph, &model.weights, config.vocab, &calibration.windows, &mut done);
    progress.end();
    let mut entries: BTreeMap<String, Entry> = BTreeMap::new();
    let mut seen: Vec<_> = seen?.into_iter().map(|(id, inputs)| (model.weights.get(id), inputs)).collect();
    seen.sort_by_key(|(weight, _)| weight.place.expert);
    for (weight, inputs) in seen {
        let Some(name) = arch.gguf_name(weight.place) else { continue };
        if let Some(column) = inputs.not_finite() {
            return Err(ImportanceError::NotFinite { weight: weight.name.clone(), column }.into());
        }
        let entry = entries.entry(name).or_insert(Entry { sums: Vec::new(), counts: Vec::new() });
        let tokens = inputs.tokens();
        entry.sums.extend(inputs.importance().iter().map(|mean| mean * tokens as f32));
        entry.counts.push(tokens);
    }
    let length = calibration.windows.first().map_or(0, Vec::len) as u32;
    Ok(Imatrix {
        entries,
        datasets: vec![calibration.name.clone()],
        chunks: calibration.windows.len() as u32,
        chunk_size: length,
    })
}

fn check_names<T>(imatrix: &Imatrix, known: &BTreeMap<String, T>) -> Result<(), ImportanceError> {
    let theirs: BTreeSet<&String> = imatrix.entries.keys().filter(|name| !known.contains_key(*name)).collect();
    match theirs.is_empty() {
        true => Ok(()),
        false => {
            Err(ImportanceError::OtherModel { names: theirs.into_iter().take(3).map(|n| format!("`{n}`")).collect() })
        }
    }
}

impl Importance {
    /// Takes the numbers of one weight, or of the experts that share a name.
    fn add(&mut self, name: &str, entry: &Entry, weights: &[(WeightId, &Weight)]) -> Result<(), ImportanceError> {
        let columns = weights.first().map_or(1, |(_, w)| w.cols()).max(1);
        let experts = weights.len();
        let fits = entry.counts.len() == 1 || entry.counts.len() == experts;
        if !fits || entry.sums.len() != experts * columns {
            let sums = entry.sums.len();
            return Err(ImportanceError::Size { name: name.into(), sums, experts, columns });
        }
        for (i, ((id, weight), mean)) in weights.iter().zip(entry.means().chunks(columns)).enumerate() {
            if entry.counts.get(i) == Some(&0) {
                self.note(weight, "no token of the imatrix's text reached it, so all its columns count alike");
            }
            self.of.insert(*id, mean.to_vec());
        }
        Ok(())
    }

    fn lack<'a>(&mut self, weights: impl Iterator<Item = &'a Weight>) {
        weights.for_each(|weight| self.note(weight, "the imatrix lacks it, so all its columns count alike"));
    }

    fn note(&mut self, weight: &Weight, what: &str) {
        self.notes.push(Note { weight: Some(weight.name.clone()), what: what.into() });
    }
}
