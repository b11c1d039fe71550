//! Normalisation of the channels of `[batch, channels, area]`: batch norm, live or frozen, and group norm (instance norm is
//! one channel per group).
//!
//! `y = (x − mean)/√(var + ε)·w + b`. Batch norm takes mean and variance over batch and area of each channel (Ioffe and Szegedy 2015),
//! or takes given ones; group norm over the channels of a group and their area (Wu and He 2018). Variances are the biased ones.
//!
//! Everything works on *planes*, the `area` numbers of one image and channel: their moments, their sums with a gradient, and a map
//! `k₁·x + k₂` or `k₁·dy + k₂·(x − mean) + k₃`. Sums within a plane run in lanes, sums of planes in `f64`.

use crate::matmul::Write;
use crate::parallel::{Rows, map_blocks, map_tasks};
use crate::real::Real;
use crate::simd::{lane_sum, vectorised};

/// A value as images of channels of planes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Channels {
    /// Images.
    pub batch: usize,
    /// Channels of an image.
    pub channels: usize,
    /// Numbers of a channel: height times width.
    pub area: usize,
}

impl Channels {
    fn planes(&self) -> usize {
        self.batch * self.channels
    }

    fn check(&self, lengths: &[usize]) {
        let len = self.planes() * self.area;
        assert!(lengths.iter().all(|l| *l == len) && self.area > 0, "channels of unlike lengths");
    }

    /// Planes that one task takes.
    fn block(&self) -> usize {
        (1usize << 15).div_ceil(self.area.max(1))
    }
}

/// Mean and biased variance.
pub type Moments<R> = [R; 2];

/// The affine part of a norm, one number per channel each.
#[derive(Clone, Copy, Debug)]
pub struct Affine<'a, R> {
    /// Factors.
    pub weight: &'a [R],
    /// Added after.
    pub bias: &'a [R],
}

/// What a plane's gradient depends on.
#[derive(Clone, Copy, Default)]
struct Plane<R> {
    mean: R,
    /// The forward: `scale·x + shift`.
    scale: R,
    shift: R,
    /// The backward beside `scale·dy`: `slope·(x − mean) + offset`.
    slope: R,
    offset: R,
}

vectorised! {
    /// Mean and sum of squared distances from it.
    fn moments_here<R: Real>(x: &[R]) -> [f64; 2] {
        let count = x.len() as f64;
        let mean = blocks([x, x], |[x, _], sum| sum + x) / count;
        let center = R::from_f64(mean);
        let squares = blocks([x, x], |[x, _], sum| (x - center).mul_add(x - center, sum));
        [mean, squares]
    }
}

/// A sum in lanes within blocks of 4096, blocks in `f64`.
#[inline(always)]
fn blocks<R: Real>([a, b]: [&[R]; 2], term: impl Fn([R; 2], R) -> R + Copy) -> f64 {
    let mut total = 0.0;
    for (a, b) in a.chunks(4096).zip(b.chunks(4096)) {
        total += lane_sum([a, b], term).to_f64();
    }
    total
}

/// `[mean, Σ (x − mean)²]` of each plane.
fn plane_moments<R: Real>(shape: &Channels, x: &[R]) -> Vec<[f64; 2]> {
    let planes: Vec<_> = x.chunks(shape.block() * shape.area).collect();
    map_tasks(planes, |planes: &[R]| planes.chunks(shape.area).map(|x| moments_here(x)).collect::<Vec<_>>()).concat()
}

/// The moments of several planes of one size together.
fn merge<R: Real>(planes: impl Iterator<Item = [f64; 2]> + Clone, area: usize) -> Moments<R> {
    let count = planes.clone().count().max(1) as f64;
    let mean = planes.clone().map(|[mean, _]| mean).sum::<f64>() / count;
    let within = planes.clone().map(|[_, squares]| squares).sum::<f64>() / area as f64;
    let between = planes.map(|[at, _]| (at - mean) * (at - mean)).sum::<f64>();
    [R::from_f64(mean), R::from_f64((within + between) / count)]
}

/// Mean and biased variance of each channel, over batch and area.
///
/// # Panics
/// When the lengths do not agree.
pub fn channel_moments<R: Real>(shape: &Channels, x: &[R]) -> Vec<Moments<R>> {
    shape.check(&[x.len()]);
    let planes = plane_moments(shape, x);
    let of = |channel: usize| planes.iter().skip(channel).step_by(shape.channels).copied();
    (0..shape.channels).map(|channel| merge(of(channel), shape.area)).collect()
}

/// Mean and biased variance of each image's groups of channels.
///
/// # Panics
/// When the lengths do not agree.
pub fn group_moments<R: Real>(shape: &Channels, groups: usize, x: &[R]) -> Vec<Moments<R>> {
    shape.check(&[x.len()]);
    assert!(groups > 0 && shape.channels.is_multiple_of(groups), "channels in groups");
    let planes = plane_moments(shape, x);
    planes.chunks(shape.channels / groups).map(|of| merge(of.iter().copied(), shape.area)).collect()
}

