//! An op that nobody can look into: a graph that needs its result does not run.

use super::Rule;
use crate::backward::Backward;
use crate::forward::Forward;
use crate::{Data, Error, Scalar};
use graph::ops::Opaque;

impl<R: Scalar> Rule<R> for Opaque {
    fn forward(&self, cx: &mut Forward<'_, R>) -> Result<Vec<Data<R>>, Error> {
        let reason = format!("nothing runs the op {}: {}", self.name, self.reason);
        Err(Error::Unrunnable { node: cx.node.name.clone(), reason })
    }

    fn backward(&self, cx: &mut Backward<'_, R>) -> Result<(), Error> {
        Err(Error::Unrunnable { node: cx.node.name.clone(), reason: format!("nothing runs the op {}", self.name) })
    }
}
