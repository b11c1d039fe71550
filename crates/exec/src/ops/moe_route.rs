//! Chooses experts by the largest probabilities. Backward: through the chosen probabilities and the softmax; the choice
//! itself is taken as given.

use super::Rule;
use crate::backward::Backward;
use crate::forward::Forward;
use crate::{Data, Error, Scalar, Tensor};
use graph::ops::MoeRoute;
use kernels::Write;
use std::sync::Arc;

/// The `k` largest: larger first, between equals the lower number first.
fn largest<R: Scalar>(probabilities: &[R], k: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..probabilities.len() as u32).collect();
    let at = |i: &u32| probabilities[*i as usize];
    order.sort_by(|a, b| at(b).partial_cmp(&at(a)).unwrap_or(std::cmp::Ordering::Equal));
    order.truncate(k);
    order
}

impl<R: Scalar> Rule<R> for MoeRoute {
    fn forward(&self, cx: &mut Forward<'_, R>) -> Result<Vec<Data<R>>, Error> {
        let x = cx.float(0)?;
        let mut all = cx.pool.take(x.rows() * self.experts);
        cx.weights.linear(x.data(), self.weight, None, &mut all)?;
        kernels::softmax_rows(&mut all, self.experts);
        let mut chosen = Vec::with_capacity(x.rows() * self.top_k);
        let mut values = cx.pool.tensor(x.shape_with_width(self.top_k));
        for (row, values) in all.chunks_exact(self.experts).zip(values.data_mut().chunks_exact_mut(self.top_k)) {
            let numbers = largest(row, self.top_k);
            values.iter_mut().zip(&numbers).for_each(|(value, n)| *value = row[*n as usize]);
            if self.normalize {
                let sum = values.iter().copied().sum::<R>();
                values.iter_mut().for_each(|value| *value /= sum);
            }
            chosen.extend(numbers);
        }
        cx.save(all);
        let chosen = Tensor::new(x.shape_with_width(self.top_k), chosen)?;
        Ok(vec![values.into(), Data::Index(Arc::new(chosen))])
    }

    fn backward(&self, cx: &mut Backward<'_, R>) -> Result<(), Error> {
        let (x, dy, chosen, all) = (cx.input(0)?, cx.grad(0)?, cx.output_index(1)?, cx.saved()?);
        let (n, k) = (self.experts, self.top_k);
        let mut dp = vec![R::ZERO; all.len()];
        let picks = chosen.data().chunks_exact(k).zip(dy.data().chunks_exact(k));
        for ((row, dp), (numbers, dy)) in all.chunks_exact(n).zip(dp.chunks_exact_mut(n)).zip(picks) {
            self.grad_of_choice(row, numbers, dy, dp);
        }
        let mut dlogits = cx.pool.take(all.len());
        kernels::softmax_rows_grad(&all, &dp, &mut dlogits, n);
        cx.weight_grad(self.weight, |dw| {
            kernels::linear_grad_weight(&dlogits, x.data(), dw, x.width(), n, Write::Add);
        });
        let weight = cx.weights.full(self.weight)?;
        cx.input_grad(0, x.shape(), |dx, write| {
            kernels::linear_grad_input(&dlogits, weight, dx, x.width(), n, write);
        });
        [dlogits, all].into_iter().for_each(|buffer| cx.pool.give(buffer));
        cx.recycle(dy);
        Ok(())
    }

    fn keeps_input(&self, _input: usize) -> bool {
        true
    }

    fn keeps_outputs(&self) -> bool {
        true
    }
}

/// The gradient of the chosen probabilities.
trait Choice<R> {
    /// Writes `d loss / d probability` of the chosen experts of one token into `dp`.
    fn grad_of_choice(&self, row: &[R], numbers: &[u32], dy: &[R], dp: &mut [R]);
}

impl<R: Scalar> Choice<R> for MoeRoute {
    fn grad_of_choice(&self, row: &[R], numbers: &[u32], dy: &[R], dp: &mut [R]) {
        let (mut scale, mut shift) = (R::ONE, R::ZERO);
        if self.normalize {
            // y = p / s, s = Σ p: dp = (dy − Σ dy · y) / s.
            let sum = numbers.iter().map(|n| row[*n as usize]).sum::<R>();
            scale = R::ONE / sum;
            shift = numbers.iter().zip(dy).map(|(n, dy)| *dy * row[*n as usize] * scale).sum::<R>();
        }
        numbers.iter().zip(dy).for_each(|(n, dy)| dp[*n as usize] = (*dy - shift) * scale);
    }
}
