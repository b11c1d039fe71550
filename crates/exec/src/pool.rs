//! Buffers that are used again: fresh pages cost more than the arithmetic of an element-wise op.

use crate::{Data, Tensor};
use kernels::Real;
use std::collections::HashMap;
use std::sync::Arc;

/// Free buffers by length. They keep old numbers: who takes one overwrites all of it.
pub(crate) struct Pool<R> {
    free: HashMap<usize, Vec<Vec<R>>>,
}

impl<R> Default for Pool<R> {
    fn default() -> Pool<R> {
        Pool { free: HashMap::new() }
    }
}

impl<R: Real> Pool<R> {
    /// A buffer of this length, its contents arbitrary.
    pub fn take(&mut self, len: usize) -> Vec<R> {
        self.free.get_mut(&len).and_then(Vec::pop).unwrap_or_else(|| vec![R::ZERO; len])
    }

    /// A tensor of this shape, its contents arbitrary.
    pub fn tensor(&mut self, shape: Vec<usize>) -> Tensor<R> {
        let data = self.take(shape.iter().product());
        Tensor::new(shape, data).expect("the buffer was taken for this shape")
    }

    /// A copy.
    pub fn copy(&mut self, tensor: &Tensor<R>) -> Tensor<R> {
        let mut copy = self.tensor(tensor.shape().to_vec());
        copy.data_mut().copy_from_slice(tensor.data());
        copy
    }

    /// Keeps a buffer for later.
    pub fn give(&mut self, buffer: Vec<R>) {
        self.free.entry(buffer.len()).or_default().push(buffer);
    }

    /// Keeps the buffer of a value for later, if nobody else holds it.
    pub fn recycle(&mut self, data: Data<R>) {
        if let Data::Float(tensor) = data {
            self.recycle_float(tensor);
        }
    }

    /// [`Pool::recycle`] of numbers.
    pub fn recycle_float(&mut self, tensor: Arc<Tensor<R>>) {
        if let Ok(tensor) = Arc::try_unwrap(tensor) {
            self.give(tensor.into_data());
        }
    }

    /// Frees every buffer.
    pub fn clear(&mut self) {
        self.free.clear();
    }
}
