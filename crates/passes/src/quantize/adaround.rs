//! # AdaRound
//!
//! **What it does.** Decides for every weight whether it is rounded down or up, by gradient descent on what the layer then makes
//! of its inputs, `‖(Ŵ − W)·X̂‖²`, scales fixed.
//!
//! **How.** `Ŵ = s · clamp(⌊W/s⌋ + h(V))`, where `h(V) = clamp(1.2 · sigmoid(V) − 0.1, 0, 1)` is a rectified sigmoid that starts at the
//! weight itself. To the error of the outputs comes `λ · Σ 1 − |2h(V) − 1|^β`, with `β` going from 20 down to 2 once a fifth of the
//! steps is done, which drives every `h` to 0 or 1. Adam makes the steps.
//!
//! **When to use.** At four bits; at eight there is little to win.
//!
//! **What it costs.** `STEPS · rows · cols²` multiply–adds for each matrix.
//!
//! **What it needs.** Samples, without labels.
//!
//! **Paper.** Nagel et al.: Up or Down? Adaptive Rounding for Post-Training Quantization, ICML 2020 (arXiv 2004.10568).
//!
//! **Differences from the paper.** The error is that of all calibration rows in each step, through their square `X̂X̂ᵀ`, not that of a
//! batch; so it is the layer's own output, without the activation behind it. The error is divided by what nearest rounding
//! costs, so that one `λ` serves all layers. Where the descent ends worse than nearest rounding, nearest stays.

use kernels::{AdamW, MatMut, MatRef, Write, adamw, matmul};

/// Steps of descent.
const STEPS: u64 = 1000;
/// Share of them without the regulariser.
const WARM: f64 = 0.2;
const RATE: f64 = 1e-2;
const LAMBDA: f32 = 1.0;
/// Ends of the annealed exponent.
const BETA: [f64; 2] = [20.0, 2.0];
/// How far the sigmoid is stretched before it is cut.
const STRETCH: [f32; 2] = [-0.1, 1.1];

/// A matrix to be rounded.
pub(crate) struct Layer<'a> {
    /// `[rows, cols]`.
    pub weight: &'a [f32],
    /// One for each row.
    pub scale: &'a [f32],
    /// The least and the greatest code.
    pub codes: [f32; 2],
    /// `X̂ᵀX̂` of what it reads, `[cols, cols]`.
    pub hessian: &'a [f32],
}

/// The rounded matrix, numbers on the grid.
pub(crate) fn adaround(layer: &Layer<'_>) -> Vec<f32> {
    let nearest = layer.rounded(|_, part| if part >= 0.5 { 1.0 } else { 0.0 });
    let before = layer.error(&nearest);
    if before <= 0.0 || !before.is_finite() {
        return nearest;
    }
    let v = descend(layer, before);
    let learned = layer.rounded(|at, _| if rectified(v[at]) >= 0.5 { 1.0 } else { 0.0 });
    if layer.error(&learned) < before { learned } else { nearest }
}

impl Layer<'_> {
    fn cols(&self) -> usize {
        self.weight.len() / self.scale.len().max(1)
    }

    /// Code below and what is left, of every weight.
    fn split(&self) -> impl Iterator<Item = (f32, f32, f32)> {
        let cols = self.cols().max(1);
        self.weight.iter().enumerate().map(move |(at, w)| {
            let scale = self.scale[at / cols];
            let code = w / scale;
            (scale, code.floor(), code - code.floor())
        })
    }

    /// Numbers on the grid, each so far above the code below as is said for its place and what is left of it.
    fn rounded(&self, up: impl Fn(usize, f32) -> f32) -> Vec<f32> {
        let [least, most] = self.codes;
        let one =
            |(at, (scale, floor, part)): (usize, (f32, f32, f32))| scale * (floor + up(at, part)).clamp(least, most);
        self.split().enumerate().map(one).collect()
    }

    /// `(Ŵ − W)·H`.
    fn pull(&self, made: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let (rows, cols) = (self.scale.len(), self.cols());
        let apart: Vec<f32> = made.iter().zip(self.weight).map(|(a, b)| a - b).collect();
        let mut pull = vec![0.0; apart.len()];
        let (a, h) = (MatRef::new(&apart, rows, cols), MatRef::new(self.hessian, cols, cols));
        matmul(1.0, a, h, MatMut::new(&mut pull, rows, cols), Write::Set);
        (apart, pull)
    }

    /// `tr((Ŵ − W)·H·(Ŵ − W)ᵀ)`.
    fn error(&self, made: &[f32]) -> f64 {
        let (apart, pull) = self.pull(made);
        apart.iter().zip(pull).map(|(a, p)| f64::from(*a) * f64::from(p)).sum()
    }
}

