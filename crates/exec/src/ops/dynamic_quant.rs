//! Numbers rounded to the grid of their own range. Backward: `dy` passes, as nothing is clamped.

use super::Rule;
use crate::backward::Backward;
use crate::forward::Forward;
use crate::{Data, Error, Scalar};
use graph::ops::DynamicQuant;
use kernels::{Along, QuantRange};

impl<R: Scalar> Rule<R> for DynamicQuant {
    fn forward(&self, cx: &mut Forward<'_, R>) -> Result<Vec<Data<R>>, Error> {
        let x = cx.float(0)?;
        let (zero, all) = (R::from_f64(0.0), x.data());
        let low = all.iter().fold(zero, |least, x| if *x < least { *x } else { least });
        let high = all.iter().fold(zero, |most, x| if *x > most { *x } else { most });
        let scale = if high > low { (high - low) / R::from_f64(255.0) } else { R::from_f64(1.0) };
        let shift = (R::from_f64(0.0) - low) / scale;
        let zeros = [shift.to_f64().round_ties_even().clamp(0.0, 255.0) as i32];
        let along = Along { outer: 1, length: 1, inner: all.len() };
        let quant =
            kernels::FakeQuant { along, range: QuantRange { low: 0, high: 255 }, scales: &[scale], zeros: &zeros };
        let mut y = cx.pool.tensor(x.shape().to_vec());
        kernels::fake_quant(&quant, all, y.data_mut());
        Ok(vec![y.into()])
    }

    fn backward(&self, cx: &mut Backward<'_, R>) -> Result<(), Error> {
        let dy = cx.grad(0)?;
        cx.add_grad(0, dy);
        Ok(())
    }
}
