//! Errors that encodings make in the outputs of matrices.

use super::{Pair, windows};
use crate::{Calibration, EngineError, Importance, Options, Progress};
use calib::Inputs;
use codec::{Encoding, Matrix, Part};
use graph::{Buffer, Model, Patch, Source, SourceError, Weight, WeightId};
use kernels::{MatMut, MatRef, Write, matmul};
use passes::quantize::sequential::{self, Job, Sequential};
use passes::quantize::solver::{Problem, solver};
use plan::{Experts, Method, Mode, Unit};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Tokens that Hessians are of.
const TOKENS: usize = 8192;
/// Rows of a matrix that are tried in every candidate.
const ROWS: usize = 128;

/// See the module.
pub(super) struct Survey<'a> {
    model: &'a Model,
    units: &'a [Unit],
    method: Method,
    /// What is encoded in whole, to be measured.
    measured: &'a BTreeSet<Pair>,
    /// Squared errors of outputs, summed over the text, for each candidate of each unit.
    pub errors: Vec<Vec<f64>>,
    /// What is known of the inputs of each matrix.
    pub inputs: BTreeMap<WeightId, Power>,
    encoded: BTreeMap<(WeightId, Pair), Arc<dyn Source>>,
}

/// How large the inputs of a matrix are.
pub(super) struct Power {
    /// Mean squared length of a row.
    pub power: f64,
    /// Rows.
    pub tokens: u64,
}

impl<'a> Survey<'a> {
    pub fn new(model: &'a Model, units: &'a [Unit], method: Method, measured: &'a BTreeSet<Pair>) -> Survey<'a> {
        let errors = units.iter().map(|unit| vec![0.0; unit.candidates.len()]).collect();
        Survey { model, units, method, measured, errors, inputs: BTreeMap::new(), encoded: BTreeMap::new() }
    }

    /// Runs over the text and tries all candidates.
    pub fn run(
        &mut self,
        calibration: &Calibration,
        options: &Options<'_>,
        progress: &dyn Progress,
    ) -> Result<(), EngineError> {
        let length = calibration.windows.first().map_or(1, Vec::len);
        let windows = windows(calibration, TOKENS.div_ceil(length.max(1)), length, 0.0);
        let settings = sequential::Options {
            spill: None,
            limit: options.statistics(),
            mode: Mode::WholeModel,
            experts: Experts::Routed,
            transforms: &[],
        };
        let of: BTreeMap<WeightId, usize> =
            self.units.iter().enumerate().flat_map(|(n, unit)| unit.weights.iter().map(move |id| (*id, n))).collect();
        let mut unseen: BTreeSet<WeightId> = of.keys().copied().collect();
        // Their inputs are wanted; which encoding a job names does not matter.
        let job =
            |id: &WeightId| Job { weight: *id, encoding: self.model.weights.get(*id).encoding, method: Method::Gptq };
        let jobs: Vec<Job> = of.keys().map(job).collect();
        let mut walk = Sequential::new(self.model, self.model.clone(), &jobs, &windows, settings)?;
        for segment in walk.segments() {
            walk.survey(&segment, &jobs, &mut |job, inputs| {
                progress.advance(u64::from(unseen.remove(&job.weight)));
                let power = inputs.importance().iter().map(|x| f64::from(*x)).sum();
                self.inputs.insert(job.weight, Power { power, tokens: inputs.tokens() });
                self.try_all(job.weight, of[&job.weight], Some(inputs))
            })?;
        }
        // What is only looked up has no inputs.
        unseen.into_iter().try_for_each(|id| {
            progress.advance(1);
            self.try_all(id, of[&id], None)
        })
    }

    /// What was tried.
    pub fn units(&self) -> &'a [Unit] {
        self.units
    }

