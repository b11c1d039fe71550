//! RMSNorm (Zhang and Sennrich 2019) and LayerNorm (Ba et al. 2016), forward and backward, row by row.
//!
//! RMSNorm: `y = x·r·(w + offset)`, `r = 1/√(mean(x²) + eps)`; the offset is 0, or 1 for Gemma, which stores `w − 1`.
//! LayerNorm: `y = (x − mean)·s·w + b`, `s = 1/√(var + eps)`. The forward pass keeps `r` (or mean and `s`) per row for the
//! backward pass.

use crate::matmul::Write;
use crate::parallel::{Rows, map_rows};
use crate::real::Real;
use crate::simd::{dot, lane_sum, vectorised};

vectorised! {
    fn rms_rows<R: Real>(x: &[R], w: &[R], offset: R, eps: R, y: &mut [R], inv_rms: &mut [R]) {
        let width = w.len();
        for ((x, y), inv_rms) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)).zip(inv_rms) {
            let mean = lane_sum([x], |[x], sum| x.mul_add(x, sum)) / R::from_f64(width as f64);
            *inv_rms = R::ONE / (mean + eps).sqrt();
            for ((y, &x), &w) in y.iter_mut().zip(x).zip(w) {
                *y = x * *inv_rms * (w + offset);
            }
        }
    }
}

/// RMSNorm over rows of `w.len()` elements; `inv_rms` receives one value per row.
///
/// # Panics
/// When the lengths do not agree.
pub fn rms_norm<R: Real>(x: &[R], w: &[R], offset: R, eps: R, y: &mut [R], inv_rms: &mut [R]) {
    let width = w.len();
    assert!(x.len() == y.len() && x.len() == inv_rms.len() * width, "RMSNorm of unlike lengths");
    if width > 0 {
        map_rows(inv_rms.len(), Rows::new(y, width), Rows::new(inv_rms, 1), |rows, y, inv_rms| {
            rms_rows(&x[rows.start * width..rows.end * width], w, offset, eps, y, inv_rms);
        });
    }
}

vectorised! {
    fn rms_grad_rows<R: Real>(
        x: &[R],
        w: &[R],
        offset: R,
        inv_rms: &[R],
        dy: &[R],
        dx: &mut [R],
        dw: &mut [R],
        write: Write,
    ) {
        let width = w.len();
        let rows = x.chunks_exact(width).zip(dy.chunks_exact(width)).zip(dx.chunks_exact_mut(width)).zip(inv_rms);
        for (((x, dy), dx), &r) in rows {
            let dot = lane_sum([x, dy, w], |[x, dy, w], sum| (dy * (w + offset)).mul_add(x, sum));
            let shared = dot * r * r * r / R::from_f64(width as f64);
            let terms = x.iter().zip(dy).zip(w);
            match write {
                Write::Set => dx.iter_mut().zip(terms).for_each(|(dx, ((&x, &dy), &w))| {
                    *dx = dy * (w + offset) * r - x * shared;
                }),
                Write::Add => dx.iter_mut().zip(terms).for_each(|(dx, ((&x, &dy), &w))| {
                    *dx += dy * (w + offset) * r - x * shared;
                }),
            }
            for ((dw, &x), &dy) in dw.iter_mut().zip(x).zip(dy) {
                *dw += dy * x * r;
            }
        }
    }
}

/// The gradients of [`rms_norm`]: `dx (+)= …`, `dw += …`.
///
/// # Panics
/// When the lengths do not agree.
#[allow(clippy::too_many_arguments)]
pub fn rms_norm_grad<R: Real>(
    x: &[R],
    w: &[R],
    offset: R,
    inv_rms: &[R],
    dy: &[R],
    dx: &mut [R],
    dw: Option<&mut [R]>,
    write: Write,
) {
    let width = w.len();
    assert!(x.len() == dx.len() && dy.len() == dx.len(), "RMSNorm gradient of unlike lengths");
    assert!(x.len() == inv_rms.len() * width, "RMSNorm gradient of unlike lengths");
    if width == 0 {
        return;
    }
    let parts = map_rows(inv_rms.len(), Rows::new(dx, width), Rows::<R>::none(), |rows, dx, _| {
        let mut dw = vec![R::ZERO; width];
        let span = rows.start * width..rows.end * width;
        rms_grad_rows(&x[span.clone()], w, offset, &inv_rms[rows], &dy[span], dx, &mut dw, write);
        dw
    });
    add_parts(dw, parts);
}

