//! Quantizing a model block by block, each from what the blocks before it really produce.
//!
//! Two [`Lane`]s run over the calibration text: the original, and the model as far as it is compressed (or the original
//! alone, in [`Mode::WholeModel`]). In each run of
//! nodes (a block, or what lies between two) the matrices are taken in stages: those that read the same values go
//! together, and see what the ones before them lost. The lanes stop before each stage; statistics of what it reads are
//! gathered, its matrices solved and put in place, and the lanes go on.
//!
//! Before that, transforms may choose scales for the channels of a run ([`Sequential::search`]). From then on the original
//! is the one with scaled channels, which computes the same: its matrices are what is to be encoded.
//!
//! Memory is one block, one batch, the statistics of one stage (in as many parts as the limit asks for), and what one
//! solver holds. The same windows give the same bytes at any number of threads, and whether or not a run was resumed.

use super::correct::correct;
use super::round;
use super::solver::{Problem, SolveError, solver};
use super::stages::{Read, parts, stages};
use crate::partners::{Fold, Refusal, Site, folds};
use crate::transform::{Reader, Scaling, scaling};
use calib::{Inputs, Lane, LaneError};
use codec::packed::Range as Numbers;
use codec::{Encoding, Matrix, Part};
use exec::Tap;
use graph::{Graph, GraphError, Model, Patch, Source, SourceError, ValueId, WeightId};
use plan::{Method, Mode, Transform};
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
    /// Which model the statistics are of.
    pub mode: Mode,
    /// What is done to each run of nodes before its matrices are encoded, in this order.
    pub transforms: &'a [Transform],
}

/// The scales of a run of nodes: a number for each column of the readers of each fold, in the order of
/// [`folds`]; none where a fold is left alone.
pub type Scales = Vec<Option<Vec<f32>>>;

