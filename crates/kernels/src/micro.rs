//! The innermost product: a few rows times 32 columns, sums held in registers.
//!
//! `C[rows, cols] (+)= alpha · A·B`. `A` comes as a *left panel*: [`ROWS`] rows interleaved, `a[p·14 + r]`, so that the loop
//! over the depth `p` reads it in order. `B` is read in rows of at least [`COLS`] elements, `b[p·stride + j]`. On AVX-512 the
//! tile is 14 × 2 registers, which leaves two for `B` and one for the broadcast of `A` (the shape of BLIS, Van Zee and van
//! de Geijn 2015); the portable version has the same contract and lets the compiler choose registers.
//!
//! bf16 uses the same shape: an element is then a *pair* of bf16 in 32 bits, and the instruction adds both products.

use crate::matmul::{MatMut, Write};
use crate::real::Real;
use crate::simd::vectorised;

/// Rows of a left panel.
pub(crate) const ROWS: usize = 14;
/// Columns of a tile.
pub(crate) const COLS: usize = 32;

/// A tile of `C`, at most [`ROWS`] × [`COLS`], and what to do to it.
pub(crate) struct Tile<'a, R> {
    /// The tile.
    pub(crate) c: MatMut<'a, R>,
    /// Factor of the product.
    pub(crate) alpha: R,
    /// Replace or add.
    pub(crate) write: Write,
}

impl<R> Tile<'_, R> {
    /// Checks what the kernels rely on: all that they read is inside the slices. `C` is, by its type.
    fn check(&self, depth: usize, a: usize, b: usize, b_stride: usize) {
        assert!((1..=ROWS).contains(&self.c.rows()) && (1..=COLS).contains(&self.c.cols()), "tile shape");
        assert!(a >= depth * ROWS && (depth == 0 || b >= (depth - 1) * b_stride + COLS), "operands too short");
    }
}

/// The portable kernel: four rows by sixteen columns at a time.
pub(crate) fn portable<R: Real>(depth: usize, a: &[R], b: &[R], b_stride: usize, tile: Tile<'_, R>) {
    tile.check(depth, a.len(), b.len(), b_stride);
    portable_here(depth, a, b, b_stride, tile);
}

vectorised! {
    fn portable_here<R: Real>(depth: usize, a: &[R], b: &[R], b_stride: usize, tile: Tile<'_, R>) {
        let mut tile = tile;
        const R4: usize = 4;
        const C16: usize = COLS / 2;
        for row in (0..tile.c.rows()).step_by(R4) {
            for col in (0..tile.c.cols()).step_by(C16) {
                let mut sums = [[R::ZERO; C16]; R4];
                for p in 0..depth {
                    let b: &[R; C16] = b[p * b_stride + col..].first_chunk().expect("checked");
                    for (i, sums) in sums.iter_mut().enumerate() {
                        let a = a[p * ROWS + (row + i).min(ROWS - 1)];
                        sums.iter_mut().zip(b).for_each(|(sum, &b)| *sum = a.mul_add(b, *sum));
                    }
                }
                for (row, sums) in (row..tile.c.rows()).zip(&sums) {
                    let c = tile.c.row_mut(row)[col..].iter_mut();
                    match tile.write {
                        Write::Set => c.zip(sums).for_each(|(c, &sum)| *c = tile.alpha * sum),
                        Write::Add => c.zip(sums).for_each(|(c, &sum)| *c = tile.alpha.mul_add(sum, *c)),
                    }
                }
            }
        }
    }
}

/// The f32 kernel of this machine.
pub(crate) fn f32_kernel(depth: usize, a: &[f32], b: &[f32], b_stride: usize, tile: Tile<'_, f32>) {
    #[cfg(target_arch = "x86_64")]
    if crate::simd::level() == crate::simd::Level::Avx512 {
        tile.check(depth, a.len(), b.len(), b_stride);
        // SAFETY: the instructions were detected, and `check` holds.
        return unsafe { avx512::f32_tile(depth, a, b, b_stride, tile) };
    }
    portable(depth, a, b, b_stride, tile);
}

