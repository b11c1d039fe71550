//! `f(gate) · up`: an activation and the product that alone reads it, in one pass (SwiGLU, GeGLU).

use super::Rule;
use crate::backward::Backward;
use crate::forward::Forward;
use crate::{Data, Error, Scalar};

/// Which activation, and which input of the product it is applied to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Gated {
    pub activation: kernels::Activation,
    /// 0 or 1; the other input is multiplied as it is.
    pub gate: usize,
}

impl<R: Scalar> Rule<R> for Gated {
    fn forward(&self, cx: &mut Forward<'_, R>) -> Result<Vec<Data<R>>, Error> {
        let (gate, up) = (cx.float(self.gate)?, cx.float(1 - self.gate)?);
        let mut y = cx.pool.tensor(up.shape().to_vec());
        kernels::gated(self.activation, gate.data(), up.data(), y.data_mut());
        Ok(vec![y.into()])
    }

    fn backward(&self, cx: &mut Backward<'_, R>) -> Result<(), Error> {
        let (gate, up, dy) = (cx.input(self.gate)?, cx.input(1 - self.gate)?, cx.grad(0)?);
        let mut grads = [(); 2].map(|()| cx.pool.tensor(up.shape().to_vec()));
        let [dgate, dup] = &mut grads;
        kernels::gated_grad(self.activation, gate.data(), up.data(), dy.data(), dgate.data_mut(), dup.data_mut());
        let [dgate, dup] = grads;
        cx.add_grad(self.gate, dgate);
        cx.add_grad(1 - self.gate, dup);
        cx.recycle(dy);
        Ok(())
    }

    fn keeps_input(&self, _input: usize) -> bool {
        true
    }
}