/// See the module.
pub struct Sequential<'a> {
    /// What matrices should be: the original, its channels scaled where that was done.
    source: Model,
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
        let (original, source) = (lane(source)?, source.clone());
        Ok(Sequential { source, graph, model, original, compressed, options })
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

    /// What the compressed model's weights should be: the original's, scaled as far as that was done.
    pub fn target(&self) -> &Model {
        &self.source
    }

    /// Asks the transforms for the scales of a run of nodes.
    pub fn search(&mut self, segment: &Range<usize>, jobs: &[Job]) -> Result<Scales, SequentialError> {
        let folds = folds(&self.source, self.graph, segment);
        let mut scales: Scales = vec![None; folds.len()];
        let scalings: Vec<Box<dyn Scaling>> = self.options.transforms.iter().filter_map(|t| scaling(*t)).collect();
        let Some(depth) = scalings.iter().map(|s| s.needs()).max() else { return Ok(scales) };
        let mut wanted = BTreeMap::new();
        for (n, (site, fold)) in folds.into_iter().enumerate() {
            let Ok(fold) = fold else { continue };
            let readers = self.readers(&fold, jobs);
            if !readers.is_empty() {
                wanted.insert(site, (n, fold, readers));
            }
        }
        let read = |(site, (_, fold, _)): (&Site, &(usize, Fold, Vec<Reader>))| {
            let width = fold.index.len();
            Read { site: *site, width, depth, jobs: Vec::new() }
        };
        for part in parts(wanted.iter().map(read).collect(), self.options.limit) {
            for (site, inputs) in self.observe(segment, &part)? {
                let Some((n, fold, readers)) = wanted.get(&site) else { continue };
                scales[*n] = scaled(&scalings, fold, readers, &inputs)?;
            }
        }
        Ok(scales)
    }

    /// Scales channels of a run of nodes: as [`Sequential::search`] found, now or in an earlier run.
    pub fn scale(&mut self, segment: &Range<usize>, jobs: &[Job], scales: &Scales) -> Result<(), SequentialError> {
        for ((_, fold), scale) in folds(&self.source, self.graph, segment).into_iter().zip(scales) {
            let (Ok(fold), Some(scale)) = (fold, scale) else { continue };
            let patch = fold.patch(&self.source, scale);
            self.source.apply(patch)?;
            fold.weights().try_for_each(|weight| self.follow(weight, jobs))?;
        }
        self.original.set_weights(&self.source.weights)?;
        let compressed = self.compressed.as_mut();
        Ok(compressed.map_or(Ok(()), |lane| lane.set_weights(&self.model.weights))?)
    }

    /// Matrices of a run of nodes whose columns no transform can scale, and why.
    pub fn refusals(&self, segment: &Range<usize>, jobs: &[Job]) -> Vec<(WeightId, Refusal)> {
        let scales = self.options.transforms.iter().any(|t| scaling(*t).is_some());
        let folds = if scales { folds(&self.source, self.graph, segment) } else { Vec::new() };
        let refused = folds.into_iter().filter_map(|(site, fold)| Some((site, fold.err()?)));
        let nodes = &self.graph.nodes()[segment.clone()];
        let reads = |site: Site, job: &&Job| match site {
            Site::Expert(weight) => weight == job.weight,
            Site::Value(value) => {
                nodes.iter().any(|n| n.inputs.first() == Some(&value) && n.op.spec().factors().contains(&job.weight))
            }
        };
        refused
            .flat_map(|(site, why)| jobs.iter().filter(move |j| reads(site, j)).map(move |j| (j.weight, why.clone())))
            .collect()
    }

    /// The readers of a fold that will have codes; none where a weight of the fold has codes already.
    fn readers(&self, fold: &Fold, jobs: &[Job]) -> Vec<Reader> {
        let plain = |encoding: Encoding| matches!(encoding, Encoding::Plain(_));
        if fold.weights().any(|w| !plain(self.source.weights.get(w).encoding)) {
            return Vec::new();
        }
        let reader = |weight: &WeightId| {
            let (encoding, method) = jobs.iter().find(|job| job.weight == *weight).map_or_else(
                || (self.model.weights.get(*weight).encoding, Method::Round),
                |job| (job.encoding, job.method),
            );
            Reader { weight: self.source.weights.get(*weight).clone(), encoding, method }
        };
        fold.readers.iter().map(reader).filter(|r| !plain(r.encoding)).collect()
    }

    /// Brings a weight of the compressed model to what it should be: as it is where it waits to be solved, else rounded.
    fn follow(&mut self, weight: WeightId, jobs: &[Job]) -> Result<(), SequentialError> {
        let (target, encoding) = (self.source.weights.get(weight), self.model.weights.get(weight).encoding);
        let waits = jobs.iter().any(|job| job.weight == weight);
        let patch = if waits || encoding == target.encoding {
            Patch::default().encode(&self.model, weight, target.encoding, target.source.clone())
        } else {
            round::apply(&self.source, weight, encoding, None)
        };
        Ok(self.model.apply(patch)?)
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
        for stage in stages(&self.source, self.graph, segment, jobs, self.compressed.is_some()) {
            let nodes = stage.nodes.clone();
            self.advance(at..nodes.start)?;
            at = nodes.start;
            for part in parts(stage.reads, self.options.limit) {
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

    /// Shows what is known of the inputs of each matrix of a run of nodes, encodes nothing, and goes on behind the run.
    pub fn survey<E: From<SequentialError>>(
        &mut self,
        segment: &Range<usize>,
        jobs: &[Job],
        see: &mut dyn FnMut(&Job, &Inputs) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut at = segment.start;
        for stage in stages(&self.source, self.graph, segment, jobs, false) {
            self.advance(at..stage.nodes.start)?;
            at = stage.nodes.start;
            for part in parts(stage.reads, self.options.limit) {
                let known = self.gather(stage.nodes.clone(), &part)?;
                for read in &part {
                    let Some(inputs) = known.get(&read.site) else { continue };
                    read.jobs.iter().try_for_each(|job| see(job, inputs))?;
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

    /// Statistics of what is read anywhere in a run of nodes whose weights are not yet encoded.
    fn observe(&mut self, nodes: &Range<usize>, part: &[Read]) -> Result<BTreeMap<Site, Inputs>, SequentialError> {
        let graph = self.graph;
        let new = |read: &Read| (read.site, Inputs::new(read.width, read.depth));
        let mut known: BTreeMap<Site, Inputs> = part.iter().map(new).collect();
        for batch in 0..self.original.batches() {
            let mut seen = BTreeSet::new();
            self.seen().look(nodes.clone(), batch, &mut |tap| match tap {
                Tap::Expert { weight, rows, .. } => {
                    known.entry(Site::Expert(weight)).and_modify(|inputs| inputs.see(rows));
                }
                Tap::Inputs { node, inputs } => {
                    for (id, data) in graph.nodes()[node.0].inputs.iter().zip(inputs) {
                        let site = known.get_mut(&Site::Value(*id)).filter(|_| seen.insert(*id));
                        if let (Some(site), Some(data)) = (site, data.float()) {
                            site.see(data.data());
                        }
                    }
                }
            })?;
        }
        self.seen().end_block();
        Ok(known)
    }
}

/// What all transforms together make of a fold; `None` where that is nothing.
fn scaled(
    scalings: &[Box<dyn Scaling>],
    fold: &Fold,
    readers: &[Reader],
    inputs: &Inputs,
) -> Result<Option<Vec<f32>>, SequentialError> {
    let mut scale = vec![1.0; inputs.width()];
    for scaling in scalings {
        let readers: Vec<Reader> = readers.iter().map(|r| r.scaled(&scale)).collect();
        let more = scaling.scale(fold, &readers, &inputs.divided(&scale))?;
        scale.iter_mut().zip(more).for_each(|(s, more)| *s *= more);
    }
    Ok(scale.iter().any(|s| *s != 1.0).then_some(scale))
}