/// The bf16 kernel of AVX-512: elements of `a` and `b` are pairs.
///
/// # Safety
/// The machine has AVX-512 F and BF16.
#[cfg(target_arch = "x86_64")]
pub(crate) unsafe fn bf16_kernel(depth: usize, a: &[u32], b: &[u32], tile: Tile<'_, f32>) {
    tile.check(depth, a.len(), b.len(), COLS);
    // SAFETY: promised by the caller, and `check` holds.
    unsafe { avx512::bf16_tile(depth, a, b, COLS, tile) }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::*;

    use super::{COLS, ROWS, Tile, Write};

    /// What differs between the kernels: the element and the instruction.
    pub(super) trait Unit {
        type Element: Copy;
        /// The element in every lane.
        unsafe fn broadcast(element: Self::Element) -> __m512i;
        /// `sum + a·b`, lane by lane.
        unsafe fn dot(sum: __m512, a: __m512i, b: __m512i) -> __m512;
    }

    pub(super) struct F32;
    impl Unit for F32 {
        type Element = f32;
        #[inline(always)]
        unsafe fn broadcast(element: f32) -> __m512i {
            // SAFETY: only called from functions that enable AVX-512.
            unsafe { _mm512_castps_si512(_mm512_set1_ps(element)) }
        }
        #[inline(always)]
        unsafe fn dot(sum: __m512, a: __m512i, b: __m512i) -> __m512 {
            // SAFETY: as above.
            unsafe { _mm512_fmadd_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), sum) }
        }
    }

    pub(super) struct Bf16;
    impl Unit for Bf16 {
        type Element = u32;
        #[inline(always)]
        unsafe fn broadcast(element: u32) -> __m512i {
            // SAFETY: as above.
            unsafe { _mm512_set1_epi32(element.cast_signed()) }
        }
        #[inline(always)]
        unsafe fn dot(sum: __m512, a: __m512i, b: __m512i) -> __m512 {
            // SAFETY: only called from functions that enable AVX512-BF16; the types are views of the same 512 bits.
            unsafe {
                _mm512_dpbf16_ps(
                    sum,
                    std::mem::transmute::<__m512i, __m512bh>(a),
                    std::mem::transmute::<__m512i, __m512bh>(b),
                )
            }
        }
    }

    /// # Safety
    /// [`Tile::check`] holds and the instructions exist.
    #[inline(always)]
    unsafe fn sums<U: Unit, const M: usize>(
        depth: usize,
        a: *const U::Element,
        b: *const U::Element,
        b_stride: usize,
    ) -> [[__m512; 2]; M] {
        // SAFETY: `check` put every address below inside the operands.
        unsafe {
            let mut sums = [[_mm512_setzero_ps(); 2]; M];
            for p in 0..depth {
                let row = b.add(p * b_stride);
                let b = [_mm512_loadu_si512(row.cast()), _mm512_loadu_si512(row.add(COLS / 2).cast())];
                for (r, sums) in sums.iter_mut().enumerate() {
                    let a = U::broadcast(*a.add(p * ROWS + r));
                    sums[0] = U::dot(sums[0], a, b[0]);
                    sums[1] = U::dot(sums[1], a, b[1]);
                }
            }
            sums
        }
    }

    /// # Safety
    /// [`Tile::check`] holds, and AVX-512 exists.
    #[inline(always)]
    unsafe fn store<const M: usize>(sums: [[__m512; 2]; M], mut tile: Tile<'_, f32>) {
        let masks = [lanes(tile.c.cols()), lanes(tile.c.cols().saturating_sub(COLS / 2))];
        // SAFETY: masked lanes are not touched, and `check` put the others inside `C`.
        unsafe {
            let alpha = _mm512_set1_ps(tile.alpha);
            for (r, sums) in sums.into_iter().enumerate() {
                let row = tile.c.as_mut_ptr().add(r * tile.c.row_stride());
                for (half, (sum, mask)) in sums.into_iter().zip(masks).enumerate() {
                    let to = row.wrapping_add(half * COLS / 2);
                    let value = match tile.write {
                        Write::Set => _mm512_mul_ps(alpha, sum),
                        Write::Add => _mm512_fmadd_ps(alpha, sum, _mm512_maskz_loadu_ps(mask, to)),
                    };
                    _mm512_mask_storeu_ps(to, mask, value);
                }
            }
        }
    }

    /// The mask of the first `count` lanes.
    fn lanes(count: usize) -> __mmask16 {
        if count >= 16 { !0 } else { (1 << count) - 1 }
    }

    macro_rules! kernel {
        ($(#[$doc:meta])* $name:ident, $unit:ty, $features:literal, [$($rows:literal)*]) => {
            $(#[$doc])*
            ///
            /// # Safety
            /// [`Tile::check`] holds, and the instructions exist.
            #[target_feature(enable = $features)]
            pub(super) unsafe fn $name(
                depth: usize,
                a: &[<$unit as Unit>::Element],
                b: &[<$unit as Unit>::Element],
                b_stride: usize,
                tile: Tile<'_, f32>,
            ) {
                let (a, b) = (a.as_ptr(), b.as_ptr());
                match tile.c.rows() {
                    // SAFETY: this function's own promise.
                    $($rows => unsafe { store(sums::<$unit, $rows>(depth, a, b, b_stride), tile) },)*
                    _ => unreachable!("a tile has 1 to 14 rows"),
                }
            }
        };
    }
    kernel!(/// Sixteen f32 per register.
        f32_tile, F32, "avx512f", [1 2 3 4 5 6 7 8 9 10 11 12 13 14]);
    kernel!(/// Sixteen pairs of bf16 per register.
        bf16_tile, Bf16, "avx512f,avx512bf16", [1 2 3 4 5 6 7 8 9 10 11 12 13 14]);
}