fn sigmoid(v: f32) -> f32 {
    1.0 / (1.0 + (-v).exp())
}

fn rectified(v: f32) -> f32 {
    (STRETCH[0] + (STRETCH[1] - STRETCH[0]) * sigmoid(v)).clamp(0.0, 1.0)
}

/// Where the rectified sigmoid has this value.
fn inverse(part: f32) -> f32 {
    let s = (part - STRETCH[0]) / (STRETCH[1] - STRETCH[0]);
    (s / (1.0 - s)).ln()
}

/// `V` after all steps; `before` is the error of nearest rounding.
fn descend(layer: &Layer<'_>, before: f64) -> Vec<f32> {
    let mut v: Vec<f32> = layer.split().map(|(_, _, part)| inverse(part)).collect();
    let (mut first, mut second) = (vec![0.0; v.len()], vec![0.0; v.len()]);
    let settings = AdamW { lr: RATE, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0, grad_scale: 1.0 };
    let share = (v.len() as f64 / before) as f32;
    for step in 1..=STEPS {
        let made = layer.rounded(|at, _| rectified(v[at]));
        let (_, pull) = layer.pull(&made);
        let beta = beta(step);
        let [least, most] = layer.codes;
        let slope = |((v, pull), (scale, floor, _)): ((&f32, &f32), (f32, f32, f32))| {
            let (s, h) = (sigmoid(*v), rectified(*v));
            let moves = if h > 0.0 && h < 1.0 { (STRETCH[1] - STRETCH[0]) * s * (1.0 - s) } else { 0.0 };
            let inside = (least..=most).contains(&(floor + h));
            let error = if inside { 2.0 * share * pull * scale } else { 0.0 };
            (error + beta.map_or(0.0, |beta| LAMBDA * regulariser(h, beta))) * moves
        };
        let grad: Vec<f32> = v.iter().zip(&pull).zip(layer.split()).map(slope).collect();
        adamw(&settings, step, &mut v, &grad, &mut first, &mut second);
    }
    v
}

/// The exponent at a step; none while it is warm.
fn beta(step: u64) -> Option<f32> {
    let at = (step as f64 / STEPS as f64 - WARM) / (1.0 - WARM);
    (at > 0.0).then(|| (BETA[1] + 0.5 * (BETA[0] - BETA[1]) * (1.0 + (at * std::f64::consts::PI).cos())) as f32)
}

/// The slope of `1 − |2h − 1|^β`.
fn regulariser(h: f32, beta: f32) -> f32 {
    let x = 2.0 * h - 1.0;
    -2.0 * beta * x.abs().powf(beta - 1.0) * x.signum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn correlated_inputs_round_together() {
        let (rows, cols, tokens) = (8, 48, 400);
        let noise: Vec<f32> = (0..tokens * cols).map(|i| ((i * 7919 % 1000) as f32 / 500.0 - 1.0).powi(3)).collect();
        // Every input is partly the one before it.
        let x: Vec<f32> = (0..tokens * cols).map(|i| noise[i] + if i > 0 { 0.9 * noise[i - 1] } else { 0.0 }).collect();
        let mut hessian = vec![0.0; cols * cols];
        let x = MatRef::new(&x, tokens, cols);
        matmul(1.0, x.t(), x, MatMut::new(&mut hessian, cols, cols), Write::Set);
        let weight: Vec<f32> = (0..rows * cols).map(|i| (i as f32 * 0.71).sin()).collect();
        let scale = vec![1.0 / 7.0; rows];
        let layer = Layer { weight: &weight, scale: &scale, codes: [-7.0, 7.0], hessian: &hessian };
        let nearest = layer.error(&layer.rounded(|_, part| part.round()));
        let made = adaround(&layer);
        let on_grid = |x: &f32| (x * 7.0 - (x * 7.0).round()).abs() < 1e-5;
        assert!(made.iter().all(on_grid));
        assert!(made.iter().zip(&weight).all(|(a, b)| (a - b).abs() <= 1.0 / 7.0 + 1e-6), "up or down, no further");
        let learned = layer.error(&made);
        assert!(learned < 0.6 * nearest, "{learned} against {nearest}");
    }

    #[test]
    fn the_regulariser_slopes_to_the_nearer_end() {
        assert!(regulariser(0.3, 4.0) > 0.0 && regulariser(0.7, 4.0) < 0.0);
        for part in [0.01, 0.3, 0.5, 0.99] {
            assert!((rectified(inverse(part)) - part).abs() < 1e-5);
        }
    }
}
