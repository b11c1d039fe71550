//! Training of networks that name classes: batches of augmented samples, live batch norms, losses against labels and against a
//! teacher's logits and features.
//!
//! A run is cut where the losses look: behind each chosen feature and at the logits (before a softmax that ends the network).
//! Forward goes from cut to cut and keeps a tape for each; backward goes the other way and adds what each loss says.

use crate::augment::{Augment, Augmented};
use crate::fading::Fading;
use crate::learner::{Learner, State, Unfit};
use crate::loss::{self, Target};
use crate::masking::{Masking, Masks};
use crate::optimizer::Rule;
use crate::order::Order;
use crate::{Schedule, StepReport, straight};
use exec::{BatchStatistics, Data, Examples, Executor, Intake, Options, Tape, Tensor, Values};
use graph::{Graph, Grid, Model, Op, Patch, ValueId, Weight, WeightId, WeightStore};
use std::collections::BTreeMap;
use std::ops::Range;

/// How a network is trained.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkSettings {
    /// Learning rate by step.
    pub schedule: Schedule,
    /// Samples of a step.
    pub batch: usize,
    /// How gradients become steps.
    pub rule: Rule,
    /// What is done to images.
    pub augment: Augment,
    /// What logits are to become.
    pub target: Target,
    /// Values that should be the teacher's, by name: as they are where both have the same channels, else their attention maps.
    pub features: Vec<String>,
    /// What the loss of each counts.
    pub feature_weight: f64,
    /// What is to become small.
    pub fading: Option<Fading>,
    /// What is to become zero.
    pub masking: Option<Masking>,
    /// Whether steps of quantization learn, too (LSQ).
    pub learn_steps: bool,
    /// Seed of orders and of augmentation.
    pub seed: u64,
}

/// Why a network could not be trained.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum TrainError {
    #[error(transparent)]
    Run(#[from] exec::Error),
    #[error(transparent)]
    Weight(#[from] graph::SourceError),
    #[error(transparent)]
    Graph(#[from] graph::GraphError),
    #[error("{samples} samples do not fill a batch of {batch}")]
    Few { samples: usize, batch: usize },
    #[error("the network takes batches of {0} alone; export it with an open first axis to train it")]
    FixedBatch(usize),
    #[error("its first output `{0}` is no row of scores for each sample")]
    NoClasses(String),
    #[error("{0} has no labels, and there is no teacher to learn from alone")]
    NoLabels(String),
    #[error("sample {index} has the label {label}, the network tells {classes} classes apart")]
    Label { index: usize, label: u32, classes: usize },
    #[error("no value is called `{0}`; features are named as in the file")]
    NoFeature(String),
    #[error(
        "value `{0}` is no image `[batch, channels, height, width]` of more than one point, so it has no attention map"
    )]
    NoMap(String),
    #[error("the teacher gives {teacher} scores, the network {network}")]
    Teacher { teacher: usize, network: usize },
}

/// Where a graph is cut, and the value at each cut: features in running order, logits last.
struct Cuts {
    ranges: Vec<Range<usize>>,
    values: Vec<ValueId>,
    classes: usize,
}

