//! A weight with a factor for each index of an axis, multiplied in when it is read.

use codec::{Dtype, Encoding};
use graph::{Model, Patch, Source, SourceError, Weight, WeightId};
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

/// See the module. Its bytes are f32.
struct Scaled {
    inner: Arc<Weight>,
    along: Along,
    factors: Arc<[f32]>,
    /// Added before, taken away after.
    offset: f32,
}

#[derive(Clone, Copy)]
enum Along {
    Rows,
    Columns,
}

/// A weight multiplied by a factor for each index of `axis`: `(w + offset) · f − offset`.
pub(crate) fn weight(inner: &Arc<Weight>, axis: usize, factors: Arc<[f32]>, offset: f32) -> Weight {
    debug_assert!(inner.shape.len() <= 2, "only vectors and matrices have partners");
    let along = if axis + 1 == inner.shape.len() { Along::Columns } else { Along::Rows };
    let source = Scaled { inner: inner.clone(), along, factors, offset };
    Weight { encoding: Encoding::Plain(Dtype::F32), source: Arc::new(source), ..Weight::clone(inner) }
}

/// The patch that does so.
pub(crate) fn patch(model: &Model, id: WeightId, axis: usize, factors: Arc<[f32]>, offset: f32) -> Patch {
    let Weight { encoding, source, .. } = weight(model.weights.get(id), axis, factors, offset);
    Patch::default().encode(model, id, encoding, source)
}

impl Source for Scaled {
    fn rows(&self, rows: Range<usize>) -> Result<Cow<'_, [u8]>, SourceError> {
        let mut data = self.inner.read_rows(rows.clone())?;
        let each = |x: &mut f32, f: f32| *x = (*x + self.offset) * f - self.offset;
        let width = self.inner.cols().max(1);
        for (n, row) in data.chunks_exact_mut(width).enumerate() {
            match self.along {
                Along::Columns => row.iter_mut().zip(&*self.factors).for_each(|(x, f)| each(x, *f)),
                Along::Rows => row.iter_mut().for_each(|x| each(x, self.factors[rows.start + n])),
            }
        }
        Ok(Cow::Owned(bytes(&data)))
    }

    fn parts(&self) -> Result<Vec<Cow<'_, [u8]>>, SourceError> {
        Ok(vec![self.rows(0..self.inner.rows())?])
    }

    fn release(&self, rows: Range<usize>) {
        self.inner.source.release(rows);
    }
}

/// Numbers as the bytes of an f32 weight.
pub(crate) fn bytes(data: &[f32]) -> Vec<u8> {
    data.iter().flat_map(|x| x.to_le_bytes()).collect()
}
