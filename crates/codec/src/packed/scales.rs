//! Scales: which numbers share one, and how it follows from their range.
//!
//! A code `q` stands for `(level(q) − zero) · step`. The step of a tile comes from its smallest and largest number, with
//! zero always inside (`min ≤ 0 ≤ max`), as compressed-tensors' `calculate_qparams` computes it over a min-max observer;
//! `r(·)` rounds to the type in which the scale is stored, `lo`, `hi` are the ends of the levels:
//!
//! | | scale | step |
//! |---|---|---|
//! | symmetric | `r(max(−min, max) / ((hi − lo) / 2))` | scale |
//! | asymmetric | `r(r(max − min) / (hi − lo))`, `zero = round(clamp(r(lo − r(min / scale)), lo, hi))` | scale |
//! | E8M0 | power of two at or below `amax / 4`, the next one where `amax`'s mantissa is 1.75 or more | scale |
//! | E4M3 | `e4m3(global · amax / 6)`, `global = 448 · 6 / amax of all that shares it` | scale / global |
//!
//! A scale that comes out as zero becomes a small number (the type's epsilon; for E4M3 1/8), so that every step divides.

use super::fp8::{e4m3_from_f32, e4m3_to_f32};
use super::levels::Levels;
use crate::Dtype;
use half::{bf16, f16};
use std::num::NonZeroU32;

/// Which numbers of a matrix share a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Granularity {
    /// All of them.
    Tensor,
    /// A row (an output channel).
    Channel,
    /// This many neighbours in a row.
    Group(NonZeroU32),
    /// A square of 128 × 128.
    Block,
}

impl Granularity {
    /// Groups of `size` numbers; `None` for zero.
    pub fn group(size: u32) -> Option<Self> {
        NonZeroU32::new(size).map(Granularity::Group)
    }

    /// Rows and columns of a tile, both at least 1.
    pub(super) fn tile(self, rows: usize, cols: usize) -> (usize, usize) {
        match self {
            Granularity::Tensor => (rows.max(1), cols.max(1)),
            Granularity::Channel => (1, cols.max(1)),
            Granularity::Group(size) => (1, size.get() as usize),
            Granularity::Block => (128, 128),
        }
    }
}

/// The floating-point type in which scales are stored; it follows the model's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum ScaleType {
    F32,
    F16,
    BF16,
}

impl ScaleType {
    /// The same as a plain type.
    pub const fn dtype(self) -> Dtype {
        match self {
            ScaleType::F32 => Dtype::F32,
            ScaleType::F16 => Dtype::F16,
            ScaleType::BF16 => Dtype::BF16,
        }
    }

    /// Rounds to the nearest number of the type, ties to even.
    pub fn round(self, v: f32) -> f32 {
        match self {
            ScaleType::F32 => v,
            ScaleType::F16 => f16::from_f32(v).to_f32(),
            ScaleType::BF16 => bf16::from_f32(v).to_f32(),
        }
    }

    /// The distance from 1 to the next number of the type.
    pub(super) const fn epsilon(self) -> f32 {
        match self {
            ScaleType::F32 => f32::EPSILON,
            ScaleType::F16 => f16::EPSILON.to_f32_const(),
            ScaleType::BF16 => bf16::EPSILON.to_f32_const(),
        }
    }
}

/// The smallest and largest of some numbers and zero.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Range {
    min: f32,
    max: f32,
}

impl Range {
    /// The range of `x`; NaN is passed over.
    pub fn of(x: &[f32]) -> Self {
        let (wide, rest) = x.as_chunks::<8>();
        let mut lanes = [Range::default(); 8];
        for chunk in wide {
            lanes.iter_mut().zip(chunk).for_each(|(lane, v)| lane.include(*v));
        }
        let mut range = lanes.into_iter().fold(Range::default(), Range::union);
        rest.iter().for_each(|v| range.include(*v));
        range
    }

    /// The range of both.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self { min: self.min.min(other.min), max: self.max.max(other.max) }
    }

    /// The same share of both ends.
    #[must_use]
    pub fn times(self, share: f32) -> Self {
        Self { min: self.min * share, max: self.max * share }
    }

    /// The largest magnitude.
    pub fn amax(self) -> f32 {
        self.max.max(-self.min)
    }

    #[inline]
    fn include(&mut self, v: f32) {
        self.min = if v < self.min { v } else { self.min };
        self.max = if v > self.max { v } else { self.max };
    }
}