impl Cuts {
    fn of(graph: &Graph, features: &[String]) -> Result<Cuts, TrainError> {
        let output = *graph.outputs().first().ok_or(exec::Error::NoEnds { inputs: 1, outputs: 0 })?;
        let maker = |value: ValueId| graph.nodes().iter().position(|n| n.outputs.contains(&value));
        // Losses take logits: a softmax at the end is left out.
        let logits = match maker(output).map(|at| &graph.nodes()[at]) {
            Some(node) if matches!(node.op, Op::Softmax(_)) => node.inputs[0],
            _ => output,
        };
        let name = |id: ValueId| graph.values()[id.0].name.clone();
        let lengths =
            |id: ValueId| graph.values()[id.0].shape.iter().skip(1).map(|d| d.fixed()).collect::<Option<Vec<_>>>();
        let classes = match lengths(logits).as_deref() {
            Some([classes, rest @ ..]) if rest.iter().all(|n| *n == 1) => *classes,
            _ => return Err(TrainError::NoClasses(name(logits))),
        };
        let mut cuts = BTreeMap::new();
        for feature in features {
            let found = graph.values().iter().position(|v| v.name == *feature).map(ValueId);
            let value = found.ok_or_else(|| TrainError::NoFeature(feature.clone()))?;
            let at = maker(value).ok_or_else(|| TrainError::NoFeature(feature.clone()))?;
            match lengths(value).as_deref() {
                Some([_, plane @ ..]) if plane.iter().product::<usize>() > 1 => cuts.insert(at + 1, value),
                _ => return Err(TrainError::NoMap(feature.clone())),
            };
        }
        cuts.insert(maker(logits).map_or(0, |at| at + 1), logits);
        let ends: Vec<usize> = cuts.keys().copied().collect();
        let ranges = ends.iter().scan(0, |from, end| Some(std::mem::replace(from, *end)..*end)).collect();
        Ok(Cuts { ranges, values: cuts.into_values().collect(), classes })
    }
}

/// A network to learn from.
struct Teacher {
    executor: Executor,
    cuts: Cuts,
}

impl Teacher {
    /// What the teacher makes of a batch at each cut.
    fn look(&mut self, input: Data) -> Result<Vec<Data>, TrainError> {
        let mut values = self.executor.inputs(vec![input])?;
        let mut seen = Vec::new();
        for (range, value) in self.cuts.ranges.iter().zip(&self.cuts.values) {
            values = self.executor.run_range(range.clone(), values)?;
            seen.extend(values.get(value).cloned());
        }
        Ok(seen)
    }
}

/// A network in training.
pub struct NetworkTrainer {
    learner: Learner,
    intake: Intake,
    cuts: Cuts,
    teacher: Option<Teacher>,
    order: Order,
    settings: NetworkSettings,
}

impl NetworkTrainer {
    /// Starts from the weights of a model; learns from a teacher where one is given.
    pub fn new(
        model: (&Graph, &WeightStore),
        teacher: Option<(&Graph, &WeightStore)>,
        samples: &dyn Examples,
        settings: NetworkSettings,
    ) -> Result<NetworkTrainer, TrainError> {
        let (graph, store) = model;
        let intake = Intake::of(graph)?;
        if let Some(batch) = intake.batch {
            return Err(TrainError::FixedBatch(batch));
        }
        let features = if teacher.is_some() { &settings.features[..] } else { &[] };
        let cuts = Cuts::of(graph, features)?;
        check_labels(samples, cuts.classes, teacher.is_some())?;
        let teacher = teacher.map(|(graph, store)| teach(graph, store, features, cuts.classes)).transpose()?;
        let few = TrainError::Few { samples: samples.len(), batch: settings.batch };
        let order = Order::new(samples.len(), settings.batch, settings.seed).ok_or(few)?;
        let mut learner = Learner::new(graph, store, settings.rule, settings.learn_steps)?;
        learner.executor.set_batch_statistics(BatchStatistics::Live { momentum: None });
        let masking = settings.masking.clone().map(|masking| (masking, settings.schedule.steps));
        learner.masks = Masks::of(&mut learner.executor, store, masking)?;
        let fixed = constants(graph, store, settings.learn_steps);
        learner.executor.train_only(|id| !fixed[id.0]);
        Ok(NetworkTrainer { learner, intake, cuts, teacher, order, settings })
    }

    /// Steps done.
    pub fn steps_done(&self) -> usize {
        self.learner.step
    }

    /// How many numbers were zero in sparse matrices, and stay so.
    pub fn zeros_held(&self) -> usize {
        self.learner.masks.held()
    }

    /// Steps of an epoch.
    pub fn steps_of_epoch(&self) -> usize {
        self.order.steps()
    }

