//! The factor of the inverse Hessian that error feedback walks along.
//!
//! `(XᵀX / n + λI)⁻¹ = UᵀU` with `U` upper triangular: row `j` of `U` says how an error in column `j` is made good by
//! the columns after it. One Cholesky decomposition and one triangular inverse, both in f32 and in place: reversing rows
//! and columns of the Hessian makes the upper factor of its inverse the inverse of a lower factor.

use calib::Inputs;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::cholesky::llt::factor::{cholesky_in_place, cholesky_in_place_scratch};
use faer::linalg::triangular_inverse::invert_lower_triangular;
use faer::linalg::triangular_solve::{solve_lower_triangular_in_place, solve_upper_triangular_in_place};
use faer::{MatMut, MatRef, Par};
use rayon::prelude::*;

/// The factor, its columns in the order of `order`.
pub(crate) struct Factor {
    /// `[n, n]`, row-major; zeros below the diagonal.
    pub upper: Vec<f32>,
    /// Which column of the matrix comes when.
    pub order: Vec<usize>,
    /// Share of the mean of the diagonal that was added to it.
    pub damping: f32,
    /// Columns whose inputs were always zero.
    pub dead: usize,
}

/// Tries of ever more damping, each ten times the one before.
const TRIES: i32 = 4;

impl Factor {
    /// Bytes at work.
    pub fn bytes(n: usize) -> u64 {
        8 * (n * n) as u64
    }

    /// Factors the Hessian of some inputs. Damping grows where it must; `None` where even much is not enough.
    pub fn new(inputs: &Inputs, order: Vec<usize>, damping: f32) -> Option<Factor> {
        let hessian = inputs.hessian()?;
        let n = order.len();
        let mean = (0..n).map(|j| f64::from(hessian[j * n + j])).sum::<f64>() / n.max(1) as f64;
        let dead = (0..n).filter(|j| hessian[j * n + j] == 0.0).count();
        let unit = if mean > 0.0 { mean as f32 } else { 1.0 };
        (0..TRIES).map(|i| damping * 10f32.powi(i)).find_map(|damping| {
            let mut a = reversed(hessian, &order, 1.0 / unit, damping);
            cholesky(&mut a, n)?;
            let upper = invert(a, n);
            upper.iter().all(|v| v.is_finite()).then(|| Factor { upper, order: order.clone(), damping, dead })
        })
    }

    /// Row `j` from its diagonal on.
    pub fn row(&self, j: usize) -> &[f32] {
        let n = self.order.len();
        &self.upper[j * n + j..(j + 1) * n]
    }
}

/// Rows and columns in the reverse of `order`, scaled, with `damping` on the diagonal (where nothing else is, 1).
fn reversed(hessian: &[f32], order: &[usize], scale: f32, damping: f32) -> Vec<f32> {
    let n = order.len();
    let mut out = vec![0.0; n * n];
    for (i, out) in out.chunks_exact_mut(n.max(1)).enumerate() {
        let from = &hessian[order[n - 1 - i] * n..][..n];
        out.iter_mut().zip(order.iter().rev()).for_each(|(out, j)| *out = scale * from[*j]);
        out[i] = if out[i] == 0.0 { 1.0 } else { out[i] } + damping;
    }
    out
}

/// The lower factor, column-major, in the place of a symmetric matrix.
pub(crate) fn cholesky(a: &mut [f32], n: usize) -> Option<()> {
    let par = Par::Seq; // the same bytes at any number of threads
    let mut memory = MemBuffer::new(cholesky_in_place_scratch::<f32>(n, par, Default::default()));
    let matrix = MatMut::from_column_major_slice_mut(a, n, n);
    cholesky_in_place(matrix, Default::default(), par, MemStack::new(&mut memory), Default::default()).ok()?;
    Some(())
}

/// Columns of a right-hand side that a task solves.
const COLUMNS: usize = 128;

/// Solves `L·Lᵀ·X = B` in the place of `B`, column-major, for the factor that [`cholesky`] left.
pub(crate) fn solve(lower: &[f32], b: &mut [f32], n: usize) {
    let lower = MatRef::from_column_major_slice(lower, n, n);
    b.par_chunks_mut(COLUMNS * n.max(1)).for_each(|b| {
        let columns = b.len() / n.max(1);
        let mut b = MatMut::from_column_major_slice_mut(b, n, columns);
        solve_lower_triangular_in_place(lower, b.as_mut(), Par::Seq);
        solve_upper_triangular_in_place(lower.transpose(), b, Par::Seq);
    });
}

/// The inverse of a lower factor, in the order before it was reversed.
fn invert(mut lower: Vec<f32>, n: usize) -> Vec<f32> {
    let mut inverse = vec![0.0; n * n];
    let from = MatMut::from_column_major_slice_mut(&mut lower, n, n);
    invert_lower_triangular(MatMut::from_column_major_slice_mut(&mut inverse, n, n), from.as_ref(), Par::Seq);
    // Element (r, c) of the inverse lies at c·n + r, and belongs at (n − 1 − r, n − 1 − c).
    let upper = &mut lower;
    for (j, row) in upper.chunks_exact_mut(n.max(1)).enumerate() {
        let r = n - 1 - j;
        row[..j].fill(0.0);
        row.iter_mut().enumerate().skip(j).for_each(|(k, u)| *u = inverse[(n - 1 - k) * n + r]);
    }
    lower
}

#[cfg(test)]
mod tests {
    use super::*;
    use calib::Depth;

    #[test]
    fn the_factor_squared_inverts_the_damped_hessian() {
        let (n, tokens) = (6, 40);
        let rows: Vec<f32> = (0..tokens * n).map(|i| ((i * i) as f32 * 0.37).sin() * (1.0 + (i % n) as f32)).collect();
        let mut inputs = Inputs::new(n, Depth::Hessian);
        inputs.see(&rows);
        let order = vec![3, 1, 5, 0, 2, 4];
        let factor = Factor::new(&inputs, order.clone(), 0.01).unwrap();
        let h = inputs.hessian().unwrap();
        let mean = (0..n).map(|j| h[j * n + j]).sum::<f32>() / n as f32;
        let u = |i: usize, j: usize| factor.upper[i * n + j];
        for i in 0..n {
            for j in 0..n {
                // (H / mean + λ) · UᵀU = 1
                let inverse = |k: usize| (0..n).map(|r| u(r, k) * u(r, j)).sum::<f32>();
                let row = |k: usize| h[order[i] * n + order[k]] / mean + if i == k { 0.01 } else { 0.0 };
                let product: f32 = (0..n).map(|k| row(k) * inverse(k)).sum();
                assert!((product - f32::from(u8::from(i == j))).abs() < 1e-3, "{i} {j}: {product}");
                assert!(i <= j || u(i, j) == 0.0);
            }
        }
    }

    #[test]
    fn dead_columns_are_counted_and_nothing_seen_still_factors() {
        let mut inputs = Inputs::new(3, Depth::Hessian);
        inputs.see(&[1.0, 0.0, 2.0, -1.0, 0.0, 1.0]);
        assert_eq!(Factor::new(&inputs, vec![0, 1, 2], 0.01).unwrap().dead, 1);
        assert_eq!(Factor::new(&Inputs::new(2, Depth::Hessian), vec![0, 1], 0.01).unwrap().dead, 2);
    }
}