    /// The model with a unit as it would be, rounded where it was not encoded.
    pub fn changed(&self, unit: usize, candidate: usize) -> Result<Model, EngineError> {
        let (of, mut model) = (&self.units[unit], self.model.clone());
        let encoding = of.candidates[candidate].encoding;
        let (ready, rest): (Vec<WeightId>, Vec<WeightId>) =
            of.weights.iter().partition(|id| self.encoded.contains_key(&(**id, (unit, candidate))));
        let put = |patch: Patch, id: &WeightId| {
            patch.encode(&model, *id, encoding, self.encoded[&(*id, (unit, candidate))].clone())
        };
        let patch = ready.iter().fold(Patch::default(), put);
        model.apply(patch).map_err(|source| EngineError::Unsound { pass: "sensitivity", when: "after", source })?;
        let rest: Vec<Job> = rest.into_iter().map(|id| Job::round(id, encoding)).collect();
        crate::quantize::encode_rows(&mut model, &rest, &Importance::default())?;
        Ok(model)
    }

    /// Adds the errors of one weight in all candidates of its unit.
    fn try_all(&mut self, id: WeightId, unit: usize, inputs: Option<&Inputs>) -> Result<(), EngineError> {
        let weight = self.model.weights.get(id).clone();
        let all = weight.read()?;
        let some = sample(&all, weight.rows(), weight.cols());
        for (c, candidate) in self.units[unit].candidates.iter().enumerate() {
            if candidate.encoding == weight.encoding {
                continue;
            }
            let whole = self.measured.contains(&(unit, c)) && inputs.is_some();
            let data: &[f32] = if whole { &all } else { &some };
            let parts = self.encode(&weight, data, candidate.encoding, inputs)?;
            self.errors[unit][c] += error(&weight, data, candidate.encoding, &parts, inputs)?;
            if whole {
                let source = Buffer::new(&weight.name[..], weight.rows(), parts);
                self.encoded.insert((id, (unit, c)), Arc::new(source));
            }
        }
        Ok(())
    }

    /// Encodes rows of a weight by the plan's method, where that knows anything of its inputs.
    fn encode(
        &self,
        weight: &Weight,
        data: &[f32],
        encoding: Encoding,
        inputs: Option<&Inputs>,
    ) -> Result<Vec<Part>, EngineError> {
        let cols = weight.cols();
        let matrix = Matrix { rows: data.len() / cols.max(1), cols, data };
        let problem = Problem { name: &weight.name, matrix, encoding, inputs, whole: None };
        match solver(self.method).filter(|_| inputs.is_some()) {
            Some(solver) => Ok(solver.solve(&problem).map_err(sequential::SequentialError::from)?.parts),
            None => Ok(encoding.encode(matrix, None).map_err(|source| codec_error(weight, source))?),
        }
    }
}

fn codec_error(weight: &Weight, source: codec::CodecError) -> SourceError {
    SourceError::Codec { name: weight.name.clone(), source }
}

/// Rows at even distances, or all where they are few.
fn sample(data: &[f32], rows: usize, cols: usize) -> Cow<'_, [f32]> {
    if rows <= ROWS {
        return Cow::Borrowed(data);
    }
    let row = |i: usize| &data[i * rows / ROWS * cols..][..cols];
    (0..ROWS).flat_map(|i| row(i).iter().copied()).collect()
}

/// `tr(ΔW·H·ΔWᵀ)` of the whole matrix, from some of its rows; the sum of squares where nothing is known of its inputs.
fn error(
    weight: &Weight,
    data: &[f32],
    encoding: Encoding,
    parts: &[Part],
    inputs: Option<&Inputs>,
) -> Result<f64, EngineError> {
    let cols = weight.cols();
    let rows = data.len() / cols.max(1);
    let find = |suffix: &str| parts.iter().find(|p| p.spec.suffix == suffix).map(|p| &p.bytes[..]);
    let mut change = encoding.decode(rows, cols, find).map_err(|source| codec_error(weight, source))?;
    change.iter_mut().zip(data).for_each(|(q, w)| *q -= w);
    let mut along = change.clone();
    if let Some(hessian) = inputs.and_then(Inputs::hessian) {
        let (change, hessian) = (MatRef::new(&change, rows, cols), MatRef::new(hessian, cols, cols));
        matmul(1.0, change, hessian, MatMut::new(&mut along, rows, cols), Write::Set);
    }
    let sum: f64 = change.iter().zip(&along).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
    Ok(sum.max(0.0) * weight.rows() as f64 / rows.max(1) as f64)
}
