//! Random inputs, for checks that need no data: standard normal numbers (Box and Muller), a function of seed and position.

use crate::generate::uniform;
use crate::{Data, Error, Tensor};
use graph::{Kind, Size, Value};

/// Numbers, or zeros for ids, in the shape that a value has at a size.
pub fn random(value: &Value, size: Size, seed: u64) -> Result<Data, Error> {
    let shape: Vec<usize> = value.shape.iter().map(|d| size.of(*d)).collect();
    let count = shape.iter().product::<usize>();
    if value.kind == Kind::Index {
        return Ok(Data::Index(Tensor::new(shape, vec![0; count])?.into()));
    }
    Ok(Tensor::new(shape, (0..count as u64).map(|i| normal(seed, i)).collect())?.into())
}

fn normal(seed: u64, position: u64) -> f32 {
    let radius = (-2.0 * (1.0 - uniform(seed, 2 * position)).ln()).sqrt();
    (radius * (std::f64::consts::TAU * uniform(seed, 2 * position + 1)).cos()) as f32
}