    /// One step over the samples that its number stands for; also says which share of them the network had right.
    pub fn step(&mut self, samples: &dyn Examples) -> Result<(StepReport, f64), TrainError> {
        let (epoch, indices) = self.order.step(self.learner.step);
        let settings = &self.settings;
        let augmented = Augmented { samples, augment: settings.augment, seed: settings.seed, epoch };
        let input = self.intake.batch(&augmented, indices)?;
        let labels = samples.labels();
        let labels: Vec<_> = indices.iter().map(|i| labels.and_then(|l| l.get(*i).copied())).collect();
        let theirs = self.teacher.as_mut().map(|t| t.look(input.clone())).transpose()?;
        self.learner.grads.zero();
        let (loss, hits) = self.run(input, &labels, theirs.as_deref())?;
        if let Some(fading) = &self.settings.fading {
            let penalty = fading.penalty(self.learner.step, self.settings.schedule.steps);
            fading.add(penalty, &mut self.learner.executor, &mut self.learner.grads)?;
        }
        let rate = self.settings.schedule.rate(self.learner.step);
        let grad_norm = self.learner.descend(1.0, rate)?;
        Ok((StepReport { step: self.learner.step, loss, grad_norm, rate }, hits as f64 / labels.len() as f64))
    }

    /// Forward from cut to cut, and back; returns the mean loss and how many samples were right.
    fn run(
        &mut self,
        input: Data,
        labels: &[Option<u32>],
        teacher: Option<&[Data]>,
    ) -> Result<(f64, usize), TrainError> {
        let executor = &mut self.learner.executor;
        let mut values = executor.inputs(vec![input])?;
        let (mut tapes, mut seen): (Vec<Tape>, Vec<Data>) = (Vec::new(), Vec::new());
        for (range, value) in self.cuts.ranges.iter().zip(&self.cuts.values) {
            let (next, tape) = executor.run_range_taped(range.clone(), values)?;
            seen.extend(next.get(value).cloned());
            values = next;
            tapes.push(tape);
        }
        executor.recycle(values);
        let (mut total, mut hits, mut grads) = (0.0, 0, BTreeMap::<ValueId, Tensor>::new());
        for at in (0..tapes.len()).rev() {
            let (own, theirs) = (float(&seen[at])?, teacher.map(|t| float(&t[at])).transpose()?);
            if at + 1 == seen.len() {
                let (grad, loss, right) = self.logits_loss(own, labels, theirs)?;
                (total, hits) = (total + loss, right);
                grads.insert(self.cuts.values[at], grad);
            } else if let Some(theirs) = theirs {
                total += self.feature_loss(own, theirs, self.cuts.values[at], &mut grads)?;
            }
            let tape = std::mem::take(&mut tapes[at]);
            grads = self.back(self.cuts.ranges[at].clone(), tape, grads)?;
        }
        Ok((total, hits))
    }

    /// Backward through one range; gradients that pass it by are kept.
    fn back(
        &mut self,
        range: Range<usize>,
        tape: Tape,
        grads: BTreeMap<ValueId, Tensor>,
    ) -> Result<BTreeMap<ValueId, Tensor>, TrainError> {
        let executor = &mut self.learner.executor;
        let (graph, inputs) = (executor.graph(), executor.inputs_of(&range));
        let made: Vec<ValueId> = graph.nodes()[range.clone()].iter().flat_map(|n| n.outputs.clone()).collect();
        let flows = |id: &ValueId| !graph.inputs().contains(id);
        let asked: Vec<ValueId> =
            inputs.into_iter().filter(flows).chain(grads.keys().copied().filter(|id| !made.contains(id))).collect();
        Ok(executor.backward_range(range, tape, grads, &asked, &mut self.learner.grads)?)
    }

