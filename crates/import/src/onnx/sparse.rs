//! Sparse initialisers made whole: their numbers, and zeros between them.

use formats::onnx::proto::{SparseTensorProto, TensorProto};
use formats::onnx::{Onnx, integers};

/// Bytes that may be made of each byte of the file, beyond what is little anyway.
const SPREAD: usize = 1024;
const LITTLE: usize = 1 << 20;

/// The tensor that a sparse one stands for; `None` where its parts do not fit each other.
pub(super) fn whole(file: &Onnx, sparse: &SparseTensorProto) -> Option<TensorProto> {
    let (values, indices) = (sparse.values.as_ref()?, sparse.indices.as_ref()?);
    let dtype = values.dtype().ok().filter(|t| t.bits() >= 8)?;
    let (numbers, size) = (file.bytes(values).ok()?, dtype.bits() / 8);
    let dims = sparse.dims.iter().map(|d| usize::try_from(*d).ok()).collect::<Option<Vec<_>>>()?;
    let elements = dims.iter().try_fold(1usize, |n, d| n.checked_mul(*d))?;
    let bytes = elements.checked_mul(size).filter(|n| *n <= LITTLE || *n / SPREAD <= numbers.len())?;
    let count = numbers.len() / size;
    let places = places(file, indices, &dims, count)?;
    let mut dense = vec![0; bytes];
    for (number, at) in numbers.chunks_exact(size).zip(places) {
        dense.get_mut(at.checked_mul(size)?..)?.get_mut(..size)?.copy_from_slice(number);
    }
    let dims = sparse.dims.clone();
    Some(TensorProto {
        name: values.name.clone(),
        data_type: values.data_type,
        dims,
        raw_data: Some(dense.into()),
        ..Default::default()
    })
}

/// Where each number stands, counted in row-major order: as it is given, or from an index for each axis.
fn places(file: &Onnx, indices: &TensorProto, dims: &[usize], count: usize) -> Option<Vec<usize>> {
    let shape = indices.shape().ok()?;
    let all = integers(indices.dtype().ok()?, &file.bytes(indices).ok()?, shape.iter().product())?;
    let all = all.into_iter().map(|n| usize::try_from(n).ok()).collect::<Option<Vec<_>>>()?;
    match shape[..] {
        [n] if n == count => Some(all),
        [n, rank] if n == count && rank == dims.len() && rank > 0 => {
            let place = |row: &[usize]| {
                row.iter()
                    .zip(dims)
                    .try_fold(0usize, |at, (i, d)| (i < d).then(|| at.checked_mul(*d)?.checked_add(*i)).flatten())
            };
            all.chunks_exact(rank).map(place).collect()
        }
        _ => None,
    }
}