/// How a scale is stored and what is derived with it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Rule {
    /// A float; the levels lie symmetrically around zero.
    Symmetric(ScaleType),
    /// A float and an integer zero point.
    Asymmetric(ScaleType),
    /// A power of two, as its biased exponent.
    E8m0,
    /// E4M3, under one f32 scale for the whole tensor.
    E4m3,
}

impl Rule {
    /// The f32 scale over all scales, from the range of everything that shares it; 1 where there is none.
    pub(super) fn global(self, whole: Range, levels: Levels) -> f32 {
        if self != Rule::E4m3 {
            return 1.0;
        }
        // A product with the reciprocal, because PyTorch divides a number by a tensor so.
        let global = whole.amax().max(f32::MIN_POSITIVE).recip() * (Levels::E4m3.max() * levels.max());
        if global.is_finite() { global } else { 1.0 }
    }

    /// Scale, as it will be stored, and zero point of a tile.
    pub(super) fn fit(self, range: Range, levels: Levels, global: f32) -> (f32, f32) {
        let nonzero = |scale: f32, small: f32| if scale == 0.0 { small } else { scale };
        let half = (levels.max() - levels.min()) / 2.0;
        match self {
            Rule::Symmetric(t) => (nonzero(t.round(range.amax() / half), t.epsilon()), 0.0),
            Rule::Asymmetric(t) => {
                let scale = t.round(t.round(range.max - range.min) / (2.0 * half));
                let zero = t.round(levels.min() - t.round(range.min / scale));
                let zero = zero.clamp(levels.min(), levels.max()).round_ties_even();
                (nonzero(scale, t.epsilon()), if zero.is_nan() { 0.0 } else { zero })
            }
            Rule::E8m0 => {
                // A carry out of the top two bits of the mantissa: 1.75 and more rounds up. 6 is 1.5·2^2, hence the 2.
                let exponent = (range.amax().to_bits() + (1 << 21)) >> 23;
                (e8m0_to_f32(exponent.saturating_sub(2) as u8), 0.0)
            }
            Rule::E4m3 => (nonzero(e4m3_to_f32(e4m3_from_f32(global * (range.amax() / half))), 0.125), 0.0),
        }
    }

    /// The nearest scale that can be stored; powers of two stay as they are chosen.
    pub(super) fn stored(self, scale: f32) -> Option<f32> {
        let stored = match self {
            Rule::Symmetric(t) | Rule::Asymmetric(t) => t.round(scale),
            Rule::E8m0 => return None,
            Rule::E4m3 => e4m3_to_f32(e4m3_from_f32(scale)),
        };
        (stored.is_finite() && stored > 0.0).then_some(stored)
    }

    /// The type of the stored scale.
    pub(super) const fn dtype(self) -> Dtype {
        match self {
            Rule::Symmetric(t) | Rule::Asymmetric(t) => t.dtype(),
            Rule::E8m0 => Dtype::U8,
            Rule::E4m3 => Dtype::F8E4M3,
        }
    }

    /// Stores scales.
    pub(super) fn write(self, scales: &[f32]) -> Vec<u8> {
        if self == Rule::E8m0 {
            return scales.iter().map(|s| (s.to_bits() >> 23) as u8).collect();
        }
        let mut bytes = vec![0; scales.len() * self.dtype().bytes()];
        crate::block::plain::encode(self.dtype(), scales, &mut bytes);
        bytes
    }

    /// Reads stored scales.
    pub(super) fn read(self, bytes: &[u8]) -> Vec<f32> {
        if self == Rule::E8m0 {
            return bytes.iter().map(|b| e8m0_to_f32(*b)).collect();
        }
        let mut scales = vec![0.0; bytes.len() / self.dtype().bytes()];
        crate::block::plain::decode(self.dtype(), bytes, &mut scales);
        scales
    }
}

/// Decodes E8M0, a biased exponent: 2^(b − 127), NaN for 255 (OCP microscaling, v1.0).
pub fn e8m0_to_f32(b: u8) -> f32 {
    match b {
        0 => f32::from_bits(1 << 22),
        255 => f32::NAN,
        _ => f32::from_bits(u32::from(b) << 23),
    }
}
