//! What a network learns from and is measured on: samples, one by one so that they can be shuffled and changed, and the class of
//! each where that is known.

use crate::{Data, Error, Tensor};
use graph::{Dim, Graph, Kind};
use rayon::prelude::*;

/// Why a sample could not be read.
pub type SampleError = Box<dyn std::error::Error + Send + Sync>;

/// A set of samples, in the shape and range that a network takes.
pub trait Examples: std::fmt::Debug + Sync {
    /// How many there are.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Of one sample.
    fn shape(&self) -> &[usize];

    /// Puts a sample into `out`, which has as many elements as the shape.
    fn read(&self, index: usize, out: &mut [f32]) -> Result<(), SampleError>;

    /// The class of each sample.
    fn labels(&self) -> Option<&[u32]>;

    /// What they are called, for the record.
    fn name(&self) -> String;
}

/// What a network with one input takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intake {
    /// Of one sample.
    pub shape: Vec<usize>,
    /// Samples of a run, where the network says how many there must be.
    pub batch: Option<usize>,
}

impl Intake {
    /// Of a graph with one input of numbers whose axes but the first have fixed lengths.
    pub fn of(graph: &Graph) -> Result<Intake, Error> {
        let [input] = graph.inputs() else {
            return Err(Error::Intake { why: format!("it has {} inputs", graph.inputs().len()) });
        };
        let value = &graph.values()[input.0];
        let open = || Error::Intake { why: format!("its input `{}` has axes of unknown length", value.name) };
        let [batch, shape @ ..] = &value.shape[..] else { return Err(open()) };
        if value.kind != Kind::Float {
            return Err(Error::Intake { why: format!("its input `{}` holds no numbers", value.name) });
        }
        let shape = shape.iter().map(|dim| dim.fixed()).collect::<Option<Vec<_>>>().ok_or_else(open)?;
        Ok(Intake { shape, batch: if let Dim::Fixed(batch) = batch { Some(*batch) } else { None } })
    }

    /// Samples as one input, read on all threads; a network of a fixed batch gets the last sample again until it is full.
    pub fn batch(&self, samples: &dyn Examples, indices: &[usize]) -> Result<Data, Error> {
        let count = self.batch.unwrap_or(indices.len()).max(indices.len());
        let size: usize = self.shape.iter().product();
        let mut data = vec![0.0; count * size];
        data.par_chunks_mut(size.max(1)).enumerate().try_for_each(|(at, out)| {
            let Some(index) = indices.get(at).or(indices.last()) else { return Ok(()) };
            samples.read(*index, out).map_err(|source| Error::Sample { index: *index, source })
        })?;
        let shape = [&[count], &self.shape[..]].concat();
        Ok(Tensor::new(shape, data)?.into())
    }
}
