//! Buffers that are used again: fresh pages cost more than the arithmetic of an element-wise op.

use crate::{Data, Tensor};
use kernels::Real;
use std::collections::HashMap;
use std::sync::Arc;

/// Free buffers by length. They keep old numbers: who takes one overwrites all of it.
pub(crate) struct Pool<R> {
    of: HashMap<usize, Shelf<R>>,
}

/// Buffers of one length.
struct Shelf<R> {
    free: Vec<Vec<R>>,
    /// How many were taken and are not back. What comes in beyond them is somebody else's, as a network's inputs are: kept, it
    /// would pile up.
    out: usize,
}

impl<R> Default for Pool<R> {
    fn default() -> Pool<R> {
        Pool { of: HashMap::new() }
    }
}

impl<R: Real> Pool<R> {
    /// A buffer of this length, its contents arbitrary.
    pub fn take(&mut self, len: usize) -> Vec<R> {
        let shelf = self.of.entry(len).or_insert_with(|| Shelf { free: Vec::new(), out: 0 });
        shelf.out += 1;
        shelf.free.pop().unwrap_or_else(|| vec![R::ZERO; len])
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
        if let Some(shelf) = self.of.get_mut(&buffer.len()).filter(|shelf| shelf.out > 0) {
            shelf.out -= 1;
            shelf.free.push(buffer);
        }
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
        self.of.values_mut().for_each(|shelf| shelf.free.clear());
    }
}

#[cfg(test)]
mod tests {
    use super::Pool;

    #[test]
    fn what_was_taken_comes_again_and_nothing_piles_up() {
        let mut pool = Pool::<f32>::default();
        let first = pool.take(4);
        let at = first.as_ptr();
        pool.give(first);
        let again = pool.take(4);
        assert_eq!(again.as_ptr(), at);
        (0..10).for_each(|_| pool.give(vec![0.0; 4]));
        (0..10).for_each(|_| pool.give(vec![0.0; 5]));
        assert_eq!(pool.of.values().map(|shelf| shelf.free.len()).sum::<usize>(), 1, "as many as are out");
    }
}
