//! The innermost loops of convolution: a block of sums held in registers, over a source packed by [`super::grid`].
//!
//! Both read the packed source `b` in runs of [`LANES`] positions, `b[offset + 16·v ..]`, at one offset per kernel tap and channel:
//! - *forward*: `sums[m][v] = Σ_p a[p·M + m] · b[offsets[p] + 16·v ..]`: `M` filters by a few runs, no matrix of patches anywhere;
//! - *dots*: `Σ over runs of dy[m][v] · b[offsets[k] + 16·v ..]`, `M` filters by a few taps: the gradient of the weight.

use crate::real::Real;
use crate::simd::{LANES, vectorised};

/// Runs per tile for a panel of so many filters: what 32 registers hold.
pub(super) const fn runs(panel: usize) -> usize {
    match panel {
        8 => 3,
        4 => 6,
        _ => 8,
    }
}

/// The height of the panels that so many filters are cut into.
pub(super) const fn panel(filters: usize) -> usize {
    match filters {
        0 | 1 => 1,
        2..=4 => 4,
        _ => 8,
    }
}

/// Filters and taps of a tile of [`Real::conv_dots`].
pub(crate) const DOTS: (usize, usize) = (4, 6);

/// What both loops read: the packed source and where each step begins in it.
#[derive(Clone, Copy)]
pub(crate) struct Packed<'a, R> {
    /// One per step of the sum (forward) or per sum (dots).
    pub(crate) offsets: &'a [usize],
    /// The packed source.
    pub(crate) source: &'a [R],
    /// Added to every offset.
    pub(crate) start: usize,
    /// Runs of [`LANES`] positions to read.
    pub(crate) runs: usize,
}

impl<R> Packed<'_, R> {
    /// Checks that every read is inside the source.
    fn check(&self) {
        let last = self.offsets.iter().max().map_or(0, |offset| offset + self.start + self.runs * LANES);
        assert!(last <= self.source.len(), "packed source too short");
    }
}

/// The portable form of [`Real::conv_tile`].
pub(crate) fn portable_tile<R: Real>(panel: usize, a: &[R], b: Packed<'_, R>, out: &mut [R], stride: usize) {
    b.check();
    match panel {
        8 => [0, 4].map(|first| tile_here::<R>(8, first, a, b, &mut out[first * stride..], stride)),
        4 => [tile_here(4, 0, a, b, out, stride); 2],
        _ => [single_here(a, b, out); 2],
    };
}

vectorised! {
    /// Four filters of a panel, one run at a time.
    fn tile_here<R: Real>(panel: usize, first: usize, a: &[R], b: Packed<'_, R>, out: &mut [R], stride: usize) {
        for v in 0..b.runs {
            let mut sums = [[R::ZERO; LANES]; 4];
            for (a, offset) in a.chunks_exact(panel).zip(b.offsets) {
                let b: &[R; LANES] = b.source[offset + b.start + v * LANES..].first_chunk().expect("checked");
                let a: &[R; 4] = a[first..].first_chunk().expect("panels of 4 or 8");
                for (sums, &a) in sums.iter_mut().zip(a) {
                    sums.iter_mut().zip(b).for_each(|(sum, &b)| *sum = a.mul_add(b, *sum));
                }
            }
            for (m, sums) in sums.iter().enumerate() {
                out[m * stride + v * LANES..][..LANES].copy_from_slice(sums);
            }
        }
    }
}

vectorised! {
    fn single_here<R: Real>(a: &[R], b: Packed<'_, R>, out: &mut [R]) {
        for v in 0..b.runs {
            let mut sums = [R::ZERO; LANES];
            for (&a, offset) in a.iter().zip(b.offsets) {
                let b: &[R; LANES] = b.source[offset + b.start + v * LANES..].first_chunk().expect("checked");
                sums.iter_mut().zip(b).for_each(|(sum, &b)| *sum = a.mul_add(b, *sum));
            }
            out[v * LANES..][..LANES].copy_from_slice(&sums);
        }
    }
}

/// Filters and taps whose sums the portable form holds in registers at once.
const SQUARE: (usize, usize) = (2, 3);

