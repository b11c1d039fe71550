//! A function of each number. Backward: `dx = dy · f′(x)`; the soft cap's slope is `1 − (y / cap)²`. ReLU works in place both ways: its
//! output tells the slope.

use super::Rule;
use crate::backward::Backward;
use crate::forward::Forward;
use crate::{Data, Error, Scalar};
use graph::ops::Activation;
use kernels::{Curve, Write};

/// What computes an activation.
pub(crate) enum Function {
    /// A kernel that can also gate.
    Gate(kernels::Activation),
    /// The soft cap, with its cap.
    SoftCap(f32),
    /// Any other.
    Curve(Curve),
}

impl From<Activation> for Function {
    fn from(activation: Activation) -> Function {
        let wide = f64::from;
        let curve = match activation {
            Activation::Silu => return Function::Gate(kernels::Activation::Silu),
            Activation::Gelu => return Function::Gate(kernels::Activation::Gelu),
            Activation::GeluTanh => return Function::Gate(kernels::Activation::GeluTanh),
            Activation::Relu => return Function::Gate(kernels::Activation::Relu),
            Activation::SoftCap(cap) => return Function::SoftCap(cap),
            Activation::LeakyRelu(slope) => Curve::LeakyRelu { alpha: wide(slope) },
            Activation::Elu(alpha) => Curve::Elu { alpha: wide(alpha) },
            Activation::Clip(low, high) => Curve::Clip { low: wide(low), high: wide(high) },
            Activation::HardSigmoid(alpha, beta) => Curve::HardSigmoid { alpha: wide(alpha), beta: wide(beta) },
            Activation::HardSwish => Curve::HardSwish,
            Activation::Sigmoid => Curve::Sigmoid,
            Activation::Tanh => Curve::Tanh,
            Activation::Mish => Curve::Mish,
            Activation::Softplus => Curve::Softplus,
            Activation::Softsign => Curve::Softsign,
            Activation::Erf => Curve::Erf,
            Activation::Exp => Curve::Exp,
            Activation::Log => Curve::Ln,
            Activation::Sqrt => Curve::Sqrt,
            Activation::Abs => Curve::Abs,
            Activation::Neg => Curve::Neg,
            Activation::Reciprocal => Curve::Reciprocal,
        };
        Function::Curve(curve)
    }
}

/// `y = f(x)`.
pub(crate) fn apply<R: Scalar>(activation: Activation, x: &[R], y: &mut [R]) {
    match activation.into() {
        Function::Gate(function) => kernels::activate(function, x, y),
        Function::SoftCap(cap) => kernels::soft_cap(R::from_f32(cap), x, y),
        Function::Curve(curve) => kernels::curve(curve, x, y),
    }
}

/// `dx (+)= dy · f′(x)`.
pub(crate) fn apply_grad<R: Scalar>(activation: Activation, x: &[R], dy: &[R], dx: &mut [R], write: Write) {
    match activation.into() {
        Function::Gate(function) => kernels::activate_grad(function, x, dy, dx, write),
        Function::SoftCap(cap) => kernels::soft_cap_grad(R::from_f32(cap), x, dy, dx, write),
        Function::Curve(curve) => kernels::curve_grad(curve, x, dy, dx, write),
    }
}

impl<R: Scalar> Rule<R> for Activation {
    fn forward(&self, cx: &mut Forward<'_, R>) -> Result<Vec<Data<R>>, Error> {
        if *self == Activation::Relu {
            let mut y = cx.owned(0)?;
            kernels::rectify(y.data_mut());
            return Ok(vec![y.into()]);
        }
        let x = cx.float(0)?;
        let mut y = cx.pool.tensor(x.shape().to_vec());
        apply(*self, x.data(), y.data_mut());
        Ok(vec![y.into()])
    }

    fn backward(&self, cx: &mut Backward<'_, R>) -> Result<(), Error> {
        let mut dy = cx.grad(0)?;
        if *self == Activation::Relu {
            kernels::rectify_grad(cx.output(0)?.data(), dy.data_mut());
            cx.add_grad(0, dy);
            return Ok(());
        }
        let x = cx.input(0)?;
        cx.input_grad(0, x.shape(), |dx, write| apply_grad(*self, x.data(), dy.data(), dx, write));
        cx.recycle(dy);
        Ok(())
    }

    fn keeps_input(&self, _input: usize) -> bool {
        *self != Activation::Relu
    }

    fn keeps_outputs(&self) -> bool {
        *self == Activation::Relu
    }
}
