//! What is known of the rows that a matrix is multiplied with.
//!
//! One accumulator serves every matrix that reads the same value (q, k and v; gate and up). Sums run in the order in
//! which rows are seen, and products are the same at any number of threads, so statistics are reproducible.

use kernels::{MatMut, MatRef, Write, gram, gram_bf16, matmul};
use rayon::prelude::*;

/// What is gathered beside the cheap statistics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// Counts, ranges and mean squares: a few numbers per column.
    #[default]
    Columns,
    /// The Hessian of the squared error of a product, `XᵀX`, too: columns squared. Its products are of numbers rounded to
    /// bf16, on machines that are faster with those.
    Hessian,
    /// The same in f32, and how the inputs of the compressed model differ from those of the original, `(X − X̂)ᵀX̂`: twice that.
    Drift,
}

/// Columns of a task.
const COLUMNS: usize = 256;

/// Statistics of the rows of one value, `[tokens, width]`.
#[derive(Clone, Debug)]
pub struct Inputs {
    width: usize,
    tokens: u64,
    sum_squares: Vec<f64>,
    min: Vec<f32>,
    max: Vec<f32>,
    hessian: Option<Vec<f32>>,
    drift: Option<Vec<f32>>,
}

impl Inputs {
    /// Nothing seen yet of rows of `width` numbers.
    pub fn new(width: usize, depth: Depth) -> Inputs {
        let square = |least| (depth >= least).then(|| vec![0.0; width * width]);
        Inputs {
            width,
            tokens: 0,
            sum_squares: vec![0.0; width],
            min: vec![f32::INFINITY; width],
            max: vec![f32::NEG_INFINITY; width],
            hessian: square(Depth::Hessian),
            drift: square(Depth::Drift),
        }
    }

    /// Bytes that it holds.
    pub fn bytes(width: usize, depth: Depth) -> u64 {
        let squares = match depth {
            Depth::Columns => 0,
            Depth::Hessian => 1,
            Depth::Drift => 2,
        };
        (width * 16 + squares * width * width * 4) as u64
    }

    /// Takes rows in, row-major.
    pub fn see(&mut self, rows: &[f32]) {
        let width = self.width.max(1);
        self.tokens += (rows.len() / width) as u64;
        let ranges = self.min.par_chunks_mut(COLUMNS).zip(self.max.par_chunks_mut(COLUMNS));
        self.sum_squares.par_chunks_mut(COLUMNS).zip(ranges).enumerate().for_each(|(n, (sums, (min, max)))| {
            for row in rows.chunks_exact(width) {
                let columns = sums.iter_mut().zip(min.iter_mut().zip(max.iter_mut()));
                for ((sum, (min, max)), x) in columns.zip(&row[n * COLUMNS..]) {
                    *sum += f64::from(*x) * f64::from(*x);
                    *min = min.min(*x);
                    *max = max.max(*x);
                }
            }
        });
        if let Some(hessian) = &mut self.hessian {
            let add = if self.drift.is_some() { gram } else { gram_bf16 };
            add(rows, self.width, hessian);
        }
    }

    /// Takes rows in as the compressed model makes them, beside the same rows of the original.
    pub fn see_pair(&mut self, rows: &[f32], original: &[f32]) {
        self.see(rows);
        if let Some(drift) = &mut self.drift {
            let difference: Vec<f32> = original.iter().zip(rows).map(|(a, b)| a - b).collect();
            add_product(&difference, rows, self.width, drift);
        }
    }

    /// The statistics of the same rows with each column divided by a number that is not zero.
    #[must_use]
    pub fn divided(&self, by: &[f32]) -> Inputs {
        let each = |data: &[f32]| data.iter().zip(by).map(|(x, s)| x / s).collect();
        let square = |data: &Vec<f32>| {
            let rows = data.chunks_exact(self.width.max(1)).zip(by);
            rows.flat_map(|(row, r)| row.iter().zip(by).map(move |(x, s)| x / (r * s))).collect()
        };
        Inputs {
            width: self.width,
            tokens: self.tokens,
            sum_squares: self.sum_squares.iter().zip(by).map(|(x, s)| x / f64::from(s * s)).collect(),
            min: each(&self.min),
            max: each(&self.max),
            hessian: self.hessian.as_ref().map(square),
            drift: self.drift.as_ref().map(square),
        }
    }

