//! The scalar a kernel computes in: `f32` for work, `f64` for checking gradients.
//!
//! Kernels are written once, generic over [`Real`]. The `f32` functions here are branch-free polynomials that the
//! compiler turns into vector code inside the kernels' loops; the `f64` ones are the platform's own.
//!
//! `exp` follows Cody and Waite: `e^x = 2^n · e^r`, `r = x − n·ln 2` in two pieces, `|r| ≤ ln 2 / 2`, and a degree-6
//! polynomial for `e^r` (coefficients: minimax, Cephes `expf`). At most 2 units in the last place; results below 1.9e-38
//! (`x < −86.9`) are zero.

use std::fmt::Debug;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, DivAssign, Mul, MulAssign, Neg, Sub, SubAssign};

use crate::conv::Packed;
use crate::micro::Tile;

/// A floating-point scalar that every kernel can be run in.
pub trait Real:
    bytemuck::Pod
    + Default
    + Debug
    + PartialOrd
    + Send
    + Sync
    + 'static
    + Sum
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
    + DivAssign
{
    /// Zero.
    const ZERO: Self;
    /// One.
    const ONE: Self;
    /// Minus infinity: what a masked score is.
    const NEG_INFINITY: Self;

    /// Rounds `x` to this type.
    fn from_f64(x: f64) -> Self;
    /// This value as `f64`, exactly.
    fn to_f64(self) -> f64;
    /// `self · a + b` with one rounding.
    fn mul_add(self, a: Self, b: Self) -> Self;
    /// e to the power of `self`.
    fn exp(self) -> Self;
    /// Natural logarithm.
    fn ln(self) -> Self;
    /// Square root.
    fn sqrt(self) -> Self;
    /// Hyperbolic tangent.
    fn tanh(self) -> Self;
    /// The error function.
    fn erf(self) -> Self;
    /// Absolute value.
    fn abs(self) -> Self;
    /// `self` to the power of `p`.
    fn powf(self, p: Self) -> Self;
    /// The nearest integer, halves to the even one.
    fn round_even(self) -> Self;
    /// The larger of the two; `other` when `self` is not a number.
    fn max(self, other: Self) -> Self;

    /// The innermost product, see [`crate::micro`].
    #[doc(hidden)]
    #[allow(private_interfaces)]
    fn kernel(depth: usize, a: &[Self], b: &[Self], b_stride: usize, tile: Tile<'_, Self>);

    /// Sums of a panel of filters over some positions, see [`crate::conv`]: filter `m` goes to `out[m·stride ..]`.
    #[doc(hidden)]
    #[allow(private_interfaces)]
    fn conv_tile(panel: usize, a: &[Self], b: Packed<'_, Self>, out: &mut [Self], stride: usize);

    /// Adds to `out[m·stride + k]` the product of gradient `m` with tap `k`, see [`crate::conv`].
    #[doc(hidden)]
    #[allow(private_interfaces)]
    fn conv_dots(dy: &[Self], dy_stride: usize, filters: usize, b: Packed<'_, Self>, out: &mut [Self], stride: usize);
}

impl Real for f64 {
    const ZERO: f64 = 0.0;
    const ONE: f64 = 1.0;
    const NEG_INFINITY: f64 = f64::NEG_INFINITY;

    #[inline(always)]
    fn from_f64(x: f64) -> f64 {
        x
    }
    #[inline(always)]
    fn to_f64(self) -> f64 {
        self
    }
    #[inline(always)]
    fn mul_add(self, a: f64, b: f64) -> f64 {
        f64::mul_add(self, a, b)
    }
    #[inline(always)]
    fn exp(self) -> f64 {
        f64::exp(self)
    }
    #[inline(always)]
    fn ln(self) -> f64 {
        f64::ln(self)
    }
    #[inline(always)]
    fn sqrt(self) -> f64 {
        f64::sqrt(self)
    }
    #[inline(always)]
    fn tanh(self) -> f64 {
        f64::tanh(self)
    }
    #[inline(always)]
    fn erf(self) -> f64 {
        erf_f64(self)
    }
    #[inline(always)]
    fn abs(self) -> f64 {
        f64::abs(self)
    }
    #[inline(always)]
    fn powf(self, p: f64) -> f64 {
        f64::powf(self, p)
    }
    #[inline(always)]
    fn round_even(self) -> f64 {
        self.round_ties_even()
    }
    #[inline(always)]
    fn max(self, other: f64) -> f64 {
        if self > other { self } else { other }
    }
    #[allow(private_interfaces)]
    fn kernel(depth: usize, a: &[f64], b: &[f64], b_stride: usize, tile: Tile<'_, f64>) {
        crate::micro::portable(depth, a, b, b_stride, tile);
    }
    #[allow(private_interfaces)]
    fn conv_tile(panel: usize, a: &[f64], b: Packed<'_, f64>, out: &mut [f64], stride: usize) {
        crate::conv::portable_tile(panel, a, b, out, stride);
    }
    #[allow(private_interfaces)]
    fn conv_dots(dy: &[f64], dy_stride: usize, filters: usize, b: Packed<'_, f64>, out: &mut [f64], stride: usize) {
        crate::conv::portable_dots(dy, dy_stride, filters, b, out, stride);
    }
}

impl Real for f32 {
    const ZERO: f32 = 0.0;
    const ONE: f32 = 1.0;
    const NEG_INFINITY: f32 = f32::NEG_INFINITY;

    #[inline(always)]
    fn from_f64(x: f64) -> f32 {
        x as f32
    }
    #[inline(always)]
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
    #[inline(always)]
    fn mul_add(self, a: f32, b: f32) -> f32 {
        f32::mul_add(self, a, b)
    }
    #[inline(always)]
    fn exp(self) -> f32 {
        exp_f32(self)
    }
    #[inline(always)]
    fn ln(self) -> f32 {
        f32::ln(self)
    }
    #[inline(always)]
    fn sqrt(self) -> f32 {
        f32::sqrt(self)
    }
    #[inline(always)]
    fn tanh(self) -> f32 {
        tanh_f32(self)
    }
    #[inline(always)]
    fn erf(self) -> f32 {
        erf_f32(self)
    }
    #[inline(always)]
    fn abs(self) -> f32 {
        f32::abs(self)
    }
    #[inline(always)]
    fn powf(self, p: f32) -> f32 {
        f32::powf(self, p)
    }
    #[inline(always)]
    fn round_even(self) -> f32 {
        self.round_ties_even()
    }
    #[inline(always)]
    fn max(self, other: f32) -> f32 {
        if self > other { self } else { other }
    }
    #[allow(private_interfaces)]
    fn kernel(depth: usize, a: &[f32], b: &[f32], b_stride: usize, tile: Tile<'_, f32>) {
        crate::micro::f32_kernel(depth, a, b, b_stride, tile);
    }
    #[allow(private_interfaces)]
    fn conv_tile(panel: usize, a: &[f32], b: Packed<'_, f32>, out: &mut [f32], stride: usize) {
        crate::conv::f32_tile(panel, a, b, out, stride);
    }
    #[allow(private_interfaces)]
    fn conv_dots(dy: &[f32], dy_stride: usize, filters: usize, b: Packed<'_, f32>, out: &mut [f32], stride: usize) {
        crate::conv::f32_dots(dy, dy_stride, filters, b, out, stride);
    }
}

/// Evaluates a polynomial, highest coefficient first.
#[inline(always)]
fn horner<const N: usize>(x: f32, coefficients: [f32; N]) -> f32 {
    let mut sum = coefficients[0];
    for c in &coefficients[1..] {
        sum = sum.mul_add(x, *c);
    }
    sum
}

#[inline(always)]
fn exp_f32(x: f32) -> f32 {
    // 1.5·2²³: adding it leaves the nearest integer in the low bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, x));
    let tail = horner(r, [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5e-1]);
    let e_r = tail.mul_add(r * r, r) + 1.0;
    // 2^(n−1), then doubled, so that n = 128 does not overflow before its time.
    let half_scale = f32::from_bits(shifted.to_bits().wrapping_shl(23).wrapping_add(126 << 23));
    let y = e_r * half_scale * 2.0;
    let y = if x > 88.722_84 { f32::INFINITY } else { y };
    if x < -86.9 { 0.0 } else { y }
}

/// `tanh x = 1 − 2/(e^{2x} + 1)`; near zero, where that cancels, the odd polynomial of Cephes `tanhf`.
#[inline(always)]
fn tanh_f32(x: f32) -> f32 {
    let a = x.abs();
    let z = x * x;
    let near = horner(z, [-5.704_988_7e-3, 2.063_909e-2, -5.373_971_4e-2, 1.333_144_2e-1, -3.333_328e-1]);
    let near = (near * z).mul_add(x, x);
    let far = (1.0 - 2.0 / (exp_f32(a + a) + 1.0)).copysign(x);
    if a < 0.625 { near } else { far }
}

/// Near zero the Maclaurin series; elsewhere Abramowitz and Stegun's form `1 − p(t)·e^{−x²}`, with Numerical Recipes'
/// coefficients (`erfcc`, relative error below 1.2e-7).
#[inline(always)]
fn erf_f32(x: f32) -> f32 {
    let a = x.abs();
    let z = x * x;
    let near =
        horner(z, [1.0 / 75_600.0, -1.0 / 9_360.0, 1.0 / 1_320.0, -1.0 / 216.0, 1.0 / 42.0, -0.1, 1.0 / 3.0, -1.0]);
    let near = -near * x * std::f32::consts::FRAC_2_SQRT_PI;
    let t = 1.0 / 0.5f32.mul_add(a, 1.0);
    let p = horner(
        t,
        [
            0.170_872_77,
            -0.822_152_2,
            1.488_515_9,
            -1.135_204,
            0.278_868_07,
            -0.186_288_06,
            0.096_784_18,
            0.374_091_96,
            1.000_023_7,
            -1.265_512_2,
        ],
    );
    let far = (1.0 - t * exp_f32(p - z)).copysign(x);
    if a < 0.75 { near } else { far }
}

/// Series below 3, continued fraction above: full precision, for gradient checks and not for speed.
fn erf_f64(x: f64) -> f64 {
    let z = x * x;
    if x.abs() < 3.0 {
        let mut term = x;
        let mut sum = x;
        for n in 1..200 {
            term *= -z / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        return sum * std::f64::consts::FRAC_2_SQRT_PI;
    }
    let fraction = (1..60).rev().fold(0.0, |tail, n| f64::from(n) / 2.0 / (x.abs() + tail));
    let erfc = (-z).exp() / ((x.abs() + fraction) * std::f64::consts::PI.sqrt());
    (1.0 - erfc).copysign(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Largest error over `[low, high]`, in units of the last place of the exact value (and never below `floor`).
    fn worst(low: f64, high: f64, floor: f64, fast: fn(f32) -> f32, exact: fn(f64) -> f64) -> f64 {
        let steps = 200_000;
        (0..=steps).map(|i| (low + (high - low) * f64::from(i) / f64::from(steps)) as f32).fold(0.0, |worst, x| {
            let exact = exact(f64::from(x));
            let ulp = exact.abs().max(floor) * f64::from(f32::EPSILON);
            worst.max((f64::from(fast(x)) - exact).abs() / ulp)
        })
    }

    #[test]
    fn functions_are_accurate() {
        assert!(worst(-86.8, 88.7, 0.0, exp_f32, f64::exp) < 2.0);
        assert!(worst(-9.0, 9.0, 1e-30, tanh_f32, f64::tanh) < 3.0);
        assert!(worst(-4.0, 4.0, 1e-30, erf_f32, erf_f64) < 4.0);
    }

    #[test]
    fn extremes_are_kept() {
        assert_eq!((exp_f32(f32::NEG_INFINITY), exp_f32(f32::INFINITY)), (0.0, f32::INFINITY));
        assert_eq!((exp_f32(0.0), exp_f32(-200.0), exp_f32(200.0)), (1.0, 0.0, f32::INFINITY));
        assert!(exp_f32(f32::NAN).is_nan() && tanh_f32(f32::NAN).is_nan() && erf_f32(f32::NAN).is_nan());
        assert_eq!((tanh_f32(50.0), tanh_f32(-50.0), erf_f32(30.0), erf_f32(-30.0)), (1.0, -1.0, 1.0, -1.0));
    }

    #[test]
    fn exact_erf_agrees_with_published_values() {
        for (x, y) in [(0.5, 0.520_499_877_813_046_5), (1.0, 0.842_700_792_949_714_9), (3.5, 0.999_999_256_901_627_7)] {
            assert!((erf_f64(x) - y).abs() < 1e-14 && (erf_f64(-x) + y).abs() < 1e-14);
        }
    }
}
