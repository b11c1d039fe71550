//! Dense arrays, and what flows along the edges of a graph.

use crate::Error;
use graph::{Kind, ValueId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A row-major array.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor<T = f32> {
    shape: Vec<usize>,
    data: Vec<T>,
}

impl<T> Tensor<T> {
    /// `data` in the given shape, outermost dimension first. Fails where the counts differ.
    pub fn new(shape: Vec<usize>, data: Vec<T>) -> Result<Tensor<T>, Error> {
        if shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d)) != Some(data.len()) {
            return Err(Error::Shape { shape, got: data.len() });
        }
        Ok(Tensor { shape, data })
    }

    /// Outermost dimension first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements, row-major.
    pub fn data(&self) -> &[T] {
        &self.data
    }

    /// The elements, row-major, to change.
    pub fn data_mut(&mut self) -> &mut [T] {
        &mut self.data
    }

    /// The elements, without the shape.
    pub fn into_data(self) -> Vec<T> {
        self.data
    }

    /// Length of a row: the last dimension.
    pub fn width(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Product of all dimensions but the last.
    pub fn rows(&self) -> usize {
        self.shape.split_last().map_or(1, |(_, outer)| outer.iter().product())
    }

    /// The shape with another last dimension.
    pub(crate) fn shape_with_width(&self, width: usize) -> Vec<usize> {
        let mut shape = self.shape.clone();
        if let Some(last) = shape.last_mut() {
            *last = width;
        }
        shape
    }
}

impl Tensor<u32> {
    /// Token ids of `batch` sequences of one length, one after the other: `[batch, tokens]`.
    pub fn ids(batch: usize, ids: Vec<u32>) -> Result<Tensor<u32>, Error> {
        let tokens = ids.len().checked_div(batch).unwrap_or(0);
        Tensor::new(vec![batch, tokens], ids)
    }
}

/// What flows along an edge; cheap to clone.
#[derive(Debug)]
pub enum Data<R = f32> {
    /// Real numbers.
    Float(Arc<Tensor<R>>),
    /// Token ids, expert numbers.
    Index(Arc<Tensor<u32>>),
}

impl<R> Clone for Data<R> {
    fn clone(&self) -> Data<R> {
        match self {
            Data::Float(tensor) => Data::Float(tensor.clone()),
            Data::Index(tensor) => Data::Index(tensor.clone()),
        }
    }
}

impl<R> Data<R> {
    /// Outermost dimension first.
    pub fn shape(&self) -> &[usize] {
        match self {
            Data::Float(tensor) => tensor.shape(),
            Data::Index(tensor) => tensor.shape(),
        }
    }

    /// Which of the two it is.
    pub fn kind(&self) -> Kind {
        match self {
            Data::Float(_) => Kind::Float,
            Data::Index(_) => Kind::Index,
        }
    }

    /// The numbers, unless it holds indices.
    pub fn float(&self) -> Option<&Arc<Tensor<R>>> {
        match self {
            Data::Float(tensor) => Some(tensor),
            Data::Index(_) => None,
        }
    }

    /// The indices, unless it holds numbers.
    pub fn index(&self) -> Option<&Arc<Tensor<u32>>> {
        match self {
            Data::Float(_) => None,
            Data::Index(tensor) => Some(tensor),
        }
    }
}

impl<R> From<Tensor<R>> for Data<R> {
    fn from(tensor: Tensor<R>) -> Data<R> {
        Data::Float(Arc::new(tensor))
    }
}

/// Values by id: what goes into a run of nodes, and what comes out of it.
pub type Values<R = f32> = BTreeMap<ValueId, Data<R>>;
