//! Quantizing a model block by block, each from what the blocks before it really produce.
//!
//! A [`Lane`] runs over the calibration text: the model as far as it is compressed (the original, in
//! [`Mode::WholeModel`]). A second lane, the original, runs beside it where a method wants to know how far the two have
//! drifted apart. In each run of nodes (a block, or what lies between two) the matrices are taken in stages: those that
//! read the same values go together, and see what the ones before them lost. The lanes stop before each stage; statistics
//! of what it reads are gathered, its matrices solved and put in place, and the lanes go on.
//!
//! Before that, transforms may choose scales for the channels of a run ([`Sequential::search`]). From then on the original
//! is the one with scaled channels, which computes the same: its matrices are what is to be encoded.
//!
//! Memory is one block, one batch, the statistics of one stage (in as many parts as the limit asks for), and what one
//! solver holds. The same windows give the same bytes at any number of threads, and whether or not a run was resumed.

use super::correct::correct;
use super::round;
use super::signround::{Example, learn};
use super::solver::{Problem, SolveError, needs, solver};
use super::stages::{Read, parts, stages};
use crate::partners::{Fold, Refusal, Site, folds};
use crate::transform::{Reader, Scaling, scaling};
use calib::{Depth, Inputs, Kept, Lane, LaneError};
use codec::packed::Range as Numbers;
use codec::{Encoding, Matrix, Part};
use exec::{Compute, Data, Tap, Tensor, Values};
use graph::ops::MoeExperts;
use graph::{Buffer, Dim, Graph, GraphError, Model, Op, Patch, Source, SourceError, ValueId, WeightId};
use kernels::{Bf16Path, bf16_path};
use plan::{Experts, Method, Mode, Transform};
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

impl Job {
    /// Plain rounding.
    pub fn round(weight: WeightId, encoding: Encoding) -> Job {
        Job { weight, encoding, method: Method::Round }
    }
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
    /// Which tokens experts learn from.
    pub experts: Experts,
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
    /// What statistics are of: the model that is being made, or the original.
    seen: Lane,
    /// The original, where the other lane's drift from it is wanted.
    original: Option<Lane>,
    options: Options<'a>,
}