vectorised! {
    fn map_here<R: Real>(plane: Plane<R>, x: &[R], y: &mut [R]) {
        y.iter_mut().zip(x).for_each(|(y, &x)| *y = plane.scale.mul_add(x, plane.shift));
    }
}

vectorised! {
    /// `Σ dy` and `Σ dy·(x − mean)`.
    fn sums_here<R: Real>(plane: Plane<R>, x: &[R], dy: &[R]) -> [f64; 2] {
        [blocks([x, dy], |[_, dy], sum| sum + dy), blocks([x, dy], |[x, dy], sum| dy.mul_add(x - plane.mean, sum))]
    }
}

vectorised! {
    fn grad_here<R: Real>(plane: Plane<R>, x: &[R], dy: &[R], dx: &mut [R], write: Write) {
        let terms = dx.iter_mut().zip(x.iter().zip(dy));
        let term = |x: R, dy: R| plane.scale.mul_add(dy, plane.slope.mul_add(x - plane.mean, plane.offset));
        match write {
            Write::Set => terms.for_each(|(dx, (&x, &dy))| *dx = term(x, dy)),
            Write::Add => terms.for_each(|(dx, (&x, &dy))| *dx += term(x, dy)),
        }
    }
}

/// Each plane's forward map.
fn planes<R: Real>(
    shape: &Channels,
    affine: &Affine<'_, R>,
    eps: f64,
    moments: impl Fn(usize, usize) -> Moments<R>,
) -> Vec<Plane<R>> {
    assert!([affine.weight.len(), affine.bias.len()] == [shape.channels; 2], "one weight and bias per channel");
    let plane = |at: usize| {
        let channel = at % shape.channels;
        let [mean, variance] = moments(at / shape.channels, channel);
        let scale = R::from_f64(affine.weight[channel].to_f64() / (variance.to_f64() + eps).sqrt());
        let shift = R::from_f64(affine.bias[channel].to_f64() - mean.to_f64() * scale.to_f64());
        Plane { mean, scale, shift, ..Plane::default() }
    };
    (0..shape.planes()).map(plane).collect()
}

fn run_forward<R: Real>(shape: &Channels, planes: &[Plane<R>], x: &[R], y: &mut [R]) {
    shape.check(&[x.len(), y.len()]);
    map_blocks(planes.len(), shape.block(), Rows::new(y, shape.area), Rows::<R>::none(), |at, y, _| {
        let x = &x[at.start * shape.area..];
        for ((plane, x), y) in planes[at].iter().zip(x.chunks(shape.area)).zip(y.chunks_mut(shape.area)) {
            map_here(*plane, x, y);
        }
    });
}

fn plane_sums<R: Real>(shape: &Channels, planes: &[Plane<R>], x: &[R], dy: &[R]) -> Vec<[f64; 2]> {
    let starts: Vec<_> = (0..planes.len()).step_by(shape.block()).collect();
    let of = |start: usize| {
        let (x, dy) = (&x[start * shape.area..], &dy[start * shape.area..]);
        let parts = x.chunks(shape.area).zip(dy.chunks(shape.area));
        let planes = planes[start..].iter().take(shape.block());
        planes.zip(parts).map(|(plane, (x, dy))| sums_here(*plane, x, dy)).collect::<Vec<_>>()
    };
    map_tasks(starts, of).concat()
}

fn run_backward<R: Real>(shape: &Channels, planes: &[Plane<R>], (x, dy): (&[R], &[R]), dx: &mut [R], write: Write) {
    map_blocks(planes.len(), shape.block(), Rows::new(dx, shape.area), Rows::<R>::none(), |at, dx, _| {
        let parts = x[at.start * shape.area..].chunks(shape.area).zip(dy[at.start * shape.area..].chunks(shape.area));
        for ((plane, (x, dy)), dx) in planes[at].iter().zip(parts).zip(dx.chunks_mut(shape.area)) {
            grad_here(*plane, x, dy, dx, write);
        }
    });
}

/// Gradients of a norm: of `x`, set or added, and of weight and bias, added.
#[derive(Debug)]
pub struct NormGrads<'a, R> {
    /// Of `x`, if wanted.
    pub dx: Option<(&'a mut [R], Write)>,
    /// Of the weight, one per channel.
    pub dw: &'a mut [R],
    /// Of the bias, one per channel.
    pub db: &'a mut [R],
}

