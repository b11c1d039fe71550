//! Functions of one number beside the [`Activation`](crate::Activation)s that gate: those of image networks, with their derivatives.
//!
//! | name | formula |
//! |---|---|
//! | sigmoid, tanh, exp, ln, √, 1/x, −x, erf | as ever |
//! | leaky ReLU | `x` above zero, else `α·x` |
//! | ELU | `x` above zero, else `α·(eˣ − 1)` |
//! | SELU | `γ·ELU` |
//! | clip (ReLU6) | `min(max(x, low), high)`; the slope at a bound is 0 |
//! | hard sigmoid | `min(max(α·x + β, 0), 1)` |
//! | hard swish | `x·hardsigmoid(x; 1/6, 1/2)` |
//! | softplus, softsign | `ln(1 + eˣ)`, `x/(1 + |x|)` |
//! | mish | `x·tanh(softplus(x))` |
//! | power | `xᵖ` for one `p` |
//!
//! Sources: the ONNX operator definitions; Howard et al. 2019 (hard swish), Clevert et al. 2015 (ELU), Klambauer et al. 2017 (SELU), Misra 2019 (mish).

use crate::matmul::Write;
use crate::parallel::for_each_chunk;
use crate::real::Real;
use crate::simd::vectorised;

/// A function of one number.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Curve {
    Neg,
    Abs,
    Exp,
    Ln,
    Sqrt,
    Reciprocal,
    Erf,
    Sigmoid,
    Tanh,
    Softplus,
    Softsign,
    Mish,
    HardSwish,
    LeakyRelu { alpha: f64 },
    Elu { alpha: f64 },
    Selu { alpha: f64, gamma: f64 },
    Clip { low: f64, high: f64 },
    HardSigmoid { alpha: f64, beta: f64 },
    Power { exponent: f64 },
}