vectorised! {
    /// The portable form of [`Real::conv_dots`].
    pub(crate) fn portable_dots<R: Real>(dy: &[R], dy_stride: usize, filters: usize, b: Packed<'_, R>, out: &mut [R], stride: usize) {
        let run = b.runs * LANES;
        let tap = |k: usize| &b.source[b.offsets[k] + b.start..][..run];
        for m in (0..filters).step_by(SQUARE.0) {
            for k in (0..b.offsets.len()).step_by(SQUARE.1) {
                if m + SQUARE.0 <= filters && k + SQUARE.1 <= b.offsets.len() {
                    let dy = [&dy[m * dy_stride..][..run], &dy[(m + 1) * dy_stride..][..run]];
                    square_here(dy, [tap(k), tap(k + 1), tap(k + 2)], &mut out[m * stride + k..], stride);
                    continue;
                }
                for m in m..filters.min(m + SQUARE.0) {
                    for k in k..b.offsets.len().min(k + SQUARE.1) {
                        out[m * stride + k] += crate::simd::dot(&dy[m * dy_stride..][..run], tap(k));
                    }
                }
            }
        }
    }
}

/// All products of some filters' gradients with some taps, in one pass over both.
#[inline(always)]
fn square_here<R: Real>(dy: [&[R]; SQUARE.0], x: [&[R]; SQUARE.1], out: &mut [R], stride: usize) {
    let mut sums = [[[R::ZERO; LANES]; SQUARE.1]; SQUARE.0];
    let (dy, x) = (dy.map(|dy| dy.as_chunks::<LANES>().0), x.map(|x| x.as_chunks::<LANES>().0));
    for v in 0..dy[0].len() {
        for (sums, dy) in sums.iter_mut().zip(dy) {
            for (sums, x) in sums.iter_mut().zip(x) {
                for lane in 0..LANES {
                    sums[lane] = dy[v][lane].mul_add(x[v][lane], sums[lane]);
                }
            }
        }
    }
    for (m, sums) in sums.iter().enumerate() {
        for (k, sums) in sums.iter().enumerate() {
            out[m * stride + k] += crate::simd::lane_sum([&sums[..]], |[x], sum| sum + x);
        }
    }
}

/// The f32 form of [`Real::conv_tile`] on this machine.
pub(crate) fn f32_tile(panel: usize, a: &[f32], b: Packed<'_, f32>, out: &mut [f32], stride: usize) {
    #[cfg(target_arch = "x86_64")]
    if crate::simd::level() == crate::simd::Level::Avx512 {
        b.check();
        assert!(a.len() >= panel * b.offsets.len() && b.runs <= runs(panel), "panel too short");
        assert!(b.runs == 0 || out.len() >= (panel - 1) * stride + b.runs * LANES, "sums too short");
        // SAFETY: the instructions were detected; every address was checked to lie inside its slice.
        return unsafe { avx512::tile(panel, a, b, out, stride) };
    }
    portable_tile(panel, a, b, out, stride);
}

