//! Finds numbers that are not numbers. Nothing that is computed from such a weight means anything.

use crate::Problem;
use graph::{Model, SourceError, Weight};
use rayon::prelude::*;
use std::path::Path;

/// Elements read at once.
const CHUNK: usize = 1 << 20;

/// Reads every weight once, in pieces, and lists those that hold NaN or infinity or cannot be read. `file` is blamed.
pub fn check_finite(model: &Model, file: &Path) -> Vec<Problem> {
    let weights: Vec<_> = model.weights.iter().map(|(_, weight)| weight).collect();
    let wrong = weights.par_iter().filter_map(|weight| {
        let why = match first_not_finite(weight) {
            Ok(None) => return None,
            Ok(Some((row, column, value))) => {
                format!(
                    "row {row}, column {column} is {value}; the file is damaged or its training diverged, give another"
                )
            }
            Err(e) => e.to_string(),
        };
        Some(Problem::Tensor { file: file.to_owned(), tensor: weight.name.clone(), why })
    });
    wrong.collect()
}

fn first_not_finite(weight: &Weight) -> Result<Option<(usize, usize, f32)>, SourceError> {
    let (rows, cols) = (weight.rows(), weight.cols().max(1));
    let step = (CHUNK / cols).max(1);
    for start in (0..rows).step_by(step) {
        let range = start..rows.min(start + step);
        let data = weight.read_rows(range.clone())?;
        weight.source.release(range);
        if let Some((i, value)) = data.iter().enumerate().find(|(_, v)| !v.is_finite()) {
            return Ok(Some((start + i / cols, i % cols, *value)));
        }
    }
    Ok(None)
}
