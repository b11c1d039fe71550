//! Run-time choice of vector instructions for loops that the compiler vectorises by itself.
//!
//! [`vectorised!`] compiles one function body for AVX-512, for AVX2 with FMA, and for the baseline of the target, and
//! calls the best that the machine has. The bodies use explicit fused multiply-adds and fixed lane counts, so all three
//! give the same bits.

use std::sync::OnceLock;

use crate::real::Real;

/// How many running sums a reduction keeps: one AVX-512 register of f32.
pub(crate) const LANES: usize = 16;

/// The vector instructions of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// What the target always has.
    Baseline,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F, BW, DQ, VL.
    Avx512,
}

/// Detects the level once.
pub(crate) fn level() -> Level {
    static LEVEL: OnceLock<Level> = OnceLock::new();
    *LEVEL.get_or_init(detect)
}

#[cfg(target_arch = "x86_64")]
fn detect() -> Level {
    let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    let avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl");
    match (avx2, avx512) {
        (true, true) => Level::Avx512,
        (true, false) => Level::Avx2,
        _ => Level::Baseline,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn detect() -> Level {
    Level::Baseline
}

/// Compiles a function for each [`Level`] and dispatches at run time. One generic parameter `R: Real` at most.
macro_rules! vectorised {
    ($(#[$doc:meta])* $vis:vis fn $name:ident $(<$r:ident: Real>)? ($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$doc])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name $(<$r: $crate::real::Real>)? ($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn body $(<$r: $crate::real::Real>)? ($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                fn avx512 $(<$r: $crate::real::Real>)? ($($arg: $ty),*) $(-> $ret)? {
                    body($($arg),*)
                }
                #[target_feature(enable = "avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                fn avx2 $(<$r: $crate::real::Real>)? ($($arg: $ty),*) $(-> $ret)? {
                    body($($arg),*)
                }
                match $crate::simd::level() {
                    // SAFETY: the level was detected on this machine.
                    $crate::simd::Level::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    $crate::simd::Level::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::simd::Level::Baseline => {}
                }
            }
            body($($arg),*)
        }
    };
}
pub(crate) use vectorised;

/// Folds `term` over the elements of slices of one length, in [`LANES`] running sums that are added pairwise at the end.
#[inline(always)]
pub(crate) fn lane_sum<R: Real, const N: usize>(slices: [&[R]; N], term: impl Fn([R; N], R) -> R) -> R {
    let len = slices[0].len();
    let chunks = slices.map(|slice| slice[..len].as_chunks::<LANES>());
    let mut lanes = [R::ZERO; LANES];
    for i in 0..len / LANES {
        let blocks = chunks.map(|(blocks, _)| &blocks[i]);
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum = term(blocks.map(|block| block[lane]), *sum);
        }
    }
    for (lane, sum) in lanes.iter_mut().enumerate().take(len % LANES) {
        *sum = term(chunks.map(|(_, rest)| rest[lane]), *sum);
    }
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// `Σ aᵢ·bᵢ`.
#[inline(always)]
pub(crate) fn dot<R: Real>(a: &[R], b: &[R]) -> R {
    let len = a.len().min(b.len());
    lane_sum([&a[..len], &b[..len]], |[a, b], sum| a.mul_add(b, sum))
}

/// The largest element; minus infinity when there is none.
#[inline(always)]
pub(crate) fn maximum<R: Real>(x: &[R]) -> R {
    let (blocks, rest) = x.as_chunks::<LANES>();
    let mut lanes = [R::NEG_INFINITY; LANES];
    for block in blocks {
        for (best, &value) in lanes.iter_mut().zip(block) {
            *best = if value > *best { value } else { *best };
        }
    }
    lanes.iter().chain(rest).fold(R::NEG_INFINITY, |best, &value| if value > best { value } else { best })
}
