//! Weights that are mostly zeros, as `sparse_initializer`: their other numbers and where these stand, 12 bytes for each instead of 4 for
//! every one. That pays where more than two thirds are zero. onnxruntime makes them whole when it loads the file.
//!
//! Source: onnx.proto, `SparseTensorProto`: indices are 64-bit, counted in row-major order, rising.

use super::build::{int64s, tensor};
use formats::onnx::DataType;
use formats::onnx::proto::{SparseTensorProto, TensorProto};

/// What names and lengths of a second tensor take, about.
const OVERHEAD: usize = 64;

/// The sparse form of a tensor of floats with axes, where that is smaller.
pub(super) fn smaller(dense: &TensorProto) -> Option<SparseTensorProto> {
    let floats = dense.dtype().is_ok_and(|t| t == DataType::Float) && dense.dims.len() > 1;
    let bytes = dense.raw_data.as_ref().filter(|_| floats)?;
    // The bits of minus zero are no zeros.
    let held = || bytes.as_chunks::<4>().0.iter().enumerate().filter(|(_, x)| **x != [0; 4]);
    let count = held().count();
    if count == 0 || 12 * count + OVERHEAD >= bytes.len() {
        return None;
    }
    let indices: Vec<i64> = held().map(|(at, _)| at as i64).collect();
    let values = held().flat_map(|(_, x)| *x).collect();
    Some(SparseTensorProto {
        values: Some(tensor(dense.label(), DataType::Float, &[count], values)),
        indices: Some(int64s("", &[count], &indices)),
        dims: dense.dims.clone(),
    })
}
