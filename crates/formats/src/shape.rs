//! Sizes of shapes that a file claims.

/// Number of elements; `None` where the product does not fit. A zero does not excuse the other dimensions: any order
/// of multiplying them must be safe.
pub(crate) fn elements(shape: &[usize]) -> Option<usize> {
    let product = shape.iter().try_fold(1usize, |n, d| n.checked_mul((*d).max(1)))?;
    Some(if shape.contains(&0) { 0 } else { product })
}
