//! The soft cap of scores and logits (Gemma 2): `y = cap·tanh(x/cap)`, `dy/dx = 1 − tanh²(x/cap)`.

use crate::matmul::Write;
use crate::parallel::for_each_chunk;
use crate::real::Real;
use crate::simd::vectorised;

vectorised! {
    fn soft_cap_here<R: Real>(cap: R, x: &[R], y: &mut [R]) {
        let inverse = R::ONE / cap;
        y.iter_mut().zip(x).for_each(|(y, &x)| *y = cap * (x * inverse).tanh());
    }
}

vectorised! {
    fn soft_cap_grad_here<R: Real>(cap: R, x: &[R], dy: &[R], dx: &mut [R], write: Write) {
        let inverse = R::ONE / cap;
        for (dx, (&x, &dy)) in dx.iter_mut().zip(x.iter().zip(dy)) {
            let tanh = (x * inverse).tanh();
            let term = dy * (R::ONE - tanh * tanh);
            *dx = if write == Write::Add { *dx + term } else { term };
        }
    }
}

/// `y = cap·tanh(x/cap)`.
///
/// # Panics
/// When the lengths differ.
pub fn soft_cap<R: Real>(cap: R, x: &[R], y: &mut [R]) {
    assert_eq!(x.len(), y.len(), "soft cap of unlike lengths");
    for_each_chunk(y, |range, y| soft_cap_here(cap, &x[range], y));
}

/// `dx (+)= dy·(1 − tanh²(x/cap))`.
///
/// # Panics
/// When the lengths differ.
pub fn soft_cap_grad<R: Real>(cap: R, x: &[R], dy: &[R], dx: &mut [R], write: Write) {
    assert!(x.len() == dx.len() && dy.len() == dx.len(), "soft cap gradient of unlike lengths");
    for_each_chunk(dx, |range, dx| soft_cap_grad_here(cap, &x[range.clone()], &dy[range], dx, write));
}
