//! Linear quantization of real numbers in place: what `QuantizeLinear` and then `DequantizeLinear` do to a value, and the gradients
//! that quantization-aware training gives it.
//!
//! `q = clamp(round(x/s) + z, low, high)`, `y = s·(q − z)`, rounding to even. Backward, straight through (Bengio et al. 2013): `dx = dy` where `q`
//! was not clamped. The gradient of the scale is LSQ's (Esser et al. 2019): `ds = Σ dy·(q − z − x/s)` inside, `Σ dy·(q − z)` where clamped.

use crate::layout::Along;
use crate::matmul::Write;
use crate::real::Real;
use crate::simd::vectorised;

/// The integers of a quantizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The smallest.
    pub low: i32,
    /// The largest.
    pub high: i32,
}

/// Scale and zero point of a run of numbers.
#[derive(Clone, Copy)]
struct Step<R> {
    scale: R,
    low: R,
    high: R,
}

impl<R: Real> Step<R> {
    fn new(range: Range, scale: R, zero: i32) -> Step<R> {
        let bound = |bound: i32| R::from_f64(f64::from(bound) - f64::from(zero));
        Step { scale, low: bound(range.low), high: bound(range.high) }
    }

    /// `q − z`, and whether it was clamped.
    #[inline(always)]
    fn round(self, x: R) -> (R, bool) {
        let q = (x / self.scale).round_even();
        let above = if q < self.low { self.low } else { q };
        let inside = if above > self.high { self.high } else { above };
        (inside, inside != q)
    }
}

vectorised! {
    fn quant_here<R: Real>(step: Step<R>, x: &[R], y: &mut [R]) {
        y.iter_mut().zip(x).for_each(|(y, &x)| *y = step.scale * step.round(x).0);
    }
}

vectorised! {
    fn grad_here<R: Real>(step: Step<R>, x: &[R], dy: &[R], dx: &mut [R], write: Write) {
        let pass = |x: R, dy: R| if step.round(x).1 { R::ZERO } else { dy };
        let terms = dx.iter_mut().zip(x.iter().zip(dy));
        match write {
            Write::Set => terms.for_each(|(dx, (&x, &dy))| *dx = pass(x, dy)),
            Write::Add => terms.for_each(|(dx, (&x, &dy))| *dx += pass(x, dy)),
        }
    }
}

vectorised! {
    fn scale_grad_here<R: Real>(step: Step<R>, x: &[R], dy: &[R]) -> R {
        crate::simd::lane_sum([x, dy], |[x, dy], sum| {
            let (q, clamped) = step.round(x);
            dy.mul_add(if clamped { q } else { q - x / step.scale }, sum)
        })
    }
}

/// Quantizes along an axis: one scale and zero point for each of its positions (`along.length` of them).
#[derive(Clone, Copy, Debug)]
pub struct FakeQuant<'a, R> {
    /// The axis; a whole value is one position of everything.
    pub along: Along,
    /// The integers.
    pub range: Range,
    /// Steps.
    pub scales: &'a [R],
    /// Integers of zero.
    pub zeros: &'a [i32],
}

impl<R: Real> FakeQuant<'_, R> {
    fn check(&self, len: usize) {
        assert!(len == self.along.elements(), "quantization of unlike lengths");
        assert!([self.scales.len(), self.zeros.len()] == [self.along.length; 2], "one scale and zero per position");
    }

    fn step(&self, run: usize) -> Step<R> {
        let at = run % self.along.length;
        Step::new(self.range, self.scales[at], self.zeros[at])
    }
}

/// `y` = `x` quantized and back.
///
/// # Panics
/// When the lengths do not agree.
pub fn fake_quant<R: Real>(quant: &FakeQuant<'_, R>, x: &[R], y: &mut [R]) {
    quant.check(x.len());
    quant.check(y.len());
    let run = quant.along.inner.max(1);
    for (n, (x, y)) in x.chunks_exact(run).zip(y.chunks_exact_mut(run)).enumerate() {
        quant_here(quant.step(n), x, y);
    }
}

/// The gradient of [`fake_quant`]'s input, straight through: `dx (+)= …`.
///
/// # Panics
/// When the lengths do not agree.
pub fn fake_quant_grad<R: Real>(quant: &FakeQuant<'_, R>, x: &[R], dy: &[R], dx: &mut [R], write: Write) {
    assert!(x.len() == dx.len() && dy.len() == dx.len(), "quantization gradient of unlike lengths");
    quant.check(x.len());
    let run = quant.along.inner.max(1);
    for (n, ((x, dy), dx)) in x.chunks_exact(run).zip(dy.chunks_exact(run)).zip(dx.chunks_exact_mut(run)).enumerate() {
        grad_here(quant.step(n), x, dy, dx, write);
    }
}

/// The gradient of [`fake_quant`]'s scales: `ds += …`.
///
/// # Panics
/// When the lengths do not agree.
pub fn fake_quant_grad_scale<R: Real>(quant: &FakeQuant<'_, R>, x: &[R], dy: &[R], ds: &mut [R]) {
    assert!(x.len() == dy.len() && ds.len() == quant.scales.len(), "quantization gradient of unlike lengths");
    quant.check(x.len());
    let run = quant.along.inner.max(1);
    for (n, (x, dy)) in x.chunks_exact(run).zip(dy.chunks_exact(run)).enumerate() {
        ds[n % quant.along.length] += scale_grad_here(quant.step(n), x, dy);
    }
}