/// Batch norm with these moments, one pair per channel: those of [`channel_moments`] while training, else the kept ones.
///
/// # Panics
/// When the lengths do not agree.
pub fn batch_norm<R: Real>(
    shape: &Channels,
    x: &[R],
    affine: &Affine<'_, R>,
    moments: &[Moments<R>],
    eps: f64,
    y: &mut [R],
) {
    run_forward(shape, &planes(shape, affine, eps, |_, channel| moments[channel]), x, y);
}

/// The gradients of [`batch_norm`]. `live` says that the moments are functions of `x`.
///
/// # Panics
/// When the lengths do not agree.
#[allow(clippy::too_many_arguments)]
pub fn batch_norm_grad<R: Real>(
    shape: &Channels,
    x: &[R],
    affine: &Affine<'_, R>,
    moments: &[Moments<R>],
    eps: f64,
    live: bool,
    dy: &[R],
    grads: NormGrads<'_, R>,
) {
    shape.check(&[x.len(), dy.len()]);
    let mut planes = planes(shape, affine, eps, |_, channel| moments[channel]);
    let sums = plane_sums(shape, &planes, x, dy);
    let count = (shape.batch * shape.area) as f64;
    for (channel, &[_, variance]) in moments.iter().enumerate().take(shape.channels) {
        let of = || (channel..sums.len()).step_by(shape.channels);
        let [total, slope] = [0, 1].map(|n| of().map(|at| sums[at][n]).sum::<f64>());
        let inverse = 1.0 / (variance.to_f64() + eps).sqrt();
        grads.dw[channel] += R::from_f64(slope * inverse);
        grads.db[channel] += R::from_f64(total);
        if live {
            let scale = affine.weight[channel].to_f64() * inverse;
            for at in of() {
                planes[at].slope = R::from_f64(-scale * inverse * inverse * slope / count);
                planes[at].offset = R::from_f64(-scale * total / count);
            }
        }
    }
    if let Some((dx, write)) = grads.dx {
        run_backward(shape, &planes, (x, dy), dx, write);
    }
}

/// Group norm with these moments, those of [`group_moments`].
///
/// # Panics
/// When the lengths do not agree.
pub fn group_norm<R: Real>(
    shape: &Channels,
    groups: usize,
    x: &[R],
    affine: &Affine<'_, R>,
    moments: &[Moments<R>],
    eps: f64,
    y: &mut [R],
) {
    run_forward(shape, &group_planes(shape, groups, affine, moments, eps), x, y);
}

fn group_planes<R: Real>(
    shape: &Channels,
    groups: usize,
    affine: &Affine<'_, R>,
    moments: &[Moments<R>],
    eps: f64,
) -> Vec<Plane<R>> {
    let size = shape.channels / groups;
    planes(shape, affine, eps, |image, channel| moments[image * groups + channel / size])
}

/// The gradients of [`group_norm`].
///
/// # Panics
/// When the lengths do not agree.
#[allow(clippy::too_many_arguments)]
pub fn group_norm_grad<R: Real>(
    shape: &Channels,
    groups: usize,
    x: &[R],
    affine: &Affine<'_, R>,
    moments: &[Moments<R>],
    eps: f64,
    dy: &[R],
    grads: NormGrads<'_, R>,
) {
    shape.check(&[x.len(), dy.len()]);
    let mut planes = group_planes(shape, groups, affine, moments, eps);
    let sums = plane_sums(shape, &planes, x, dy);
    let size = shape.channels / groups;
    let count = (size * shape.area) as f64;
    for (group, &[_, variance]) in moments.iter().enumerate() {
        let inverse = 1.0 / (variance.to_f64() + eps).sqrt();
        let of = group * size..(group + 1) * size;
        let weight = |at: usize| affine.weight[at % shape.channels].to_f64();
        let [total, slope] = [0, 1].map(|n| of.clone().map(|at| weight(at) * sums[at][n]).sum::<f64>());
        for at in of {
            grads.dw[at % shape.channels] += R::from_f64(sums[at][1] * inverse);
            grads.db[at % shape.channels] += R::from_f64(sums[at][0]);
            planes[at].slope = R::from_f64(-inverse * inverse * inverse * slope / count);
            planes[at].offset = R::from_f64(-inverse * total / count);
        }
    }
    if let Some((dx, write)) = grads.dx {
        run_backward(shape, &planes, (x, dy), dx, write);
    }
}

/// `sums[c] += Σ x` over batch and area of channel `c`: the gradient of a bias per channel.
///
/// # Panics
/// When the lengths do not agree.
pub fn add_channel_sums<R: Real>(shape: &Channels, x: &[R], sums: &mut [R]) {
    shape.check(&[x.len()]);
    assert_eq!(sums.len(), shape.channels, "one sum per channel");
    let planes = vec![Plane::default(); shape.planes()];
    for (at, [total, _]) in plane_sums(shape, &planes, x, x).into_iter().enumerate() {
        sums[at % shape.channels] += R::from_f64(total);
    }
}
