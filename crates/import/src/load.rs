//! From the places of a decoder to weights: finds each tensor under its names, checks its shape, and cuts weights out
//! of stacked or fused tensors.

use crate::Problem;
use crate::decoder::places;
use codec::Encoding;
use graph::{DecoderConfig, PermutedRows, Place, RowSlice, Source, Weight, WeightStore};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

/// So many wrong tensors are listed at most.
const MAX_LISTED: usize = 32;

/// A model's tensors by the names they have in its files.
pub(crate) trait Tensors {
    /// A tensor of any encoding; its place is [`graph::Role::Other`]. `None` where there is none of this name.
    fn find(&self, name: &str) -> Option<Result<Weight, Problem>>;
    /// Every name.
    fn names(&self) -> Vec<&str>;
    /// The file to blame for a tensor that is, or should be, there.
    fn file(&self, name: &str) -> PathBuf;
}

/// Where a weight may be found.
pub(crate) struct Location {
    /// The tensor that it is, or is part of.
    pub tensor: String,
    /// The shape that this tensor must have.
    pub shape: Vec<usize>,
    /// How to get the weight out of it.
    pub cut: Cut,
    /// What the weight is then called.
    pub name: String,
}

/// How a weight comes out of a tensor.
pub(crate) enum Cut {
    /// It is the tensor.
    Whole,
    /// It is as many rows as it has, from this one, counted over all dimensions but the last.
    From(usize),
    /// It is the tensor with the rows of each head put apart again: those that form a rotary pair are neighbours there.
    Apart { head_dim: usize },
}

/// What the decoder is made of, and what else the files hold.
pub(crate) struct Loaded {
    /// The weights in their places, layer by layer.
    pub weights: WeightStore,
    /// Tensors that no place asked for.
    pub rest: Vec<String>,
}

/// Gets every weight of a decoder. `locate` says where it may be, the likeliest first.
pub(crate) fn load(
    tensors: &dyn Tensors,
    config: &DecoderConfig,
    locate: impl Fn(Place, &[usize]) -> Vec<Location>,
) -> Result<Loaded, Vec<Problem>> {
    let mut found = Found { tensors, seen: HashMap::new() };
    let (mut weights, mut problems) = (WeightStore::default(), vec![]);
    for (place, shape) in places(config) {
        match found.weight(place, &shape, locate(place, &shape)) {
            Ok(weight) => drop(weights.insert(weight)),
            Err(problem) if problems.len() < MAX_LISTED => problems.push(problem),
            Err(_) => {
                problems.push(Problem::More { file: tensors.file(""), listed: MAX_LISTED });
                break;
            }
        }
    }
    let rest = tensors.names().into_iter().filter(|n| !found.seen.contains_key(*n)).map(str::to_owned).collect();
    if problems.is_empty() { Ok(Loaded { weights, rest }) } else { Err(problems) }
}

/// Takes tensors outside the decoder along, and says so. One inside it (its name starts with `layers`) that the config
/// has no place for is a contradiction.
pub(crate) fn carry(
    tensors: &dyn Tensors,
    rest: Vec<String>,
    layers: &str,
    to: &mut WeightStore,
) -> Result<Vec<String>, Vec<Problem>> {
    let inside = rest.iter().filter(|tensor| tensor.starts_with(layers)).take(MAX_LISTED);
    let unexpected = |tensor: &String| Problem::Unexpected { file: tensors.file(tensor), tensor: tensor.clone() };
    let problems: Vec<Problem> = inside.map(unexpected).collect();
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut notes = vec![];
    for tensor in rest {
        if let Some(weight) = tensors.find(&tensor) {
            to.insert(weight.map_err(|p| vec![p])?);
            notes.push(format!("`{tensor}` is outside the decoder: carried along, not run"));
        }
    }
    Ok(notes)
}

