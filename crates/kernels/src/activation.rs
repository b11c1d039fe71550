//! Activation functions, alone and gated (SwiGLU, GeGLU), with their derivatives.
//!
//! | name | formula |
//! |---|---|
//! | SiLU | `x·σ(x)` |
//! | GELU | `x·Φ(x) = x/2·(1 + erf(x/√2))` |
//! | GELU, tanh form | `x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³)))` |
//! | ReLU | `max(x, 0)` |
//!
//! Sources: Hendrycks and Gimpel 2016 (GELU), Elfwing et al. 2017 (SiLU), Shazeer 2020 (gated units).

use crate::matmul::Write;
use crate::parallel::{for_each_chunk, for_each_chunk2};
use crate::real::Real;
use crate::simd::vectorised;

/// An activation function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x·σ(x)`.
    Silu,
    /// `x·Φ(x)`, exact.
    Gelu,
    /// `x·Φ(x)` in its tanh approximation.
    GeluTanh,
    /// `max(x, 0)`.
    Relu,
}

/// Value and derivative of an activation at a point, as one type per function so that loops are compiled for each.
trait Function {
    fn value<R: Real>(x: R) -> R;
    fn value_and_slope<R: Real>(x: R) -> (R, R);
}

struct Silu;
impl Function for Silu {
    #[inline(always)]
    fn value<R: Real>(x: R) -> R {
        x / (R::ONE + (-x).exp())
    }
    #[inline(always)]
    fn value_and_slope<R: Real>(x: R) -> (R, R) {
        let sigmoid = R::ONE / (R::ONE + (-x).exp());
        let value = x * sigmoid;
        (value, sigmoid + value * (R::ONE - sigmoid))
    }
}

struct Gelu;
impl Function for Gelu {
    #[inline(always)]
    fn value<R: Real>(x: R) -> R {
        let half = R::from_f64(0.5) * x;
        half + half * (x * R::from_f64(std::f64::consts::FRAC_1_SQRT_2)).erf()
    }
    #[inline(always)]
    fn value_and_slope<R: Real>(x: R) -> (R, R) {
        let half = R::from_f64(0.5);
        let phi = half + half * (x * R::from_f64(std::f64::consts::FRAC_1_SQRT_2)).erf();
        let density = (-half * x * x).exp() * R::from_f64(0.398_942_280_401_432_7);
        (x * phi, phi + x * density)
    }
}

struct GeluTanh;
impl GeluTanh {
    /// `√(2/π)`.
    const SCALE: f64 = 0.797_884_560_802_865_4;
    const CUBIC: f64 = 0.044_715;

    /// `(1 + tanh u)/2 = σ(2u)`, which needs one exponential, and the derivative of `2u`.
    #[inline(always)]
    fn gate<R: Real>(x: R) -> (R, R) {
        let (scale, cubic) = (R::from_f64(2.0 * Self::SCALE), R::from_f64(2.0 * Self::SCALE * Self::CUBIC));
        let square = x * x;
        let inner = x * (scale + cubic * square);
        (R::ONE / (R::ONE + (-inner).exp()), scale + R::from_f64(3.0) * cubic * square)
    }
}
impl Function for GeluTanh {
    #[inline(always)]
    fn value<R: Real>(x: R) -> R {
        x * Self::gate(x).0
    }
    #[inline(always)]
    fn value_and_slope<R: Real>(x: R) -> (R, R) {
        let (gate, slope) = Self::gate(x);
        (x * gate, gate + x * gate * (R::ONE - gate) * slope)
    }
}

struct Relu;
impl Function for Relu {
    #[inline(always)]
    fn value<R: Real>(x: R) -> R {
        x.max(R::ZERO)
    }
    #[inline(always)]
    fn value_and_slope<R: Real>(x: R) -> (R, R) {
        (x.max(R::ZERO), if x > R::ZERO { R::ONE } else { R::ZERO })
    }
}