impl<'a> Sequential<'a> {
    /// Begins with windows of calibration text, and a copy of the model in which all that needs no text is encoded. `jobs`:
    /// all weights that need it.
    pub fn new(
        source: &'a Model,
        model: Model,
        jobs: &[Job],
        windows: &[Vec<u32>],
        options: Options<'a>,
    ) -> Result<Sequential<'a>, SequentialError> {
        let (Some(graph), Some(config)) = (source.graph(), source.decoder()) else {
            return Err(SequentialError::NoGraph);
        };
        let drifts = jobs.iter().any(|job| needs(job.method) == Some(Depth::Drift));
        // What bf16 rounds away matters where two lanes are compared, not to a Hessian.
        let fast = bf16_path().path != Bf16Path::Portable && !drifts;
        let compute = if fast { Compute::Bf16 } else { Compute::F32 };
        let lane = |model: &Model| Lane::new(graph, &model.weights, config.vocab, windows, options.spill, compute);
        let (seen, original) = match options.mode {
            Mode::WholeModel => (lane(source)?, None),
            Mode::Sequential => (lane(&model)?, drifts.then(|| lane(source)).transpose()?),
        };
        Ok(Sequential { source: source.clone(), graph, model, seen, original, options })
    }

    /// Runs of nodes that cover the graph, in order.
    pub fn segments(&mut self) -> Vec<Range<usize>> {
        let executor = self.seen.executor();
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
        self.show_weights()
    }

    /// Shows the lanes the weights as they are now.
    fn show_weights(&mut self) -> Result<(), SequentialError> {
        let seen = if self.options.mode == Mode::Sequential { &self.model } else { &self.source };
        self.seen.set_weights(&seen.weights)?;
        let original = self.original.as_mut();
        Ok(original.map_or(Ok(()), |lane| lane.set_weights(&self.source.weights))?)
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
        let learns = self.learns(segment, jobs);
        let start = learns.then(|| self.seen.keep()).transpose().map_err(SequentialError::from)?;
        let mut unlearned = Vec::new();
        for stage in stages(&self.source, self.graph, segment, jobs, self.original.is_some()) {
            let nodes = stage.nodes.clone();
            self.advance(at..nodes.start)?;
            at = nodes.start;
            for part in parts(stage.reads, self.options.limit) {
                let known = self.gather(nodes.clone(), &part)?;
                for read in &part {
                    let inputs = known.get(&read.site);
                    for job in &read.jobs {
                        let solved = self.solve(job, inputs, read)?;
                        if start.is_some() && job.method == Method::SignRound {
                            self.place(&solved)?;
                            unlearned.push(solved);
                        } else {
                            self.install(job, keep(solved)?)?;
                        }
                    }
                }
            }
        }
        self.advance(at..segment.end)?;
        let Some(start) = start else { return Ok(()) };
        for solved in self.learn(segment, start, unlearned)? {
            let job = solved.job;
            self.install(&job, keep(solved)?)?;
        }
        Ok(())
    }

    /// Whether rounding is learned in a run of nodes: in blocks, where a job asks for it.
    fn learns(&self, segment: &Range<usize>, jobs: &[Job]) -> bool {
        let block = self.graph.blocks().iter().any(|block| block.nodes == *segment);
        block && jobs.iter().any(|job| job.method == Method::SignRound)
    }

    /// Learns the rounding of a block whose matrices are solved and behind which the lanes stand; the lane of the compressed
    /// model goes through it again.
    fn learn(
        &mut self,
        segment: &Range<usize>,
        mut start: Kept,
        mut solved: Vec<Solved>,
    ) -> Result<Vec<Solved>, SequentialError> {
        let count = self.seen.batches();
        let (seen, original) = (&mut self.seen, &mut self.original);
        let mut example = |batch: usize| {
            let wanted = original.as_mut().unwrap_or(&mut *seen).values(batch)?;
            Ok(Example { inputs: start.values(batch)?, wanted })
        };
        learn((&self.source, &self.model, self.graph), segment, &mut solved, count, &mut example)?;
        solved.iter().try_for_each(|solved| self.place(solved))?;
        if self.options.mode == Mode::Sequential {
            self.show_weights()?;
            self.seen.go_back(start);
            self.seen.advance(segment.clone())?;
        }
        Ok(solved)
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

    /// Puts an encoded weight in place until it is final.
    fn place(&mut self, solved: &Solved) -> Result<(), SequentialError> {
        let weight = self.source.weights.get(solved.job.weight);
        let source = Buffer::new(&weight.name[..], weight.rows(), solved.parts.clone());
        self.install(&solved.job, Arc::new(source))
    }

    /// Goes on behind a run of nodes whose weights are done.
    pub fn advance(&mut self, nodes: Range<usize>) -> Result<(), SequentialError> {
        // Nothing reads what the last nodes make.
        if nodes.is_empty() || nodes.end == self.graph.nodes().len() {
            return Ok(());
        }
        self.show_weights()?;
        let lanes = [Some(&mut self.seen), self.original.as_mut()].into_iter().flatten();
        Ok(lanes.into_iter().try_for_each(|lane| lane.advance(nodes.clone()))?)
    }

    /// Goes to a block without the ones before it, which it is as if they changed nothing: enough to try it out.
    pub fn jump(&mut self, block: &Range<usize>) -> Result<(), SequentialError> {
        let first = self.graph.blocks().first().map_or(block.clone(), |first| first.nodes.clone());
        for segment in self.segments().into_iter().filter(|s| s.end <= first.start) {
            self.advance(segment)?;
        }
        let input = |lane: &mut Lane, nodes: &Range<usize>| lane.executor().inputs_of(nodes).into_iter().next();
        for lane in [Some(&mut self.seen), self.original.as_mut()].into_iter().flatten() {
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
        let tokens = inputs.map_or(0, Inputs::tokens);
        let problem = Problem {
            name: &weight.name,
            matrix: Matrix { rows: weight.rows(), cols: weight.cols(), data: &data },
            encoding: job.encoding,
            inputs,
            whole: self.whole(job)?,
        };
        if tokens == 0 {
            return Ok(unseen(job, &problem)?);
        }
        let solver = solver(job.method).ok_or_else(|| problem.none(job.method))?;
        let solution = solver.solve(&problem)?;
        let few = (tokens < read.width as u64)
            .then(|| format!("only {tokens} tokens of the calibration text reached it, fewer than it has columns"));
        let notes = few.into_iter().chain(solution.notes).collect();
        Ok(Solved { job: *job, parts: solution.parts, tokens, notes })
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
        for batch in 0..self.seen.batches() {
            for (site, inputs) in &mut known {
                if let Site::Value(id) = site {
                    self.see(*id, batch, inputs)?;
                }
            }
            for turn in 0..if experts { self.turns(&nodes) } else { 0 } {
                let values = self.routed(&nodes, batch, turn)?;
                self.seen.look(nodes.clone(), values, &mut |tap| {
                    if let Tap::Expert { weight, rows, .. } = tap {
                        known.entry(Site::Expert(weight)).and_modify(|inputs| inputs.see(rows));
                    }
                })?;
            }
        }
        self.seen.end_block();
        Ok(known)
    }

    /// How often experts must run until each has seen the tokens that it learns from.
    fn turns(&self, nodes: &Range<usize>) -> usize {
        let turns = |(op, _, top_k): (&MoeExperts, ValueId, usize)| op.experts.len().div_ceil(top_k.max(1));
        match self.options.experts {
            Experts::Routed => 1,
            Experts::All => self.mixtures(nodes).map(turns).max().unwrap_or(1),
        }
    }

    /// The experts among some nodes, the value that says which of them tokens go to, and to how many each goes.
    fn mixtures(&self, nodes: &Range<usize>) -> impl Iterator<Item = (&MoeExperts, ValueId, usize)> {
        self.graph.nodes()[nodes.clone()].iter().filter_map(|node| {
            let Op::MoeExperts(op) = &node.op else { return None };
            let numbers = *node.inputs.get(2)?;
            let Some(Dim::Fixed(top_k)) = self.graph.values()[numbers.0].shape.last() else { return None };
            Some((op, numbers, *top_k))
        })
    }

    /// The values of a batch, its tokens going where the router sends them, or turn by turn to all experts.
    fn routed(&mut self, nodes: &Range<usize>, batch: usize, turn: usize) -> Result<Values<f32>, SequentialError> {
        let mut values = self.seen.values(batch)?;
        if self.options.experts == Experts::Routed {
            return Ok(values);
        }
        for (op, numbers, top_k) in self.mixtures(nodes) {
            let Some(Data::Index(routed)) = values.get_mut(&numbers) else { continue };
            let expert = |i: usize| ((turn * top_k + i % top_k) % op.experts.len()) as u32;
            let all = (0..routed.data().len()).map(expert).collect();
            *routed = Arc::new(Tensor::new(routed.shape().to_vec(), all).map_err(LaneError::from)?);
        }
        Ok(values)
    }

    /// Takes in the rows of a value in one batch.
    fn see(&mut self, id: ValueId, batch: usize, inputs: &mut Inputs) -> Result<(), SequentialError> {
        let rows = self.seen.value(batch, id)?;
        match self.original.as_mut().filter(|_| inputs.drift().is_some()) {
            Some(original) => inputs.see_pair(rows.data(), original.value(batch, id)?.data()),
            None => inputs.see(rows.data()),
        }
        Ok(())
    }

    /// Statistics of what is read anywhere in a run of nodes whose weights are not yet encoded.
    fn observe(&mut self, nodes: &Range<usize>, part: &[Read]) -> Result<BTreeMap<Site, Inputs>, SequentialError> {
        let graph = self.graph;
        let new = |read: &Read| (read.site, Inputs::new(read.width, read.depth));
        let mut known: BTreeMap<Site, Inputs> = part.iter().map(new).collect();
        for batch in 0..self.seen.batches() {
            let mut seen = BTreeSet::new();
            let values = self.seen.values(batch)?;
            self.seen.look(nodes.clone(), values, &mut |tap| match tap {
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
        self.seen.end_block();
        Ok(known)
    }
}

/// A matrix that no token reached, rounded.
fn unseen(job: &Job, problem: &Problem<'_>) -> Result<Solved, SolveError> {
    let parts = match problem.encoding {
        Encoding::Packed(packed) => packed.encode(problem.matrix, problem.whole),
        encoding => round::encode(&encoding, problem.matrix, None),
    };
    let note =
        "no token of the calibration text reached it: rounded; give more text, or let experts learn from all tokens";
    let job = Job::round(job.weight, job.encoding);
    Ok(Solved { job, parts: parts.map_err(|e| problem.codec(e))?, tokens: 0, notes: vec![note.into()] })
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
