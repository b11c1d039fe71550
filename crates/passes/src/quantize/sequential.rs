//! Quantizing a model block by block, each from what the blocks before it really produce.
//!
//! Two [`Lane`]s run over the calibration text: the original, and the model as far as it is compressed. In each run of
//! nodes (a block, or what lies between two) the matrices are taken in stages: those that read the same values go
//! together, and see what the ones before them lost. A stage runs the lanes up to its nodes, gathers statistics of what
//! it reads, solves, and puts the encoded matrices in place.
//!
//! Memory is one block, one batch, the statistics of one stage (in as many parts as the limit asks for), and what one
//! solver holds. The same windows give the same bytes at any number of threads, and whether or not a run was resumed.

use super::correct::correct;
use super::solver::{Problem, SolveError, solver};
use super::stages::{Read, Site, stages};
use calib::{Depth, Inputs, Lane, LaneError};
use codec::packed::Range as Numbers;
use codec::{Encoding, Matrix, Part};
use exec::{Tap, Tensor};
use graph::{Graph, GraphError, Model, Patch, Source, SourceError, ValueId, WeightId};
use plan::Method;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// What is to become of a weight.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Job {
    /// Which.
    pub weight: WeightId,
    /// How it will lie in bytes.
    pub encoding: Encoding,
    /// How its codes are chosen.
    pub method: Method,
}

/// A weight that was encoded.
#[derive(Clone, Debug)]
pub struct Solved {
    /// What was asked for.
    pub job: Job,
    /// Its bytes.
    pub parts: Vec<Part>,
    /// Rows of calibration text that it was fitted to.
    pub tokens: u64,
    /// What a reader of the report must know.
    pub notes: Vec<String>,
}

