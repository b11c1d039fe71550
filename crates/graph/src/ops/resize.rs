//! Another number of points along some axes, by nearest neighbour, linear or cubic interpolation.
//!
//! Output index `i` lies at input coordinate `x(i)` by [`Coordinates`], where `scale` is output points per input point.
//! Nearest takes the input at `x` rounded by [`Rounding`]; linear and cubic weigh 2 or 4 neighbours, indices beyond the border
//! being those of the border. Source: ONNX, operator Resize.

use super::{OpSpec, ShapeError, Typed, float, show, wrong};
use crate::{Axes, Dim, Kind, Port, WeightStore};

/// Where output index `i` lies in the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coordinates {
    /// `(i + ½) / scale − ½`.
    HalfPixel,
    /// The same, but 0 where the output has one point.
    HalfPixelOrOrigin,
    /// `i / scale`.
    Asymmetric,
    /// `i · (input − 1) / (output − 1)`.
    AlignCorners,
}

/// Which input a coordinate is rounded to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// The nearest, halves down.
    HalfDown,
    /// The nearest, halves up.
    HalfUp,
    /// Down.
    Floor,
    /// Up.
    Ceil,
}

/// How numbers between points are found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Interpolation {
    /// Not at all: the nearest point.
    Nearest(Rounding),
    /// Along a line.
    Linear,
    /// By cubic convolution with this coefficient (ONNX: −0.75).
    Cubic(f32),
}

/// One resized axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Resized {
    /// Which.
    pub axis: usize,
    /// Points it gets.
    pub points: usize,
    /// Output points per input point, which need not be their exact ratio.
    pub scale: f32,
}

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Resize {
    /// How.
    pub interpolation: Interpolation,
    /// Where points lie.
    pub coordinates: Coordinates,
    /// Which axes; the others stay.
    pub axes: Vec<Resized>,
}

impl OpSpec for Resize {
    fn outputs(&self, inputs: &[Typed], _weights: &WeightStore) -> Result<Vec<Typed>, ShapeError> {
        let shape = float(inputs, 0)?;
        let mut made = shape.clone();
        for to in &self.axes {
            match made.get_mut(to.axis) {
                Some(dim @ Dim::Fixed(1..)) if to.points > 0 && to.scale > 0.0 => *dim = Dim::Fixed(to.points),
                _ => return wrong(format!("axis {} of {} to {} points", to.axis, show(shape), to.points)),
            }
        }
        Ok(vec![(Kind::Float, made)])
    }

    fn axes(&self, inputs: &[Typed]) -> Axes {
        (0..inputs[0].1.len()).fold(Axes::default(), |axes, axis| {
            let (from, to) = ((Port::Input(0), axis), (Port::Output(0), axis));
            match self.axes.iter().any(|r| r.axis == axis) {
                true => axes.freeze(from).freeze(to),
                false => axes.same(from, to),
            }
        })
    }
}