    fn logits_loss(
        &self,
        own: &Tensor,
        labels: &[Option<u32>],
        theirs: Option<&Tensor>,
    ) -> Result<(Tensor, f64, usize), TrainError> {
        let (classes, mut grad) = (self.cuts.classes, own.clone());
        let (mut total, mut hits, share) = (0.0, 0, 1.0 / labels.len() as f64);
        for (at, (row, label)) in grad.data_mut().chunks_exact_mut(classes).zip(labels).enumerate() {
            let best = row.iter().enumerate().fold(0, |best, (k, z)| if *z > row[best] { k } else { best });
            hits += usize::from(*label == Some(best as u32));
            let teacher = theirs.and_then(|t| t.data().get(at * classes..(at + 1) * classes));
            total += share * loss::row(row, *label, teacher, self.settings.target);
            row.iter_mut().for_each(|g| *g *= share as f32);
        }
        Ok((grad, total, hits))
    }

    fn feature_loss(
        &self,
        own: &Tensor,
        theirs: &Tensor,
        value: ValueId,
        grads: &mut BTreeMap<ValueId, Tensor>,
    ) -> Result<f64, TrainError> {
        let plane: usize = own.shape().iter().skip(2).product();
        let name = || TrainError::NoMap(self.learner.executor.graph().values()[value.0].name.clone());
        if own.shape().first() != theirs.shape().first() || own.shape().get(2..) != theirs.shape().get(2..) {
            return Err(name());
        }
        let (batch, alike) = (own.shape().first().copied().unwrap_or(1), own.shape() == theirs.shape());
        let zeros = Tensor::new(own.shape().to_vec(), vec![0.0; own.data().len()])?;
        let grad = grads.entry(value).or_insert(zeros);
        let sizes = [own, theirs].map(|t| t.data().len() / batch.max(1));
        let rows = own.data().chunks_exact(sizes[0]).zip(theirs.data().chunks_exact(sizes[1]));
        let weight = self.settings.feature_weight / batch as f64;
        let each = rows.zip(grad.data_mut().chunks_exact_mut(sizes[0]));
        let of = |((own, theirs), grad): ((&[f32], &[f32]), &mut [f32])| match alike {
            true => loss::hint(own, theirs, weight, grad),
            false => loss::attend(own, theirs, plane, weight, grad),
        };
        Ok(each.map(of).sum())
    }

    /// Everything that [`NetworkTrainer::restore`] needs, weight by weight.
    pub fn state(&mut self) -> Result<Vec<State>, TrainError> {
        Ok(self.learner.state()?)
    }

    /// Goes on from a checkpoint taken after `step` steps.
    pub fn restore(&mut self, step: usize, state: Vec<State>) -> Result<(), Unfit> {
        self.learner.restore(step, state)
    }

    /// What training changed in a model.
    pub fn patch(&mut self, model: &Model) -> Result<Patch, TrainError> {
        let grids = self.learner.grids()?;
        changes(&mut self.learner.executor, model, grids)
    }
}

fn teach(graph: &Graph, store: &WeightStore, features: &[String], classes: usize) -> Result<Teacher, TrainError> {
    let cuts = Cuts::of(graph, features)?;
    if cuts.classes != classes {
        return Err(TrainError::Teacher { teacher: cuts.classes, network: classes });
    }
    Ok(Teacher { executor: Executor::new(graph, store, Options::default())?, cuts })
}

fn float(data: &Data) -> Result<&Tensor, TrainError> {
    let missing = || exec::Error::Missing { value: "numbers".into() };
    Ok(data.float().map(AsRef::as_ref).ok_or_else(missing)?)
}

fn check_labels(samples: &dyn Examples, classes: usize, teacher: bool) -> Result<(), TrainError> {
    let Some(labels) = samples.labels() else {
        return if teacher { Ok(()) } else { Err(TrainError::NoLabels(samples.name())) };
    };
    match labels.iter().position(|label| *label as usize >= classes) {
        Some(index) => Err(TrainError::Label { index, label: labels[index], classes }),
        None => Ok(()),
    }
}