/// The f32 form of [`Real::conv_dots`] on this machine.
pub(crate) fn f32_dots(
    dy: &[f32],
    dy_stride: usize,
    filters: usize,
    b: Packed<'_, f32>,
    out: &mut [f32],
    stride: usize,
) {
    #[cfg(target_arch = "x86_64")]
    if crate::simd::level() == crate::simd::Level::Avx512 {
        b.check();
        assert!((1..=DOTS.0).contains(&filters) && (1..=DOTS.1).contains(&b.offsets.len()), "tile shape");
        assert!(dy.len() >= (filters - 1) * dy_stride + b.runs * LANES, "gradient too short");
        assert!(out.len() >= (filters - 1) * stride + b.offsets.len(), "sums too short");
        // SAFETY: as above.
        return unsafe { avx512::dots(dy, dy_stride, filters, b, out, stride) };
    }
    portable_dots(dy, dy_stride, filters, b, out, stride);
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::*;

    use super::{LANES, Packed};

    /// # Safety
    /// AVX-512 F, DQ and VL, and all that [`super::f32_tile`] checks.
    #[inline(always)]
    unsafe fn sums<const M: usize, const N: usize>(a: &[f32], b: Packed<'_, f32>, out: &mut [f32], stride: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let mut sums = [[_mm512_setzero_ps(); N]; M];
            let (mut a, from) = (a.as_ptr(), b.source.as_ptr().add(b.start));
            for offset in b.offsets {
                let from = from.add(*offset);
                let mut b = [_mm512_setzero_ps(); N];
                for (n, b) in b.iter_mut().enumerate() {
                    *b = _mm512_loadu_ps(from.add(n * LANES));
                }
                for (m, sums) in sums.iter_mut().enumerate() {
                    let a = _mm512_set1_ps(*a.add(m));
                    for (sum, b) in sums.iter_mut().zip(b) {
                        *sum = _mm512_fmadd_ps(a, b, *sum);
                    }
                }
                a = a.add(M);
            }
            for (m, sums) in sums.into_iter().enumerate() {
                for (n, sum) in sums.into_iter().enumerate() {
                    _mm512_storeu_ps(out.as_mut_ptr().add(m * stride + n * LANES), sum);
                }
            }
        }
    }

    /// # Safety
    /// As [`sums`].
    #[target_feature(enable = "avx512f,avx512dq,avx512vl")]
    pub(super) unsafe fn tile(panel: usize, a: &[f32], b: Packed<'_, f32>, out: &mut [f32], stride: usize) {
        macro_rules! sizes {
            ($($m:literal: $($n:literal)*),*) => {
                match (panel, b.runs) {
                    $($(
                        // SAFETY: this function's own promise.
                        ($m, $n) => unsafe { sums::<$m, $n>(a, b, out, stride) },
                    )*)*
                    (_, 0) => {}
                    _ => unreachable!("no such tile"),
                }
            };
        }
        sizes!(8: 1 2 3, 4: 1 2 3 4 5 6, 1: 1 2 3 4 5 6 7 8);
    }

    /// # Safety
    /// AVX-512 F, DQ and VL, and all that [`super::f32_dots`] checks.
    #[inline(always)]
    unsafe fn dot_sums<const M: usize, const N: usize>(
        dy: &[f32],
        dy_stride: usize,
        b: Packed<'_, f32>,
        out: &mut [f32],
        stride: usize,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            let mut sums = [[_mm512_setzero_ps(); N]; M];
            let mut from = [b.source.as_ptr(); N];
            from.iter_mut().zip(b.offsets).for_each(|(from, offset)| *from = from.add(offset + b.start));
            for v in (0..b.runs * LANES).step_by(LANES) {
                let mut x = [_mm512_setzero_ps(); N];
                x.iter_mut().zip(from).for_each(|(x, from)| *x = _mm512_loadu_ps(from.add(v)));
                for (m, sums) in sums.iter_mut().enumerate() {
                    let dy = _mm512_loadu_ps(dy.as_ptr().add(m * dy_stride + v));
                    sums.iter_mut().zip(x).for_each(|(sum, x)| *sum = _mm512_fmadd_ps(dy, x, *sum));
                }
            }
            for (m, sums) in sums.into_iter().enumerate() {
                for (n, sum) in sums.into_iter().enumerate() {
                    *out.get_unchecked_mut(m * stride + n) += _mm512_reduce_add_ps(sum);
                }
            }
        }
    }

    /// # Safety
    /// As [`dot_sums`].
    #[target_feature(enable = "avx512f,avx512dq,avx512vl")]
    pub(super) unsafe fn dots(
        dy: &[f32],
        dy_stride: usize,
        filters: usize,
        b: Packed<'_, f32>,
        out: &mut [f32],
        stride: usize,
    ) {
        macro_rules! sizes {
            ($($m:literal)*; $n:tt) => { sizes!(@ $([$m $n])*) };
            (@ $([$m:literal [$($n:literal)*]])*) => {
                match (filters, b.offsets.len()) {
                    $($(
                        // SAFETY: this function's own promise.
                        ($m, $n) => unsafe { dot_sums::<$m, $n>(dy, dy_stride, b, out, stride) },
                    )*)*
                    _ => unreachable!("no such tile"),
                }
            };
        }
        sizes!(1 2 3 4; [1 2 3 4 5 6]);
    }
}