/// Binds `$f` to the function that gives value and slope, once for each curve, so that loops are compiled for each.
macro_rules! by_curve {
    ($curve:expr, $f:ident => $call:expr) => {{
        let (zero, one, half) = (R::ZERO, R::ONE, R::from_f64(0.5));
        let real = |x: f64| R::from_f64(x);
        match $curve {
            Curve::Neg => by_curve!(@ $f, |x: R| (-x, -one), $call),
            Curve::Abs => {
                let sign = |x: R| if x > zero { one } else if x < zero { -one } else { zero };
                by_curve!(@ $f, |x: R| (x.abs(), sign(x)), $call)
            }
            Curve::Exp => by_curve!(@ $f, |x: R| { let y = x.exp(); (y, y) }, $call),
            Curve::Ln => by_curve!(@ $f, |x: R| (x.ln(), one / x), $call),
            Curve::Sqrt => by_curve!(@ $f, |x: R| { let y = x.sqrt(); (y, half / y) }, $call),
            Curve::Reciprocal => by_curve!(@ $f, |x: R| { let y = one / x; (y, -y * y) }, $call),
            Curve::Erf => {
                let scale = real(std::f64::consts::FRAC_2_SQRT_PI);
                by_curve!(@ $f, |x: R| (x.erf(), scale * (-x * x).exp()), $call)
            }
            Curve::Sigmoid => by_curve!(@ $f, |x: R| { let y = one / (one + (-x).exp()); (y, y * (one - y)) }, $call),
            Curve::Tanh => by_curve!(@ $f, |x: R| { let y = x.tanh(); (y, one - y * y) }, $call),
            Curve::Softplus => by_curve!(@ $f, |x: R| (softplus(x), one / (one + (-x).exp())), $call),
            Curve::Softsign => {
                by_curve!(@ $f, |x: R| { let below = one + x.abs(); (x / below, one / (below * below)) }, $call)
            }
            Curve::Mish => by_curve!(@ $f, |x: R| {
                let (tanh, sigmoid) = (softplus(x).tanh(), one / (one + (-x).exp()));
                (x * tanh, tanh + x * sigmoid * (one - tanh * tanh))
            }, $call),
            Curve::HardSwish => {
                let (three, six) = (real(3.0), real(6.0));
                by_curve!(@ $f, |x: R| {
                    let inner = (x + three).max(zero);
                    let inner = if inner > six { six } else { inner };
                    let slope = if inner > zero && inner < six { (x + x + three) / six } else { inner / six };
                    (x * inner / six, slope)
                }, $call)
            }
            Curve::LeakyRelu { alpha } => {
                let alpha = real(alpha);
                by_curve!(@ $f, |x: R| if x > zero { (x, one) } else { (alpha * x, alpha) }, $call)
            }
            Curve::Elu { alpha } => {
                let alpha = real(alpha);
                by_curve!(@ $f, |x: R| { let e = alpha * x.exp(); if x > zero { (x, one) } else { (e - alpha, e) } }, $call)
            }
            Curve::Selu { alpha, gamma } => {
                let (below, gamma) = (real(alpha * gamma), real(gamma));
                by_curve!(@ $f, |x: R| {
                    let e = below * x.exp();
                    if x > zero { (gamma * x, gamma) } else { (e - below, e) }
                }, $call)
            }
            Curve::Clip { low, high } => {
                let (low, high) = (real(low), real(high));
                by_curve!(@ $f, |x: R| {
                    let y = if x < low { low } else { x };
                    let y = if y > high { high } else { y };
                    (y, if x > low && x < high { one } else { zero })
                }, $call)
            }
            Curve::HardSigmoid { alpha, beta } => {
                let (alpha, beta) = (real(alpha), real(beta));
                by_curve!(@ $f, |x: R| {
                    let inner = alpha * x + beta;
                    let y = if inner > one { one } else { inner.max(zero) };
                    (y, if inner > zero && inner < one { alpha } else { zero })
                }, $call)
            }
            Curve::Power { exponent } => {
                let (p, less) = (real(exponent), real(exponent - 1.0));
                by_curve!(@ $f, |x: R| (x.powf(p), p * x.powf(less)), $call)
            }
        }
    }};
    (@ $f:ident, $closure:expr, $call:expr) => {{
        let $f = $closure;
        $call
    }};
}

/// `ln(1 + eˣ)`, without overflow.
#[inline(always)]
fn softplus<R: Real>(x: R) -> R {
    x.max(R::ZERO) + (R::ONE + (-x.abs()).exp()).ln()
}

vectorised! {
    fn curve_here<R: Real>(curve: Curve, x: &[R], y: &mut [R]) {
        by_curve!(curve, f => y.iter_mut().zip(x).for_each(|(y, &x)| *y = f(x).0))
    }
}

vectorised! {
    fn curve_grad_here<R: Real>(curve: Curve, x: &[R], dy: &[R], dx: &mut [R], write: Write) {
        let terms = dx.iter_mut().zip(x.iter().zip(dy));
        by_curve!(curve, f => match write {
            Write::Set => terms.for_each(|(dx, (&x, &dy))| *dx = dy * f(x).1),
            Write::Add => terms.for_each(|(dx, (&x, &dy))| *dx += dy * f(x).1),
        })
    }
}

/// `y = f(x)`.
///
/// # Panics
/// When the lengths differ.
pub fn curve<R: Real>(curve: Curve, x: &[R], y: &mut [R]) {
    assert_eq!(x.len(), y.len(), "curve of unlike lengths");
    for_each_chunk(y, |range, y| curve_here(curve, &x[range], y));
}

/// `dx (+)= dy·f′(x)`.
///
/// # Panics
/// When the lengths differ.
pub fn curve_grad<R: Real>(curve: Curve, x: &[R], dy: &[R], dx: &mut [R], write: Write) {
    assert!(x.len() == dx.len() && dy.len() == dx.len(), "curve gradient of unlike lengths");
    for_each_chunk(dx, |range, dx| curve_grad_here(curve, &x[range.clone()], &dy[range], dx, write));
}