    /// Numbers in a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows seen.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Smallest and largest number of each column; infinities of the wrong sign where nothing was seen.
    pub fn range(&self) -> (&[f32], &[f32]) {
        (&self.min, &self.max)
    }

    /// Mean square of each column: how much an error there matters. Zeros where nothing was seen.
    pub fn importance(&self) -> Vec<f32> {
        let tokens = self.tokens.max(1) as f64;
        self.sum_squares.iter().map(|sum| (sum / tokens) as f32).collect()
    }

    /// `XᵀX`, `[width, width]`, summed over rows.
    pub fn hessian(&self) -> Option<&[f32]> {
        self.hessian.as_deref()
    }

    /// `(X − X̂)ᵀX̂`, `[width, width]`, summed over rows.
    pub fn drift(&self) -> Option<&[f32]> {
        self.drift.as_deref()
    }

    /// The first column that was not always a finite number.
    pub fn not_finite(&self) -> Option<usize> {
        self.sum_squares.iter().position(|s| !s.is_finite())
    }
}

/// `sum += aᵀ·b` of two matrices of rows of `width`.
fn add_product(a: &[f32], b: &[f32], width: usize, sum: &mut [f32]) {
    let tokens = a.len() / width.max(1);
    let (a, b) = (MatRef::new(a, tokens, width).t(), MatRef::new(b, tokens, width));
    matmul(1.0, a, b, MatMut::new(sum, width, width), Write::Add);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_those_of_all_rows_together() {
        let (width, tokens) = (387, 30);
        let rows: Vec<f32> = (0..tokens * width).map(|i| (i as f32 * 0.7).sin()).collect();
        let original: Vec<f32> = rows.iter().map(|x| x * 1.5 + 0.1).collect();
        let mut inputs = Inputs::new(width, Depth::Drift);
        for (part, original) in rows.chunks(7 * width).zip(original.chunks(7 * width)) {
            inputs.see_pair(part, original);
        }
        assert_eq!(inputs.tokens(), tokens as u64);
        let column = |j: usize| rows.iter().skip(j).step_by(width);
        for i in (0..width).step_by(29) {
            let mean_square = column(i).map(|x| x * x).sum::<f32>() / tokens as f32;
            assert!((inputs.importance()[i] - mean_square).abs() < 1e-5);
            for j in (0..width).step_by(31) {
                let h: f32 = column(i).zip(column(j)).map(|(a, b)| a * b).sum();
                let d: f32 = column(i).zip(column(j)).map(|(a, b)| (a * 0.5 + 0.1) * b).sum();
                assert!((inputs.hessian().unwrap()[i * width + j] - h).abs() < 1e-3);
                assert!((inputs.drift().unwrap()[i * width + j] - d).abs() < 1e-3);
            }
        }
    }

    #[test]
    fn statistics_of_divided_columns_are_those_of_the_divided_rows() {
        let (width, by) = (3, [2.0, 0.5, 4.0]);
        let rows: Vec<f32> = (0..20 * width).map(|i| (i as f32 * 0.7).sin()).collect();
        let divided: Vec<f32> = rows.iter().zip(by.iter().cycle()).map(|(x, s)| x / s).collect();
        let [mut from, mut expected] = [(); 2].map(|()| Inputs::new(width, Depth::Hessian));
        from.see(&rows);
        expected.see(&divided);
        let got = from.divided(&by);
        assert_eq!((got.range(), got.tokens()), (expected.range(), expected.tokens()));
        let pairs = got.hessian().unwrap().iter().zip(expected.hessian().unwrap());
        let pairs = pairs.map(|(a, b)| (*a, *b)).chain(got.importance().into_iter().zip(expected.importance()));
        pairs.for_each(|(a, b)| assert!((a - b).abs() < 1e-4, "{a} {b}"));
    }

    #[test]
    fn numbers_that_are_not_finite_are_found() {
        let mut inputs = Inputs::new(2, Depth::Columns);
        inputs.see(&[1.0, 2.0, 3.0, f32::NAN]);
        assert_eq!(inputs.not_finite(), Some(1));
    }
}