/// Why a model could not be quantized.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum SequentialError {
    #[error(transparent)]
    Solve(#[from] SolveError),
    #[error(transparent)]
    Lane(#[from] LaneError),
    #[error(transparent)]
    Weight(#[from] SourceError),
    #[error("after quantizing a block: {0}")]
    Unsound(#[from] GraphError),
    #[error("the model's architecture is unknown, so it cannot be run over calibration text; use the method `round`")]
    NoGraph,
}

/// How a model is quantized block by block.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// Folder of files in which values wait between blocks; they wait in memory without one.
    pub spill: Option<&'a Path>,
    /// Bytes that the statistics of a stage may take together.
    pub limit: u64,
    /// Whether matrices make good what those before them lost.
    pub drift: bool,
}

/// See the module.
pub struct Sequential<'a> {
    source: &'a Model,
    graph: &'a Graph,
    model: Model,
    original: Lane,
    compressed: Lane,
    options: Options<'a>,
}

impl<'a> Sequential<'a> {
    /// Begins with windows of calibration text, and a copy of the model in which all that needs no text is encoded.
    pub fn new(
        source: &'a Model,
        model: Model,
        windows: &[Vec<u32>],
        options: Options<'a>,
    ) -> Result<Sequential<'a>, SequentialError> {
        let (Some(graph), Some(config)) = (source.graph(), source.decoder()) else {
            return Err(SequentialError::NoGraph);
        };
        let lane = |model: &Model| Lane::new(graph, &model.weights, config.vocab, windows, options.spill);
        Ok(Sequential { original: lane(source)?, compressed: lane(&model)?, source, graph, model, options })
    }

    /// Runs of nodes that cover the graph, in order.
    pub fn segments(&mut self) -> Vec<Range<usize>> {
        let executor = self.original.executor();
        let head = Some(executor.head()).filter(|head| !head.is_empty());
        executor.segments().iter().cloned().chain(head).collect()
    }

    /// The model as far as it is compressed.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Encodes the weights of a run of nodes. `keep` stores each, and gives the source that it is read from afterwards.
    pub fn quantize<E: From<SequentialError>>(
        &mut self,
        segment: &Range<usize>,
        jobs: &[Job],
        keep: &mut dyn FnMut(Solved) -> Result<Arc<dyn Source>, E>,
    ) -> Result<(), E> {
        for stage in stages(self.source, self.graph, segment, jobs, self.options.drift) {
            let range = segment.start..stage.end;
            for part in stage.parts(self.options.limit) {
                let known = self.gather(range.clone(), &part)?;
                for read in &part {
                    let inputs = known.get(&read.site);
                    for job in &read.jobs {
                        let source = keep(self.solve(job, inputs, read)?)?;
                        self.install(job, source)?;
                    }
                }
            }
            self.compressed.set_weights(&self.model.weights).map_err(SequentialError::from)?;
        }
        Ok(())
    }

    /// Puts an encoded weight in place: one of this run, or of an earlier one that is resumed.
    pub fn install(&mut self, job: &Job, source: Arc<dyn Source>) -> Result<(), SequentialError> {
        let patch = Patch::default().encode(&self.model, job.weight, job.encoding, source);
        Ok(self.model.apply(patch)?)
    }

    /// Goes on behind a run of nodes whose weights are done.
    pub fn advance(&mut self, segment: Range<usize>) -> Result<(), SequentialError> {
        self.compressed.set_weights(&self.model.weights)?;
        self.original.advance(segment.clone())?;
        Ok(self.compressed.advance(segment)?)
    }

    /// Encodes one weight.
    fn solve(&self, job: &Job, inputs: Option<&Inputs>, read: &Read) -> Result<Solved, SequentialError> {
        let weight = self.source.weights.get(job.weight);
        let mut data = weight.read()?;
        if let Some(inputs) = inputs.filter(|i| i.not_finite().is_none()) {
            correct(&mut data, inputs);
        }
        let unseen = Inputs::new(read.width, read.depth);
        let problem = Problem {
            name: &weight.name,
            matrix: Matrix { rows: weight.rows(), cols: weight.cols(), data: &data },
            encoding: job.encoding,
            inputs: Some(inputs.unwrap_or(&unseen)),
            whole: self.whole(job)?,
        };
        let solver = solver(job.method).ok_or_else(|| problem.none(job.method))?;
        let solution = solver.solve(&problem)?;
        let tokens = inputs.map_or(0, Inputs::tokens);
        Ok(Solved { job: *job, parts: solution.parts, tokens, notes: solution.notes })
    }

    /// The range of all that shares a weight's scale, where that is more than itself.
    fn whole(&self, job: &Job) -> Result<Option<Numbers>, SequentialError> {
        let weight = self.source.weights.get(job.weight);
        if !matches!(job.encoding, Encoding::Packed(packed) if packed.shares_range()) {
            return Ok(None);
        }
        let fused = self.source.weights.fused(weight);
        let ranges = fused.into_iter().map(|w| w.read().map(|x| Numbers::of(&x))).collect::<Result<Vec<_>, _>>()?;
        Ok(ranges.into_iter().reduce(Numbers::union))
    }

    /// Statistics of what some matrices read. Both lanes run where their difference is wanted.
    fn gather(&mut self, range: Range<usize>, part: &[Read]) -> Result<BTreeMap<Site, Inputs>, SequentialError> {
        let graph = self.graph;
        let drifts = part.iter().any(|read| read.depth == Depth::Drift);
        let new = |read: &Read| (read.site, Inputs::new(read.width, read.depth));
        let mut known: BTreeMap<Site, Inputs> = part.iter().map(new).collect();
        for batch in 0..self.original.batches() {
            let mut originals = BTreeMap::new();
            if drifts {
                self.original.look(range.clone(), batch, &mut |tap| {
                    originals.extend(values(graph, &tap).map(|(id, data)| (id, data.clone())));
                    originals.retain(|id, _| known.contains_key(&Site::Value(*id)));
                })?;
            }
            let mut seen = BTreeSet::new();
            self.compressed.look(range.clone(), batch, &mut |tap| match tap {
                Tap::Expert { weight, rows, .. } => {
                    known.entry(Site::Expert(weight)).and_modify(|inputs| inputs.see(rows));
                }
                tap => values(graph, &tap).filter(|(id, _)| seen.insert(*id)).for_each(|(id, data)| {
                    let Some(inputs) = known.get_mut(&Site::Value(id)) else { return };
                    match originals.remove(&id) {
                        Some(original) => inputs.see_pair(data.data(), original.data()),
                        None => inputs.see(data.data()),
                    }
                }),
            })?;
        }
        self.original.end_block();
        self.compressed.end_block();
        Ok(known)
    }
}

/// The numbers that a node is about to read.
fn values<'t>(graph: &Graph, tap: &Tap<'t>) -> impl Iterator<Item = (ValueId, &'t Arc<Tensor>)> {
    let (ids, inputs) = match tap {
        Tap::Inputs { node, inputs } => (graph.nodes()[node.0].inputs.clone(), *inputs),
        Tap::Expert { .. } => (Vec::new(), &[][..]),
    };
    ids.into_iter().zip(inputs).filter_map(|(id, data)| Some((id, data.float()?)))
}
