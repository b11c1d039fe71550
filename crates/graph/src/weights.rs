//! The weights, by name: shape, encoding, place, and a lazy source.

use crate::{Buffer, Grid, Place, Role, RunQuant, Source, SourceError};
use codec::{Dtype, Encoding, Matrix, Part};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// Points into a [`WeightStore`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WeightId(pub usize);

/// One weight. Reading it decodes; nothing is kept.
#[derive(Clone)]
pub struct Weight {
    /// The name it has in its Hugging Face checkpoint, or in the file it came from.
    pub name: String,
    /// What it is for.
    pub place: Place,
    /// Outermost dimension first: `[out, in]` of a linear layer.
    pub shape: Vec<usize>,
    /// How its bytes lie.
    pub encoding: Encoding,
    /// Where its bytes are.
    pub source: Arc<dyn Source>,
}

impl Weight {
    /// A weight of `f32` numbers held in memory.
    pub fn from_f32(name: &str, place: Place, shape: Vec<usize>, data: &[f32]) -> Result<Weight, SourceError> {
        let encoding = Encoding::Plain(Dtype::F32);
        let cols = shape.last().copied().unwrap_or(1);
        let rows = data.len() / cols.max(1);
        let parts = encoding
            .encode(Matrix { rows, cols, data }, None)
            .map_err(|source| SourceError::Codec { name: name.into(), source })?;
        let source = Arc::new(Buffer::new(name, rows, parts));
        Ok(Weight { name: name.into(), place, shape, encoding, source })
    }

    /// Length of a row: the last dimension.
    pub fn cols(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Product of all dimensions but the last.
    pub fn rows(&self) -> usize {
        self.shape.split_last().map_or(1, |(_, outer)| outer.iter().product())
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes in its encoding, scales counted.
    pub fn bytes(&self) -> Result<usize, SourceError> {
        self.encoding.bytes(self.rows(), self.cols()).map_err(|e| self.codec_error(e))
    }

    /// Decodes rows.
    pub fn read_rows(&self, rows: Range<usize>) -> Result<Vec<f32>, SourceError> {
        if matches!(self.encoding, Encoding::Packed(_)) {
            let all = self.read()?;
            let cols = self.cols();
            return all.get(rows.start * cols..rows.end * cols).map(<[f32]>::to_vec).ok_or_else(|| SourceError::Rows {
                name: self.name.clone(),
                start: rows.start,
                end: rows.end,
                rows: self.rows(),
            });
        }
        let bytes = self.source.rows(rows.clone())?;
        self.encoding.decode(rows.len(), self.cols(), |_| Some(&bytes[..])).map_err(|e| self.codec_error(e))
    }

    /// Its bytes as they lie, part by part: of one that is encoded when it is read, as they will lie.
    pub fn parts(&self) -> Result<Vec<Part>, SourceError> {
        let specs = self.encoding.parts(self.rows(), self.cols()).map_err(|e| self.codec_error(e))?;
        let bytes = self.source.parts()?;
        Ok(specs.into_iter().zip(bytes).map(|(spec, bytes)| Part { spec, bytes: bytes.into_owned() }).collect())
    }

    /// Decodes the whole weight, row-major.
    pub fn read(&self) -> Result<Vec<f32>, SourceError> {
        let specs = self.encoding.parts(self.rows(), self.cols()).map_err(|e| self.codec_error(e))?;
        let parts = self.source.parts()?;
        let find = |suffix: &str| specs.iter().position(|s| s.suffix == suffix).and_then(|i| parts.get(i));
        self.encoding
            .decode(self.rows(), self.cols(), |suffix| find(suffix).map(|p| &p[..]))
            .map_err(|e| self.codec_error(e))
    }

    fn codec_error(&self, source: codec::CodecError) -> SourceError {
        SourceError::Codec { name: self.name.clone(), source }
    }
}

/// All weights of a model.
#[derive(Clone, Default)]
pub struct WeightStore {
    weights: Vec<Arc<Weight>>,
    by_name: HashMap<String, WeightId>,
    by_place: HashMap<Place, WeightId>,
    grids: HashMap<WeightId, Arc<Grid>>,
    /// How inputs and the cache are quantized when the model runs.
    pub run: RunQuant,
}

impl WeightStore {
    /// Adds a weight; a second one of the same name replaces the first and keeps its id.
    pub fn insert(&mut self, weight: Weight) -> WeightId {
        let next = WeightId(self.weights.len());
        let place = weight.place;
        let id = *self.by_name.entry(weight.name.clone()).or_insert(next);
        if id == next {
            self.weights.push(Arc::new(weight));
        } else {
            self.weights[id.0] = Arc::new(weight);
        }
        if place.role != Role::Other {
            self.by_place.entry(place).or_insert(id);
        }
        id
    }

    /// The weight behind an id of this store.
    pub fn get(&self, id: WeightId) -> &Arc<Weight> {
        &self.weights[id.0]
    }

    /// Looks a weight up by name.
    pub fn find(&self, name: &str) -> Option<WeightId> {
        self.by_name.get(name).copied()
    }

    /// The first weight at a place.
    pub fn at(&self, place: Place) -> Option<WeightId> {
        self.by_place.get(&place).copied()
    }

    /// The weights that servers join with this one into one product ([`Role::fused`]), itself included.
    pub fn fused(&self, weight: &Weight) -> Vec<&Arc<Weight>> {
        let places = weight.place.role.fused().iter().map(|role| Place { role: *role, ..weight.place });
        places.filter_map(|place| self.at(place)).map(|id| self.get(id)).collect()
    }

    /// The grid that a weight's numbers lie on, where they do.
    pub fn grid(&self, id: WeightId) -> Option<&Arc<Grid>> {
        self.grids.get(&id)
    }

    /// Says that a weight's numbers lie on a grid, so that a writer may store them as codes.
    pub fn set_grid(&mut self, id: WeightId, grid: Grid) {
        self.grids.insert(id, Arc::new(grid));
    }

    /// Replaces a weight's contents; the name stays, a grid does not.
    pub fn replace(&mut self, id: WeightId, encoding: Encoding, shape: Vec<usize>, source: Arc<dyn Source>) {
        let old = &self.weights[id.0];
        let weight = Weight { name: old.name.clone(), place: old.place, shape, encoding, source };
        self.weights[id.0] = Arc::new(weight);
        self.grids.remove(&id);
    }

    /// Every weight with its id, in the order of insertion.
    pub fn iter(&self) -> impl Iterator<Item = (WeightId, &Arc<Weight>)> {
        self.weights.iter().enumerate().map(|(i, w)| (WeightId(i), w))
    }

    /// How many weights there are.
    pub fn len(&self) -> usize {
        self.weights.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.weights.is_empty()
    }
}
