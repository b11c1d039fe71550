//! Gated feed-forward experts. Tokens are gathered by expert, multiplied together, and added back in the order of the
//! experts, so that the sums do not depend on threads. The backward computes each expert's hidden values again.

use super::Rule;
use super::activation::{Function, apply, apply_grad};
use crate::backward::Backward;
use crate::forward::{Forward, Tap};
use crate::{Data, Error, Scalar, Tensor, Weights};
use graph::ops::{Expert, MoeExperts};
use kernels::Write;

/// The choices of one expert: positions in `[rows, top_k]`.
fn picks(chosen: &Tensor<u32>, experts: usize) -> Vec<Vec<usize>> {
    let mut picks = vec![Vec::new(); experts];
    for (at, expert) in chosen.data().iter().enumerate() {
        if let Some(of) = picks.get_mut(*expert as usize) {
            of.push(at);
        }
    }
    picks
}

/// Rows of the tokens behind `picks`.
fn gather<R: Scalar>(x: &Tensor<R>, picks: &[usize], top_k: usize) -> Vec<R> {
    let width = x.width();
    picks.iter().flat_map(|at| &x.data()[at / top_k * width..][..width]).copied().collect()
}

/// What an expert computes on the way.
struct Hidden<R> {
    gate: Vec<R>,
    up: Vec<R>,
    product: Vec<R>,
}

impl<R: Scalar> Hidden<R> {
    fn new(op: &MoeExperts, expert: Expert, x: &[R], rows: usize, weights: &Weights<R>) -> Result<Hidden<R>, Error> {
        let len = rows * weights.store().get(expert.gate).rows();
        let [mut gate, mut up, mut product] = [(); 3].map(|()| vec![R::ZERO; len]);
        weights.linear(x, expert.gate, None, &mut gate)?;
        weights.linear(x, expert.up, None, &mut up)?;
        match op.activation.into() {
            Function::Gate(function) => kernels::gated(function, &gate, &up, &mut product),
            Function::SoftCap(_) | Function::Curve(_) => {
                apply(op.activation, &gate, &mut product);
                product.iter_mut().zip(&up).for_each(|(product, up)| *product *= *up);
            }
        }
        Ok(Hidden { gate, up, product })
    }
}

impl<R: Scalar> Rule<R> for MoeExperts {
    fn forward(&self, cx: &mut Forward<'_, R>) -> Result<Vec<Data<R>>, Error> {
        let (x, p, chosen) = (cx.float(0)?, cx.float(1)?, cx.index(2)?);
        let (width, top_k) = (x.width(), p.width());
        let mut y = cx.pool.tensor(x.shape().to_vec());
        y.data_mut().fill(R::ZERO);
        for (expert, picks) in self.experts.iter().zip(picks(&chosen, self.experts.len())) {
            if picks.is_empty() {
                continue;
            }
            let rows = gather(&x, &picks, top_k);
            let hidden = Hidden::new(self, *expert, &rows, picks.len(), cx.weights)?;
            show(cx, *expert, &rows, width, &hidden);
            let mut out = rows;
            cx.weights.linear(&hidden.product, expert.down, None, &mut out)?;
            for (at, out) in picks.iter().zip(out.chunks_exact(width)) {
                let y = &mut y.data_mut()[at / top_k * width..][..width];
                y.iter_mut().zip(out).for_each(|(y, out)| *y += p.data()[*at] * *out);
            }
        }
        Ok(vec![y.into()])
    }

    fn backward(&self, cx: &mut Backward<'_, R>) -> Result<(), Error> {
        let (x, p, chosen, dy) = (cx.input(0)?, cx.input(1)?, cx.index(2)?, cx.grad(0)?);
        let (width, top_k) = (x.width(), p.width());
        let mut dx = cx.pool.tensor(x.shape().to_vec());
        let mut dp = cx.pool.tensor(p.shape().to_vec());
        dx.data_mut().fill(R::ZERO);
        dp.data_mut().fill(R::ZERO);
        for (expert, picks) in self.experts.iter().zip(picks(&chosen, self.experts.len())) {
            if picks.is_empty() {
                continue;
            }
            let back = ExpertBackward {
                op: self,
                expert: *expert,
                x: gather(&x, &picks, top_k),
                dy: gather(&dy, &picks, top_k),
                p: picks.iter().map(|at| p.data()[*at]).collect(),
            };
            let (grads, weights) = back.run(cx)?;
            for ((at, grad), weight) in picks.iter().zip(grads.chunks_exact(width)).zip(weights) {
                let dx = &mut dx.data_mut()[at / top_k * width..][..width];
                dx.iter_mut().zip(grad).for_each(|(dx, grad)| *dx += *grad);
                dp.data_mut()[*at] = weight;
            }
        }
        cx.add_grad(0, dx);
        cx.add_grad(1, dp);
        cx.recycle(dy);
        Ok(())
    }

