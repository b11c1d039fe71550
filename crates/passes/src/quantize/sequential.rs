//! Quantizing a model block by block, each from what the blocks before it really produce.
//!
//! Two [`Lane`]s run over the calibration text: the original, and the model as far as it is compressed (or the original
//! alone, in [`Mode::WholeModel`]). In each run of
//! nodes (a block, or what lies between two) the matrices are taken in stages: those that read the same values go
//! together, and see what the ones before them lost. The lanes stop before each stage; statistics of what it reads are
//! gathered, its matrices solved and put in place, and the lanes go on.
//!
//! Memory is one block, one batch, the statistics of one stage (in as many parts as the limit asks for), and what one
//! solver holds. The same windows give the same bytes at any number of threads, and whether or not a run was resumed.

use super::correct::correct;
use super::solver::{Problem, SolveError, solver};
use super::stages::{Read, Site, stages};
use calib::{Inputs, Lane, LaneError};
use codec::packed::Range as Numbers;
use codec::{Encoding, Matrix, Part};
use exec::Tap;
use graph::{Graph, GraphError, Model, Patch, Source, SourceError, ValueId, WeightId};
use plan::{Method, Mode};
use std::collections::BTreeMap;
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
    /// Which model the statistics are of.
    pub mode: Mode,
}

/// See the module.
pub struct Sequential<'a> {
    source: &'a Model,
    graph: &'a Graph,
    model: Model,
    original: Lane,
    /// None where statistics are of the original.
    compressed: Option<Lane>,
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
        let compressed = (options.mode == Mode::Sequential).then(|| lane(&model)).transpose()?;
        Ok(Sequential { original: lane(source)?, compressed, source, graph, model, options })
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

    /// Encodes the weights of a run of nodes and goes on behind it. `keep` stores each weight, and gives the source that
    /// it is read from afterwards.
    pub fn quantize<E: From<SequentialError>>(
        &mut self,
        segment: &Range<usize>,
        jobs: &[Job],
        keep: &mut dyn FnMut(Solved) -> Result<Arc<dyn Source>, E>,
    ) -> Result<(), E> {
        let mut at = segment.start;
        for stage in stages(self.source, self.graph, segment, jobs, self.compressed.is_some()) {
            let nodes = stage.nodes.clone();
            self.advance(at..nodes.start)?;
            at = nodes.start;
            for part in stage.parts(self.options.limit) {
                let known = self.gather(nodes.clone(), &part)?;
                for read in &part {
                    let inputs = known.get(&read.site);
                    for job in &read.jobs {
                        let source = keep(self.solve(job, inputs, read)?)?;
                        self.install(job, source)?;
                    }
                }
            }
        }
        Ok(self.advance(at..segment.end)?)
    }

    /// Puts an encoded weight in place: one of this run, or of an earlier one that is resumed.
    pub fn install(&mut self, job: &Job, source: Arc<dyn Source>) -> Result<(), SequentialError> {
        let patch = Patch::default().encode(&self.model, job.weight, job.encoding, source);
        Ok(self.model.apply(patch)?)
    }

    /// Goes on behind a run of nodes whose weights are done.
    pub fn advance(&mut self, nodes: Range<usize>) -> Result<(), SequentialError> {
        // Nothing reads what the last nodes make.
        if nodes.is_empty() || nodes.end == self.graph.nodes().len() {
            return Ok(());
        }
        self.original.advance(nodes.clone())?;
        let Some(compressed) = &mut self.compressed else { return Ok(()) };
        compressed.set_weights(&self.model.weights)?;
        Ok(compressed.advance(nodes)?)
    }

    /// Goes to a block without the ones before it, which it is as if they changed nothing: enough to try it out.
    pub fn jump(&mut self, block: &Range<usize>) -> Result<(), SequentialError> {
        let first = self.graph.blocks().first().map_or(block.clone(), |first| first.nodes.clone());
        for segment in self.segments().into_iter().filter(|s| s.end <= first.start) {
            self.advance(segment)?;
        }
        let input = |lane: &mut Lane, nodes: &Range<usize>| lane.executor().inputs_of(nodes).into_iter().next();
        for lane in [Some(&mut self.original), self.compressed.as_mut()].into_iter().flatten() {
            if let (Some(from), Some(to)) = (input(lane, &first), input(lane, block)) {
                lane.rename(from, to)?;
            }
        }
        Ok(())
    }

    /// Encodes one weight.
    fn solve(&self, job: &Job, inputs: Option<&Inputs>, read: &Read) -> Result<Solved, SequentialError> {
        let weight = self.source.weights.get(job.weight);
        let mut data = weight.read()?;
        weight.source.release(0..weight.rows());
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

    /// Statistics of what some matrices read, before the first of their nodes runs.
    fn gather(&mut self, nodes: Range<usize>, part: &[Read]) -> Result<BTreeMap<Site, Inputs>, SequentialError> {
        let new = |read: &Read| (read.site, Inputs::new(read.width, read.depth));
        let mut known: BTreeMap<Site, Inputs> = part.iter().map(new).collect();
        let experts = known.keys().any(|site| matches!(site, Site::Expert(_)));
        for batch in 0..self.original.batches() {
            for (site, inputs) in &mut known {
                if let Site::Value(id) = site {
                    self.see(*id, batch, inputs)?;
                }
            }
            if experts {
                self.seen().look(nodes.clone(), batch, &mut |tap| {
                    if let Tap::Expert { weight, rows, .. } = tap {
                        known.entry(Site::Expert(weight)).and_modify(|inputs| inputs.see(rows));
                    }
                })?;
            }
        }
        self.seen().end_block();
        Ok(known)
    }

    /// The lane that statistics are of.
    fn seen(&mut self) -> &mut Lane {
        self.compressed.as_mut().unwrap_or(&mut self.original)
    }

    /// Takes in the rows of a value in one batch.
    fn see(&mut self, id: ValueId, batch: usize, inputs: &mut Inputs) -> Result<(), SequentialError> {
        let rows = self.seen().value(batch, id)?;
        match inputs.drift() {
            Some(_) => inputs.see_pair(rows.data(), self.original.value(batch, id)?.data()),
            None => inputs.see(rows.data()),
        }
        Ok(())
    }
}