/// Every tensor by name and shape, where there is no decoder to put them in.
pub(crate) fn all(tensors: &dyn Tensors) -> Result<WeightStore, Vec<Problem>> {
    let (mut weights, mut problems) = (WeightStore::default(), vec![]);
    for found in tensors.names().into_iter().filter_map(|name| tensors.find(name)) {
        match found {
            Ok(weight) => drop(weights.insert(weight)),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(weights) } else { Err(problems) }
}

/// Tensors found so far, by name.
struct Found<'a> {
    tensors: &'a dyn Tensors,
    seen: HashMap<String, Arc<Weight>>,
}

impl Found<'_> {
    fn weight(&mut self, place: Place, shape: &[usize], locations: Vec<Location>) -> Result<Weight, Problem> {
        let usual = locations.first().map_or(String::new(), |l| l.tensor.clone());
        for location in locations {
            if let Some(tensor) = self.tensor(&location.tensor)? {
                self.check(&tensor, &location.shape)?;
                return self.cut(tensor, place, shape, location);
            }
        }
        Err(Problem::Missing { file: self.tensors.file(&usual), tensor: usual })
    }

    fn tensor(&mut self, name: &str) -> Result<Option<Arc<Weight>>, Problem> {
        if let Some(tensor) = self.seen.get(name) {
            return Ok(Some(tensor.clone()));
        }
        let Some(tensor) = self.tensors.find(name) else { return Ok(None) };
        let tensor = Arc::new(tensor?);
        self.seen.insert(name.to_owned(), tensor.clone());
        Ok(Some(tensor))
    }

    fn check(&self, tensor: &Weight, expected: &[usize]) -> Result<(), Problem> {
        let (file, name) = (self.tensors.file(&tensor.name), tensor.name.clone());
        if tensor.shape != expected {
            return Err(Problem::Shape { file, tensor: name, got: tensor.shape.clone(), expected: expected.to_vec() });
        }
        match tensor.encoding {
            Encoding::Plain(dtype) if !dtype.is_float() => {
                Err(Problem::NotNumbers { file, tensor: name, encoding: dtype.to_string() })
            }
            _ => Ok(()),
        }
    }

    fn cut(&self, tensor: Arc<Weight>, place: Place, shape: &[usize], location: Location) -> Result<Weight, Problem> {
        let (name, shape, encoding) = (location.name, shape.to_vec(), tensor.encoding);
        let source: Arc<dyn Source> = match location.cut {
            Cut::Whole => tensor.source.clone(),
            Cut::From(first) => {
                let rows = shape.split_last().map_or(1, |(_, outer)| outer.iter().product());
                Arc::new(RowSlice::new(tensor, first, rows))
            }
            Cut::Apart { head_dim } => {
                let order = apart(shape.first().copied().unwrap_or_default(), head_dim);
                if place.bias {
                    return self.ordered_bias(&tensor, place, name, &order);
                }
                Arc::new(PermutedRows::new(tensor, order))
            }
        };
        Ok(Weight { name, place, shape, encoding, source })
    }

    /// A bias has one row, so its numbers are put in order one by one, now.
    fn ordered_bias(&self, tensor: &Weight, place: Place, name: String, order: &[usize]) -> Result<Weight, Problem> {
        let read = || {
            let data = tensor.read()?;
            let ordered: Vec<f32> = order.iter().filter_map(|i| data.get(*i).copied()).collect();
            Weight::from_f32(&name, place, tensor.shape.clone(), &ordered)
        };
        let file = self.tensors.file(&tensor.name);
        read().map_err(|e| Problem::Tensor { file, tensor: tensor.name.clone(), why: e.to_string() })
    }
}

/// Which row of the file each row of a checkpoint is: channels that form a rotary pair are neighbours in the file, and
/// half a head apart in a checkpoint. Heads have an even number of channels.
fn apart(rows: usize, head_dim: usize) -> Vec<usize> {
    let stored = |row: usize| {
        let (head, channel) = (row / head_dim, row % head_dim);
        head * head_dim + channel % (head_dim / 2) * 2 + channel / (head_dim / 2)
    };
    (0..rows).map(stored).collect()
}