vectorised! {
    fn layer_rows<R: Real>(x: &[R], w: &[R], b: Option<&[R]>, eps: R, y: &mut [R], stats: &mut [[R; 2]]) {
        let width = w.len();
        let count = R::from_f64(width as f64);
        for ((x, y), stats) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)).zip(stats) {
            let mean = lane_sum([x], |[x], sum| sum + x) / count;
            let var = lane_sum([x], |[x], sum| (x - mean).mul_add(x - mean, sum)) / count;
            let inv = R::ONE / (var + eps).sqrt();
            *stats = [mean, inv];
            for ((y, &x), &w) in y.iter_mut().zip(x).zip(w) {
                *y = (x - mean) * inv * w;
            }
            for (y, &b) in y.iter_mut().zip(b.unwrap_or_default()) {
                *y += b;
            }
        }
    }
}

/// LayerNorm over rows of `w.len()` elements; `stats` receives `[mean, 1/√(var + eps)]` per row.
///
/// # Panics
/// When the lengths do not agree.
pub fn layer_norm<R: Real>(x: &[R], w: &[R], b: Option<&[R]>, eps: R, y: &mut [R], stats: &mut [[R; 2]]) {
    let width = w.len();
    assert!(x.len() == y.len() && x.len() == stats.len() * width, "LayerNorm of unlike lengths");
    assert!(b.is_none_or(|b| b.len() == width), "LayerNorm bias length");
    if width > 0 {
        map_rows(stats.len(), Rows::new(y, width), Rows::new(stats, 1), |rows, y, stats| {
            layer_rows(&x[rows.start * width..rows.end * width], w, b, eps, y, stats);
        });
    }
}

vectorised! {
    fn layer_grad_rows<R: Real>(
        x: &[R],
        w: &[R],
        stats: &[[R; 2]],
        dy: &[R],
        dx: &mut [R],
        dw: &mut [R],
        db: &mut [R],
        write: Write,
    ) {
        let width = w.len();
        let count = R::from_f64(width as f64);
        let rows = x.chunks_exact(width).zip(dy.chunks_exact(width)).zip(dx.chunks_exact_mut(width)).zip(stats);
        for (((x, dy), dx), &[mean, inv]) in rows {
            let sum = dot(dy, w) / count;
            let dot = lane_sum([x, dy, w], |[x, dy, w], sum| (dy * w).mul_add((x - mean) * inv, sum)) / count;
            for (((dx, &x), &dy), &w) in dx.iter_mut().zip(x).zip(dy).zip(w) {
                let term = inv * (dy * w - sum - (x - mean) * inv * dot);
                *dx = if write == Write::Add { *dx + term } else { term };
            }
            for (((dw, db), &x), &dy) in dw.iter_mut().zip(db.iter_mut()).zip(x).zip(dy) {
                *dw += dy * (x - mean) * inv;
                *db += dy;
            }
        }
    }
}

/// The gradients of [`layer_norm`]: `dx (+)= …`, `dw += …`, `db += …`.
///
/// # Panics
/// When the lengths do not agree.
#[allow(clippy::too_many_arguments)]
pub fn layer_norm_grad<R: Real>(
    x: &[R],
    w: &[R],
    stats: &[[R; 2]],
    dy: &[R],
    dx: &mut [R],
    dw: Option<&mut [R]>,
    db: Option<&mut [R]>,
    write: Write,
) {
    let width = w.len();
    assert!(x.len() == dx.len() && dy.len() == dx.len(), "LayerNorm gradient of unlike lengths");
    assert!(x.len() == stats.len() * width, "LayerNorm gradient of unlike lengths");
    if width == 0 {
        return;
    }
    let parts = map_rows(stats.len(), Rows::new(dx, width), Rows::<R>::none(), |rows, dx, _| {
        let (mut dw, mut db) = (vec![R::ZERO; width], vec![R::ZERO; width]);
        let span = rows.start * width..rows.end * width;
        layer_grad_rows(&x[span.clone()], w, &stats[rows], &dy[span], dx, &mut dw, &mut db, write);
        (dw, db)
    });
    let (dws, dbs): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
    add_parts(dw, dws);
    add_parts(db, dbs);
}

/// Adds partial sums to a gradient, in order.
fn add_parts<R: Real>(total: Option<&mut [R]>, parts: Vec<Vec<R>>) {
    let Some(total) = total else { return };
    for part in parts {
        assert_eq!(total.len(), part.len(), "gradient length");
        total.iter_mut().zip(part).for_each(|(total, part)| *total += part);
    }
}