    fn keeps_input(&self, _input: usize) -> bool {
        true
    }
}

/// Shows taps the rows that an expert's matrices multiply.
fn show<R: Scalar>(cx: &mut Forward<'_, R>, expert: Expert, x: &[R], width: usize, hidden: &Hidden<R>) {
    let Some(tap) = &mut cx.tap else { return };
    let inner = hidden.product.len() * width / x.len().max(1);
    for (weight, width, rows) in
        [(expert.gate, width, x), (expert.up, width, x), (expert.down, inner, &hidden.product[..])]
    {
        tap(Tap::Expert { node: cx.id, weight, width, rows });
    }
}

/// One expert's share of the backward.
struct ExpertBackward<'a, R> {
    op: &'a MoeExperts,
    expert: Expert,
    /// Rows of the tokens that chose it.
    x: Vec<R>,
    /// Gradients of those tokens' outputs.
    dy: Vec<R>,
    /// Their probabilities.
    p: Vec<R>,
}

impl<R: Scalar> ExpertBackward<'_, R> {
    /// Gradients of the rows and of the probabilities.
    fn run(mut self, cx: &mut Backward<'_, R>) -> Result<(Vec<R>, Vec<R>), Error> {
        let Expert { gate, up, down } = self.expert;
        let hidden = Hidden::new(self.op, self.expert, &self.x, self.p.len(), cx.weights)?;
        let (width, inner) = (self.x.len() / self.p.len(), hidden.product.len() / self.p.len());
        let mut dhidden = vec![R::ZERO; hidden.product.len()];
        kernels::linear_grad_input(&self.dy, cx.weights.full(down)?, &mut dhidden, inner, width, Write::Set);
        // y = p · W · h: the gradient of p is Σ (Wᵀ dy) · h, which needs no y.
        let rows = dhidden.chunks_exact(inner).zip(hidden.product.chunks_exact(inner));
        let dp = rows.map(|(d, h)| d.iter().zip(h).map(|(d, h)| *d * *h).sum()).collect();
        self.weigh(&mut dhidden, inner);
        let mut dy = std::mem::take(&mut self.dy);
        self.weigh(&mut dy, width);
        cx.weight_grad(down, |dw| {
            kernels::linear_grad_weight(&dy, &hidden.product, dw, inner, width, Write::Add);
        });
        let (dgate, dup) = self.through_gate(&hidden, &dhidden);
        for (weight, grad) in [(gate, &dgate), (up, &dup)] {
            cx.weight_grad(weight, |dw| kernels::linear_grad_weight(grad, &self.x, dw, width, inner, Write::Add));
        }
        let mut dx = vec![R::ZERO; self.x.len()];
        kernels::linear_grad_input(&dgate, cx.weights.full(gate)?, &mut dx, width, inner, Write::Set);
        kernels::linear_grad_input(&dup, cx.weights.full(up)?, &mut dx, width, inner, Write::Add);
        Ok((dx, dp))
    }

    /// Multiplies each row by its probability.
    fn weigh(&self, rows: &mut [R], width: usize) {
        for (row, p) in rows.chunks_exact_mut(width).zip(&self.p) {
            row.iter_mut().for_each(|x| *x *= *p);
        }
    }

    fn through_gate(&self, hidden: &Hidden<R>, dhidden: &[R]) -> (Vec<R>, Vec<R>) {
        let [mut dgate, mut dup] = [(); 2].map(|()| vec![R::ZERO; dhidden.len()]);
        match self.op.activation.into() {
            Function::Gate(function) => {
                kernels::gated_grad(function, &hidden.gate, &hidden.up, dhidden, &mut dgate, &mut dup);
            }
            Function::SoftCap(_) | Function::Curve(_) => {
                kernels::mul(dhidden, &hidden.up, &mut dup, Write::Set);
                apply_grad(self.op.activation, &hidden.gate, &dup, &mut dgate, Write::Set);
                let mut gate = vec![R::ZERO; dhidden.len()];
                apply(self.op.activation, &hidden.gate, &mut gate);
                kernels::mul(dhidden, &gate, &mut dup, Write::Set);
            }
        }
        (dgate, dup)
    }
}
