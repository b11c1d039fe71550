//! `y = x · Wᵀ + b`, `W` of shape `[out, in]`.

use super::{Cost, OpSpec, ShapeError, Typed, expect, rows, width, with_width, wrong};
use crate::{Axes, Kind, Port, Size, WeightId, WeightStore};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Linear {
    /// `[out, in]`.
    pub weight: WeightId,
    /// `[out]`.
    pub bias: Option<WeightId>,
}

impl OpSpec for Linear {
    fn outputs(&self, inputs: &[Typed], weights: &WeightStore) -> Result<Vec<Typed>, ShapeError> {
        let width = width(inputs, 0)?;
        let weight = weights.get(self.weight);
        let [out, input] = weight.shape[..] else {
            return wrong(format!("weight `{}` has shape {:?}, expected [out, in]", weight.name, weight.shape));
        };
        if input != width {
            return wrong(format!("weight `{}` takes {input} inputs, its value has {width}", weight.name));
        }
        self.bias.map_or(Ok(()), |bias| expect(weights, bias, &[out]))?;
        Ok(vec![(Kind::Float, with_width(&inputs[0].1, out))])
    }

    fn axes(&self, inputs: &[Typed]) -> Axes {
        let last = inputs[0].1.len() - 1;
        let axes = Axes::rowwise(last + 1)
            .same((Port::Input(0), last), (Port::Weight(0), 1))
            .same((Port::Output(0), last), (Port::Weight(0), 0));
        match self.bias {
            Some(_) => axes.same((Port::Output(0), last), (Port::Weight(1), 0)),
            None => axes,
        }
    }

    fn weights(&self) -> Vec<WeightId> {
        [Some(self.weight), self.bias].into_iter().flatten().collect()
    }

    fn factors(&self) -> Vec<WeightId> {
        vec![self.weight]
    }

    fn cost(&self, inputs: &[Typed], weights: &WeightStore, size: Size) -> Cost {
        Cost { macs: rows(size, &inputs[0].1) * weights.get(self.weight).elements() as u64 }
    }
}
