//! Rotary position embedding, in place. Backward: the rotation back.

use super::Rule;
use crate::backward::Backward;
use crate::forward::Forward;
use crate::{Data, Error, Scalar, Tensor};
use graph::ops::Rope;
use kernels::{RopeShape, Rotation};
use std::collections::HashMap;
use std::ops::Range;

/// Cosines and sines of every position met so far, one pair of tables for each set of frequencies.
pub(crate) struct RopeTables<R> {
    tables: HashMap<Vec<u32>, (Vec<R>, Vec<R>)>,
}

impl<R> Default for RopeTables<R> {
    fn default() -> RopeTables<R> {
        RopeTables { tables: HashMap::new() }
    }
}

impl<R: Scalar> RopeTables<R> {
    /// The tables' rows for these positions.
    fn rows(&mut self, op: &Rope, positions: Range<usize>) -> (&[R], &[R]) {
        let pairs = op.frequencies.len();
        let key = op.frequencies.iter().chain([&op.scale]).map(|f| f.to_bits()).collect();
        let (cos, sin) = self.tables.entry(key).or_default();
        if cos.len() < positions.end * pairs {
            let frequencies: Vec<f64> = op.frequencies.iter().map(|f| f64::from(*f)).collect();
            let all = 0..positions.end.next_power_of_two();
            (*cos, *sin) = kernels::rope_tables(all, &frequencies, f64::from(op.scale));
        }
        let span = positions.start * pairs..positions.end * pairs;
        (&cos[span.clone()], &sin[span])
    }
}

fn rotate<R: Scalar>(op: &Rope, x: &mut Tensor<R>, tables: &mut RopeTables<R>, past: usize, rotation: Rotation) {
    let tokens = x.shape().iter().rev().nth(1).copied().unwrap_or(1);
    let shape =
        RopeShape { heads: x.width() / op.head_dim, head_dim: op.head_dim, rotary_dim: 2 * op.frequencies.len() };
    let (cos, sin) = tables.rows(op, past..past + tokens);
    kernels::rope(x.data_mut(), shape, cos, sin, rotation);
}

impl<R: Scalar> Rule<R> for Rope {
    fn forward(&self, cx: &mut Forward<'_, R>) -> Result<Vec<Data<R>>, Error> {
        let mut x = cx.owned(0)?;
        let past = cx.past();
        rotate(self, &mut x, cx.rope, past, Rotation::Forward);
        Ok(vec![x.into()])
    }

    fn backward(&self, cx: &mut Backward<'_, R>) -> Result<(), Error> {
        let mut dy = cx.grad(0)?;
        rotate(self, &mut dy, cx.rope, 0, Rotation::Backward);
        cx.add_grad(0, dy);
        Ok(())
    }
}