/// Calls `$function::<F>(..)` for the type `F` of an [`Activation`].
macro_rules! by_activation {
    ($activation:expr, $F:ident => $call:expr) => {
        match $activation {
            Activation::Silu => {
                type $F = Silu;
                $call
            }
            Activation::Gelu => {
                type $F = Gelu;
                $call
            }
            Activation::GeluTanh => {
                type $F = GeluTanh;
                $call
            }
            Activation::Relu => {
                type $F = Relu;
                $call
            }
        }
    };
}

vectorised! {
    fn activate_here<R: Real>(activation: Activation, x: &[R], y: &mut [R]) {
        by_activation!(activation, F => y.iter_mut().zip(x).for_each(|(y, &x)| *y = F::value(x)))
    }
}

vectorised! {
    fn activate_grad_here<R: Real>(activation: Activation, x: &[R], dy: &[R], dx: &mut [R], write: Write) {
        by_activation!(activation, F => {
            let terms = dx.iter_mut().zip(x.iter().zip(dy));
            match write {
                Write::Set => terms.for_each(|(dx, (&x, &dy))| *dx = dy * F::value_and_slope(x).1),
                Write::Add => terms.for_each(|(dx, (&x, &dy))| *dx += dy * F::value_and_slope(x).1),
            }
        })
    }
}

vectorised! {
    fn gated_here<R: Real>(activation: Activation, gate: &[R], up: &[R], y: &mut [R]) {
        by_activation!(activation, F => {
            y.iter_mut().zip(gate.iter().zip(up)).for_each(|(y, (&gate, &up))| *y = F::value(gate) * up)
        })
    }
}

vectorised! {
    fn gated_grad_here<R: Real>(
        activation: Activation,
        gate: &[R],
        up: &[R],
        dy: &[R],
        dgate: &mut [R],
        dup: &mut [R],
    ) {
        let outputs = dgate.iter_mut().zip(dup);
        let inputs = gate.iter().zip(up).zip(dy);
        by_activation!(activation, F => {
            outputs.zip(inputs).for_each(|((dgate, dup), ((&gate, &up), &dy))| {
                let (value, slope) = F::value_and_slope(gate);
                *dup = dy * value;
                *dgate = dy * up * slope;
            })
        })
    }
}

/// `y = f(x)`.
///
/// # Panics
/// When the lengths differ.
pub fn activate<R: Real>(activation: Activation, x: &[R], y: &mut [R]) {
    assert_eq!(x.len(), y.len(), "activation of unlike lengths");
    for_each_chunk(y, |range, y| activate_here(activation, &x[range], y));
}

/// `dx (+)= dy·f′(x)`.
///
/// # Panics
/// When the lengths differ.
pub fn activate_grad<R: Real>(activation: Activation, x: &[R], dy: &[R], dx: &mut [R], write: Write) {
    assert!(x.len() == dx.len() && dy.len() == dx.len(), "activation gradient of unlike lengths");
    for_each_chunk(dx, |range, dx| activate_grad_here(activation, &x[range.clone()], &dy[range], dx, write));
}

/// A gated unit: `y = f(gate)·up`. SwiGLU is [`Activation::Silu`], GeGLU a GELU.
///
/// # Panics
/// When the lengths differ.
pub fn gated<R: Real>(activation: Activation, gate: &[R], up: &[R], y: &mut [R]) {
    assert!(gate.len() == y.len() && up.len() == y.len(), "gated unit of unlike lengths");
    for_each_chunk(y, |range, y| gated_here(activation, &gate[range.clone()], &up[range], y));
}

/// The gradients of [`gated`]: `dgate = dy·up·f′(gate)`, `dup = dy·f(gate)`.
///
/// # Panics
/// When the lengths differ.
pub fn gated_grad<R: Real>(activation: Activation, gate: &[R], up: &[R], dy: &[R], dgate: &mut [R], dup: &mut [R]) {
    let len = gate.len();
    assert!([up.len(), dy.len(), dgate.len(), dup.len()] == [len; 4], "gated unit gradient of unlike lengths");
    for_each_chunk2(dgate, dup, |range, dgate, dup| {
        gated_grad_here(activation, &gate[range.clone()], &up[range.clone()], &dy[range], dgate, dup);
    });
}
