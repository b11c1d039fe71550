//! Resampling, axis by axis: each output is a weighted sum of a few inputs along its axis, from a table that follows ONNX's
//! conventions; coordinates are f32, as onnxruntime computes them, so that both round to the same point.

use super::Rule;
use crate::backward::Backward;
use crate::forward::Forward;
use crate::{Data, Error, Scalar};
use graph::ops::{Coordinates, Interpolation, Resize, Resized, Rounding};
use kernels::{Along, Resample, Write};

/// Where output `i` lies in the input.
fn coordinate(op: &Resize, to: &Resized, length: usize, i: usize) -> f32 {
    let at = i as f32;
    match op.coordinates {
        Coordinates::HalfPixelOrOrigin if to.points == 1 => 0.0,
        Coordinates::HalfPixel | Coordinates::HalfPixelOrOrigin => (at + 0.5) / to.scale - 0.5,
        Coordinates::Asymmetric => at / to.scale,
        Coordinates::AlignCorners if to.points == 1 => 0.0,
        Coordinates::AlignCorners => at * (length - 1) as f32 / (to.points - 1) as f32,
    }
}

fn round(x: f32, rounding: Rounding) -> f32 {
    match rounding {
        Rounding::HalfDown => (x - 0.5).ceil(),
        Rounding::HalfUp => (x + 0.5).floor(),
        Rounding::Floor => x.floor(),
        Rounding::Ceil => x.ceil(),
    }
}

/// The inputs that an output at `x` sums. An input beyond the border is that of the border.
fn terms(interpolation: Interpolation, x: f32, length: usize) -> Vec<(usize, f64)> {
    let border = |at: f32| at.clamp(0.0, (length - 1) as f32) as usize;
    match interpolation {
        Interpolation::Nearest(rounding) => vec![(border(round(x, rounding)), 1.0)],
        Interpolation::Linear => {
            let x = x.clamp(0.0, (length - 1) as f32);
            let part = f64::from(x - x.floor());
            vec![(border(x.floor()), 1.0 - part), (border(x.floor() + 1.0), part)]
        }
        Interpolation::Cubic(a) => {
            let (a, part) = (f64::from(a), f64::from(x - x.floor()));
            let near = |d: f64| ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0;
            let far = |d: f64| ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a;
            let weights = [far(part + 1.0), near(part), near(1.0 - part), far(2.0 - part)];
            let places = [-1.0, 0.0, 1.0, 2.0].map(|step| border(x.floor() + step));
            places.into_iter().zip(weights).collect()
        }
    }
}

fn table(op: &Resize, to: &Resized, length: usize) -> Resample {
    let terms = (0..to.points).map(|i| terms(op.interpolation, coordinate(op, to, length, i), length)).collect();
    Resample { source: length, terms }
}

/// The shapes before each axis is resampled.
fn shapes(op: &Resize, shape: &[usize]) -> Vec<Vec<usize>> {
    let mut shapes = vec![shape.to_vec()];
    for to in &op.axes {
        let mut next = shapes[shapes.len() - 1].clone();
        next[to.axis] = to.points;
        shapes.push(next);
    }
    shapes
}

impl<R: Scalar> Rule<R> for Resize {
    fn forward(&self, cx: &mut Forward<'_, R>) -> Result<Vec<Data<R>>, Error> {
        let mut x = cx.owned(0)?;
        for to in &self.axes {
            let mut shape = x.shape().to_vec();
            let along = Along::axis(&shape, to.axis);
            shape[to.axis] = to.points;
            let mut y = cx.pool.tensor(shape);
            kernels::resample(&table(self, to, along.length), along, x.data(), y.data_mut());
            cx.pool.give(std::mem::replace(&mut x, y).into_data());
        }
        Ok(vec![x.into()])
    }

    fn backward(&self, cx: &mut Backward<'_, R>) -> Result<(), Error> {
        let mut d = cx.grad(0)?;
        let shapes = shapes(self, cx.shape(0)?);
        for (to, shape) in self.axes.iter().zip(&shapes).rev() {
            let along = Along::axis(shape, to.axis);
            let mut dx = cx.pool.tensor(shape.clone());
            kernels::resample_grad(&table(self, to, along.length), along, d.data(), dx.data_mut(), Write::Set);
            cx.recycle(std::mem::replace(&mut d, dx));
        }
        cx.add_grad(0, d);
        Ok(())
    }
}
