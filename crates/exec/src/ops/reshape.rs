//! The same numbers under another shape; nothing moves where nothing else reads them. Backward: the old shape.

use super::Rule;
use crate::backward::Backward;
use crate::forward::Forward;
use crate::{Data, Error, Scalar, Tensor};
use graph::ops::Reshape;

impl<R: Scalar> Rule<R> for Reshape {
    fn forward(&self, cx: &mut Forward<'_, R>) -> Result<Vec<Data<R>>, Error> {
        let size = cx.size();
        let shape = self.shape.iter().map(|dim| size.of(*dim)).collect();
        Ok(vec![Tensor::new(shape, cx.owned(0)?.into_data())?.into()])
    }

    fn backward(&self, cx: &mut Backward<'_, R>) -> Result<(), Error> {
        let dy = cx.grad(0)?;
        let dx = Tensor::new(cx.shape(0)?.to_vec(), dy.into_data())?;
        cx.add_grad(0, dx);
        Ok(())
    }
}