/// Weights that are part of the arithmetic, not learned: operands written into the network; scales of quantization, unless they are
/// asked to learn.
fn constants(graph: &Graph, store: &WeightStore, learn_steps: bool) -> Vec<bool> {
    let mut fixed = vec![false; store.len()];
    let is_fixed = |op: &Op| matches!(op, Op::Constant(_)) || matches!(op, Op::FakeQuant(_)) && !learn_steps;
    for node in graph.nodes().iter().filter(|n| is_fixed(&n.op)) {
        node.op.spec().weights().into_iter().for_each(|id| fixed[id.0] = true);
    }
    fixed
}

/// Weights of an executor that differ from a model's, as a change of the model. `grids`: those that training moved.
fn changes(executor: &mut Executor, model: &Model, grids: BTreeMap<WeightId, Grid>) -> Result<Patch, TrainError> {
    let mut patch = Patch::default();
    for (id, weight) in model.weights.iter() {
        let (old, mut now) = (weight.read()?, executor.weights_mut().full_mut(id)?.to_vec());
        let before = model.weights.grid(id).map(AsRef::as_ref);
        let grid = grids.get(&id).or(before);
        if let Some(moved) = grids.get(&id) {
            straight::round(moved, &weight.shape, &mut now);
        }
        if grid != before || old.iter().map(|x| x.to_bits()).ne(now.iter().map(|x| x.to_bits())) {
            let made = Weight::from_f32(&weight.name, weight.place, weight.shape.clone(), &now)?;
            patch = patch.encode(model, id, made.encoding, made.source);
            patch = grid.into_iter().fold(patch, |patch, grid| patch.grid(id, grid.clone()));
        }
    }
    Ok(patch)
}

/// Estimates the running statistics of all batch norms anew: the mean over batches of each batch's mean and variance, in
/// evaluation's arithmetic. What pruning and folding moved is measured again; nothing else changes. Returns how many norms there are.
///
/// Source: Izmailov et al. 2018, section 3.2 (`update_bn`).
pub fn reestimate(
    model: &mut Model,
    samples: &dyn Examples,
    batch: usize,
    batches: usize,
) -> Result<usize, TrainError> {
    let Some(graph) = model.graph() else { return Ok(0) };
    let norms = graph.nodes().iter().filter(|n| matches!(n.op, Op::BatchNorm(_))).count();
    let intake = Intake::of(graph)?;
    let mut executor = Executor::new(graph, &model.weights, Options::default())?;
    for (n, part) in spread(samples.len(), batch, batches).iter().enumerate() {
        executor.set_batch_statistics(BatchStatistics::Live { momentum: Some(n as f64 / (n + 1) as f64) });
        let values: Values = executor.inputs(vec![intake.batch(samples, part)?])?;
        let values = executor.run_range(executor.whole(), values)?;
        executor.recycle(values);
    }
    let patch = changes(&mut executor, model, BTreeMap::new())?;
    model.apply(patch)?;
    Ok(norms)
}

/// Batches whose samples are spread over the whole set, each over all of it: sets are often sorted by class, or joined from several.
fn spread(samples: usize, batch: usize, batches: usize) -> Vec<Vec<usize>> {
    let batch = batch.clamp(1, samples.max(1));
    let batches = batches.min(samples / batch);
    let place = |n: usize, at: usize| (at * batches + n) * samples / (batch * batches);
    (0..batches).map(|n| (0..batch).map(|at| place(n, at)).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::spread;

    #[test]
    fn batches_are_spread_over_the_set() {
        for (samples, batch, batches) in [(100, 10, 3), (100, 10, 50), (7, 10, 2), (0, 4, 2)] {
            let all = spread(samples, batch, batches);
            let mut seen = all.concat();
            let count = seen.len();
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen.len(), count, "none twice");
            assert_eq!(count, batch.min(samples) * batches.min(samples / batch.min(samples).max(1)));
            for part in all {
                assert!(part[0] < samples.div_ceil(part.len()) && part.iter().all(|at| *at < samples), "{part:?}");
            }
        }
    }
}
