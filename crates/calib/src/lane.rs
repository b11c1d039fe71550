//! A model that runs over all calibration text, or samples, at once, block by block.
//!
//! A [`Lane`] holds, for every batch of windows, the values between two runs of nodes. It reads each block's weights
//! once for all batches, so memory is one block, one batch, and what waits; and what waits may wait in a file.

use crate::Samples;
use exec::{Compute, Data, Executor, Residency, Tap, Tensor, Values};
use graph::{Graph, ValueId, WeightStore};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why calibration text could not be run.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum LaneError {
    #[error(transparent)]
    Run(#[from] exec::Error),
    #[error("values of the calibration text could not be kept in a temporary file: {0}; free disk space")]
    Spill(#[from] std::io::Error),
    #[error("token {id} is not in the model's vocabulary of {vocab}; the text was tokenized for another model")]
    Id { id: u32, vocab: usize },
    #[error("windows of calibration text must be of one length; one of {got} tokens is among those of {expected}")]
    Ragged { expected: usize, got: usize },
    #[error("calibration samples: {0}")]
    Samples(Box<dyn std::error::Error + Send + Sync>),
    #[error("there is no calibration text")]
    Empty,
    #[error("value {id} was asked for where it does not wait for any node")]
    NotWaiting { id: usize },
}

/// Tokens that run together.
const BATCH_TOKENS: usize = 1024;

/// Windows of a length that run together.
pub fn windows_together(length: usize) -> usize {
    (BATCH_TOKENS / length.max(1)).max(1)
}

/// See the module.
pub struct Lane {
    executor: Executor<f32>,
    waiting: Vec<Waiting>,
    spill: Option<PathBuf>,
}

/// What waited at some point of a lane.
pub struct Kept(Vec<Waiting>);

impl Kept {
    /// The values of a batch.
    pub fn values(&mut self, batch: usize) -> Result<Values<f32>, LaneError> {
        self.0[batch].get()
    }
}

/// The values of a batch between two runs.
struct Waiting {
    here: Values<f32>,
    /// Where numbers wait instead, and which of them lie there, one after the other.
    file: Option<File>,
    filed: Vec<(ValueId, Vec<usize>)>,
}

impl Lane {
    /// Begins with the ids of windows of one length. `spill`: a folder for files that take what waits, or memory does.
    /// `compute`: the operands of products.
    pub fn new(
        graph: &Graph,
        weights: &WeightStore,
        vocab: usize,
        windows: &[Vec<u32>],
        spill: Option<&Path>,
        compute: Compute,
    ) -> Result<Lane, LaneError> {
        let length = check(windows, vocab)?;
        let options = exec::Options { compute, residency: Residency::Block };
        let mut executor = Executor::new(graph, weights, options)?;
        let together = windows_together(length);
        let start = |batch: &[Vec<u32>]| {
            let here = executor.start(&Tensor::ids(batch.len(), batch.concat())?)?;
            Ok(Waiting { here, ..Waiting::new(spill)? })
        };
        let waiting = windows.chunks(together).map(start).collect::<Result<_, LaneError>>()?;
        Ok(Lane { executor, waiting, spill: spill.map(Path::to_path_buf) })
    }

    /// Begins with what goes into a network, batch by batch; it waits in memory.
    pub fn of_samples(
        graph: &Graph,
        weights: &WeightStore,
        samples: &dyn Samples,
        batches: Vec<Range<usize>>,
    ) -> Result<Lane, LaneError> {
        let mut executor = Executor::new(graph, weights, exec::Options::default())?;
        let start = |range| {
            let inputs = samples.batch(range).map_err(LaneError::Samples)?.inputs;
            Ok(Waiting { here: executor.inputs(inputs)?, ..Waiting::new(None)? })
        };
        let waiting = batches.into_iter().map(start).collect::<Result<_, LaneError>>()?;
        Ok(Lane { executor, waiting, spill: None })
    }

    /// How many batches there are.
    pub fn batches(&self) -> usize {
        self.waiting.len()
    }

    /// What runs.
    pub fn executor(&mut self) -> &mut Executor<f32> {
        &mut self.executor
    }

    /// The values of a batch that wait for the next run.
    pub fn values(&mut self, batch: usize) -> Result<Values<f32>, LaneError> {
        self.waiting[batch].get()
    }

    /// The numbers of one value of a batch that wait for the next run.
    pub fn value(&mut self, batch: usize, id: ValueId) -> Result<Arc<Tensor>, LaneError> {
        let waiting = &mut self.waiting[batch];
        let value = match waiting.here.get(&id) {
            Some(data) => data.float().cloned(),
            None => waiting.read(id)?.map(Arc::new),
        };
        value.ok_or(LaneError::NotWaiting { id: id.0 })
    }

    /// Runs nodes on [values](Lane::values) of a batch, showing their inputs to `tap`, and forgets what comes out. Weights
    /// stay until [`Lane::end_block`].
    pub fn look(
        &mut self,
        range: Range<usize>,
        values: Values<f32>,
        tap: &mut dyn FnMut(Tap<'_>),
    ) -> Result<(), LaneError> {
        let out = self.executor.run_range_holding(range, values, Some(tap))?;
        self.executor.recycle(out);
        Ok(())
    }

    /// Runs nodes on every batch; what comes out waits in place of what went in. Ends the block.
    pub fn advance(&mut self, range: Range<usize>) -> Result<(), LaneError> {
        self.advance_seeing(range, &mut |_| ())
    }

    /// [`Lane::advance`] that shows the inputs of nodes to `tap`.
    pub fn advance_seeing(&mut self, range: Range<usize>, tap: &mut dyn FnMut(Tap<'_>)) -> Result<(), LaneError> {
        for waiting in &mut self.waiting {
            let values = waiting.take()?;
            let out = self.executor.run_range_holding(range.clone(), values, Some(&mut *tap))?;
            waiting.put(out)?;
        }
        self.end_block();
        Ok(())
    }

    /// Gives what waits another name: the output of one block becomes the input of any other.
    pub fn rename(&mut self, from: ValueId, to: ValueId) -> Result<(), LaneError> {
        for waiting in &mut self.waiting {
            let mut values = waiting.take()?;
            let value = values.remove(&from).ok_or(LaneError::NotWaiting { id: from.0 })?;
            waiting.put(Values::from([(to, value)]))?;
        }
        Ok(())
    }

    /// A copy of all that waits, in files of its own where values wait in files.
    pub fn keep(&mut self) -> Result<Kept, LaneError> {
        let copy = |waiting: &mut Waiting| {
            let mut copy = Waiting::new(self.spill.as_deref())?;
            copy.put(waiting.get()?)?;
            Ok(copy)
        };
        self.waiting.iter_mut().map(copy).collect::<Result<_, LaneError>>().map(Kept)
    }

    /// Goes back to where a copy was made.
    pub fn go_back(&mut self, kept: Kept) {
        self.waiting = kept.0;
    }

    /// Lets the weights of the block go.
    pub fn end_block(&mut self) {
        self.executor.end_block();
    }

    /// Takes other contents for the same weights.
    pub fn set_weights(&mut self, weights: &WeightStore) -> Result<(), LaneError> {
        Ok(self.executor.set_weights(weights)?)
    }
}

impl Waiting {
    fn new(spill: Option<&Path>) -> Result<Waiting, LaneError> {
        let file = spill.map(tempfile::tempfile_in).transpose()?;
        Ok(Waiting { here: Values::new(), file, filed: Vec::new() })
    }

    fn get(&mut self) -> Result<Values<f32>, LaneError> {
        let mut values = self.here.clone();
        for id in self.filed.iter().map(|(id, _)| *id).collect::<Vec<_>>() {
            values.extend(self.read(id)?.map(|tensor| (id, tensor.into())));
        }
        Ok(values)
    }

    /// Reads a value that waits in the file.
    fn read(&mut self, id: ValueId) -> Result<Option<Tensor>, LaneError> {
        let elements = |shape: &[usize]| shape.iter().product::<usize>();
        let Some(at) = self.filed.iter().position(|(filed, _)| *filed == id) else { return Ok(None) };
        let Some(file) = &mut self.file else { return Ok(None) };
        let before: usize = self.filed[..at].iter().map(|(_, shape)| elements(shape)).sum();
        let shape = self.filed[at].1.clone();
        let mut numbers = vec![0f32; elements(&shape)];
        file.seek(SeekFrom::Start(before as u64 * 4))?;
        file.read_exact(bytemuck::cast_slice_mut(&mut numbers))?;
        Ok(Some(Tensor::new(shape, numbers)?))
    }

    fn take(&mut self) -> Result<Values<f32>, LaneError> {
        let values = self.get()?;
        (self.here, self.filed) = (Values::new(), Vec::new());
        Ok(values)
    }

    /// Puts values away, numbers into the file where there is one.
    fn put(&mut self, values: Values<f32>) -> Result<(), LaneError> {
        let Some(file) = &mut self.file else {
            self.here = values;
            return Ok(());
        };
        file.rewind()?;
        for (id, data) in values {
            match data {
                Data::Float(tensor) => {
                    file.write_all(bytemuck::cast_slice(tensor.data()))?;
                    self.filed.push((id, tensor.shape().to_vec()));
                }
                index => drop(self.here.insert(id, index)),
            }
        }
        Ok(())
    }
}

/// The length of all windows. Fails where there is nothing to run, or not on this model.
fn check(windows: &[Vec<u32>], vocab: usize) -> Result<usize, LaneError> {
    let length = windows.first().map(Vec::len).filter(|n| *n > 0).ok_or(LaneError::Empty)?;
    if let Some(other) = windows.iter().find(|w| w.len() != length) {
        return Err(LaneError::Ragged { expected: length, got: other.len() });
    }
    match windows.iter().flatten().find(|id| **id as usize >= vocab) {
        Some(id) => Err(LaneError::Id { id: *id, vocab }),
        None => Ok(length),
    }
}
