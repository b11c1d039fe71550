//! The kernels of image networks against their definitions in f64, and every gradient against finite differences.

#![allow(clippy::type_complexity)]

mod common;

use common::{cast, check_grad, close, noise, same_at_any_thread_count};
use kernels::*;

const POOL: Pool = Pool {
    planes: 3,
    input: [7, 9],
    output: [4, 5],
    kernel: [3, 3],
    stride: [2, 2],
    dilation: [1, 1],
    pads: [[1, 1], [1, 1]],
};

/// Padded, rounded up, dilated, one row, windows that only see padding at an end.
const POOLS: [Pool; 5] = [
    POOL,
    Pool { kernel: [2, 2], pads: [[0, 0]; 2], output: [4, 5], ..POOL },
    Pool { dilation: [2, 2], output: [3, 4], pads: [[1, 1], [2, 1]], ..POOL },
    Pool { input: [1, 20], kernel: [1, 4], stride: [1, 3], output: [1, 7], pads: [[0, 0], [2, 1]], ..POOL },
    Pool { input: [5, 5], kernel: [5, 5], output: [1, 1], pads: [[0, 0]; 2], ..POOL },
];

/// The elements of each window of a plane, and how many places of it count when padding does.
fn windows(pool: &Pool) -> Vec<(Vec<usize>, usize)> {
    let place = |axis: usize, position: usize, tap: usize| {
        (position * pool.stride[axis] + tap * pool.dilation[axis]) as isize - pool.pads[axis][0] as isize
    };
    let window = |r: usize, c: usize| {
        let mut window = (Vec::new(), 0);
        for (p, q) in (0..pool.kernel[0]).flat_map(|p| (0..pool.kernel[1]).map(move |q| (p, q))) {
            let at = [place(0, r, p), place(1, c, q)];
            let inside = |low: &[usize; 2], axis: usize| at[axis] < (pool.input[axis] + low[1]) as isize;
            window.1 += usize::from(inside(&pool.pads[0], 0) && inside(&pool.pads[1], 1));
            if (0..2).all(|axis| (0..pool.input[axis] as isize).contains(&at[axis])) {
                window.0.push(at[0] as usize * pool.input[1] + at[1] as usize);
            }
        }
        window
    };
    (0..pool.output[0]).flat_map(|r| (0..pool.output[1]).map(move |c| (r, c))).map(|(r, c)| window(r, c)).collect()
}

#[test]
fn pools_equal_the_definition() {
    for pool in POOLS {
        let area = pool.input[0] * pool.input[1];
        let (x, windows) = (noise(pool.planes * area, 1), windows(&pool));
        let planes = || x.chunks(area).flat_map(|x| windows.iter().map(move |w| (x, w)));
        let best = |x: &[f64], w: &[usize]| w.iter().map(|at| x[*at]).fold(f64::NEG_INFINITY, f64::max);
        let run = |f: &dyn Fn(&Pool, &[f64], &mut [f64]), x: &[f64]| {
            let mut y = vec![0.0; pool.planes * windows.len()];
            f(&pool, x, &mut y);
            y
        };
        close(
            "max",
            &run(&|p, x, y| max_pool(p, x, y), &x),
            &planes().map(|(x, w)| best(x, &w.0)).collect::<Vec<_>>(),
            0.0,
        );
        let dy = noise(pool.planes * windows.len(), 2);
        let mut dx = vec![0.0; x.len()];
        max_pool_grad(&pool, &x, &dy, &mut dx, Write::Set);
        check_grad("max pool", &x, &dx, &dy, |x| run(&|p, x, y| max_pool(p, x, y), x));
        for divisor in [Divisor::Present, Divisor::Padded] {
            let mean = |x: &[f64], w: &(Vec<usize>, usize)| {
                let count = if divisor == Divisor::Present { w.0.len() } else { w.1 };
                w.0.iter().map(|at| x[*at]).sum::<f64>() / count.max(1) as f64
            };
            let average = |x: &[f64]| run(&|p, x, y| average_pool(p, divisor, x, y), x);
            close("mean", &average(&x), &planes().map(|(x, w)| mean(x, w)).collect::<Vec<_>>(), 1e-14);
            average_pool_grad(&pool, divisor, &dy, &mut dx, Write::Set);
            check_grad("average pool", &x, &dx, &dy, average);
        }
    }
}

const SHAPE: Channels = Channels { batch: 3, channels: 6, area: 35 };

/// Runs a norm's gradients and compares each with finite differences.
fn check_norm(
    what: &str,
    forward: impl Fn(&[f64], &Affine<'_, f64>) -> Vec<f64>,
    backward: impl Fn(&[f64], &Affine<'_, f64>, &[f64], NormGrads<'_, f64>),
) {
    let x: Vec<f64> = noise(3 * 6 * 35, 1).iter().map(|x| 2.0 * x + 5.0).collect();
    let (weight, bias, dy) = (noise(6, 2), noise(6, 3), noise(x.len(), 4));
    let (mut dx, mut dw, mut db) = (vec![0.5; x.len()], vec![0.0; 6], vec![0.0; 6]);
    let affine = Affine { weight: &weight, bias: &bias };
    backward(&x, &affine, &dy, NormGrads { dx: Some((&mut dx, Write::Add)), dw: &mut dw, db: &mut db });
    dx.iter_mut().for_each(|dx| *dx -= 0.5);
    check_grad(&format!("{what} dx"), &x, &dx, &dy, |x| forward(x, &affine));
    check_grad(&format!("{what} dw"), &weight, &dw, &dy, |weight| forward(&x, &Affine { weight, ..affine }));
    check_grad(&format!("{what} db"), &bias, &db, &dy, |bias| forward(&x, &Affine { bias, ..affine }));
}

#[test]
fn norms_of_channels() {
    const EPS: f64 = 1e-3;
    let live = |x: &[f64], affine: &Affine<'_, f64>| {
        let mut y = vec![0.0; x.len()];
        batch_norm(&SHAPE, x, affine, &channel_moments(&SHAPE, x), EPS, &mut y);
        y
    };
    check_norm("live batch norm", live, |x, affine, dy, grads| {
        batch_norm_grad(&SHAPE, x, affine, &channel_moments(&SHAPE, x), EPS, true, dy, grads);
    });
    let kept: Vec<Moments<f64>> = noise(12, 7).chunks(2).map(|m| [m[0], m[1].abs() + 0.5]).collect();
    let frozen = |x: &[f64], affine: &Affine<'_, f64>| {
        let mut y = vec![0.0; x.len()];
        batch_norm(&SHAPE, x, affine, &kept, EPS, &mut y);
        y
    };
    check_norm("frozen batch norm", frozen, |x, affine, dy, grads| {
        batch_norm_grad(&SHAPE, x, affine, &kept, EPS, false, dy, grads);
    });
    for groups in [1, 2, 6] {
        let group = |x: &[f64], affine: &Affine<'_, f64>| {
            let mut y = vec![0.0; x.len()];
            group_norm(&SHAPE, groups, x, affine, &group_moments(&SHAPE, groups, x), EPS, &mut y);
            y
        };
        check_norm("group norm", group, |x, affine, dy, grads| {
            group_norm_grad(&SHAPE, groups, x, affine, &group_moments(&SHAPE, groups, x), EPS, dy, grads);
        });
    }
    let x: Vec<f64> = noise(3 * 6 * 35, 1).iter().map(|x| x + 100.0).collect();
    for (c, [mean, variance]) in channel_moments(&SHAPE, &x).into_iter().enumerate() {
        let of: Vec<f64> = (0..x.len()).filter(|at| at / 35 % 6 == c).map(|at| x[at]).collect();
        let want = of.iter().sum::<f64>() / of.len() as f64;
        let spread = of.iter().map(|x| (x - want).powi(2)).sum::<f64>() / of.len() as f64;
        assert!((mean - want).abs() < 1e-12 && (variance - spread).abs() < 1e-12);
    }
    let rule = Lrn { size: 3, alpha: 0.5, beta: 0.75, bias: 1.0 };
    let (x, dy) = (noise(3 * 6 * 35, 1), noise(3 * 6 * 35, 2));
    let run = |x: &[f64]| {
        let mut y = vec![0.0; x.len()];
        lrn(&rule, &SHAPE, x, &mut y);
        y
    };
    let sum: f64 = (1..=3).map(|c| x[c * 35] * x[c * 35]).sum();
    assert!((run(&x)[70] - x[70] * (1.0 + 0.5 / 3.0 * sum).powf(-0.75)).abs() < 1e-14);
    let mut dx = vec![0.0; x.len()];
    lrn_grad(&rule, &SHAPE, &x, &dy, &mut dx, Write::Set);
    check_grad("LRN", &x, &dx, &dy, run);
}

#[test]
fn batch_norm_does_not_depend_on_the_threads() {
    let shape = Channels { batch: 4, channels: 9, area: 5000 };
    let (x, w, b) = (cast::<f32>(&noise(4 * 9 * 5000, 1)), cast::<f32>(&noise(9, 2)), cast::<f32>(&noise(9, 3)));
    same_at_any_thread_count("batch norm", || {
        let (mut y, mut dx) = (vec![0.0; x.len()], vec![0.0; x.len()]);
        let affine = Affine { weight: &w, bias: &b };
        let moments = channel_moments(&shape, &x);
        batch_norm(&shape, &x, &affine, &moments, 1e-5, &mut y);
        let (mut dw, mut db) = (vec![0.0; 9], vec![0.0; 9]);
        let grads = NormGrads { dx: Some((&mut dx, Write::Set)), dw: &mut dw, db: &mut db };
        batch_norm_grad(&shape, &x, &affine, &moments, 1e-5, true, &y, grads);
        [y, dx, dw, db].concat()
    });
}

#[test]
fn curves_and_their_slopes() {
    use Curve::*;
    let curves: [(Curve, fn(f64) -> f64); 19] = [
        (Neg, |x| -x),
        (Abs, f64::abs),
        (Exp, f64::exp),
        (Ln, |x| x.ln()),
        (Sqrt, f64::sqrt),
        (Reciprocal, |x| 1.0 / x),
        (Erf, |x| Real::erf(x)),
        (Sigmoid, |x| 1.0 / (1.0 + (-x).exp())),
        (Tanh, f64::tanh),
        (Softplus, |x| x.exp().ln_1p()),
        (Softsign, |x| x / (1.0 + x.abs())),
        (Mish, |x| x * x.exp().ln_1p().tanh()),
        (HardSwish, |x| x * ((x + 3.0) / 6.0).clamp(0.0, 1.0)),
        (LeakyRelu { alpha: 0.1 }, |x| if x < 0.0 { 0.1 * x } else { x }),
        (Elu { alpha: 0.7 }, |x| if x < 0.0 { 0.7 * x.exp_m1() } else { x }),
        (Selu { alpha: 1.67, gamma: 1.05 }, |x| if x < 0.0 { 1.05 * 1.67 * x.exp_m1() } else { 1.05 * x }),
        (Clip { low: -0.4, high: 2.0 }, |x| x.clamp(-0.4, 2.0)),
        (HardSigmoid { alpha: 0.2, beta: 0.5 }, |x| (0.2 * x + 0.5).clamp(0.0, 1.0)),
        (Power { exponent: 3.0 }, |x| x.powi(3)),
    ];
    for (curve, exact) in curves {
        let positive = matches!(curve, Ln | Sqrt | Reciprocal);
        let x: Vec<f64> = noise(301, 1).iter().map(|x| if positive { x.abs() + 0.2 } else { 5.0 * x }).collect();
        let want: Vec<f64> = x.iter().map(|x| exact(*x)).collect();
        let run = |x: &[f64]| {
            let mut y = vec![0.0; x.len()];
            kernels::curve(curve, x, &mut y);
            y
        };
        close(&format!("{curve:?}"), &run(&x), &want, 1e-12);
        let mut fast = vec![0.0f32; x.len()];
        kernels::curve(curve, &cast::<f32>(&x), &mut fast);
        close(&format!("{curve:?} in f32"), &fast, &want, 2e-6);
        let (dy, mut dx) = (noise(301, 2), vec![0.0; 301]);
        curve_grad(curve, &x, &dy, &mut dx, Write::Set);
        check_grad(&format!("{curve:?}"), &x, &dx, &dy, run);
    }
}

#[test]
fn functions_of_two_broadcast() {
    use Binary::*;
    let shapes: [(&[usize], &[usize]); 7] = [
        (&[4, 3, 5], &[4, 3, 5]),
        (&[4, 3, 5], &[5]),
        (&[4, 3, 5], &[3, 1]),
        (&[4, 1, 5], &[3, 1]),
        (&[], &[2, 3]),
        (&[2, 1, 3, 1], &[1, 4, 1, 5]),
        (&[7], &[1]),
    ];
    for (a_shape, b_shape) in shapes {
        let pair = Pair::new(a_shape, b_shape).expect("they fit");
        let count: usize = pair.shape().iter().product();
        let place = |shape: &[usize], at: usize| {
            let mut rest = at;
            let mut index: Vec<usize> = pair
                .shape()
                .iter()
                .rev()
                .map(|d| {
                    let i = rest % d;
                    rest /= d;
                    i
                })
                .collect();
            index.reverse();
            let index = &index[index.len() - shape.len()..];
            index.iter().zip(shape).fold(0, |at, (i, d)| at * d + if *d == 1 { 0 } else { *i })
        };
        for op in [Add, Sub, Mul, Div, Pow, Min, Max, PRelu] {
            let lift =
                |x: Vec<f64>| x.into_iter().map(|x| if op == PRelu { x } else { x.abs() + 0.3 }).collect::<Vec<_>>();
            let (a, b) = (lift(noise(a_shape.iter().product(), 1)), lift(noise(b_shape.iter().product(), 2)));
            let exact = |a: f64, b: f64| match op {
                Add => a + b,
                Sub => a - b,
                Mul => a * b,
                Div => a / b,
                Pow => a.powf(b),
                Min => a.min(b),
                Max => a.max(b),
                PRelu => {
                    if a > 0.0 {
                        a
                    } else {
                        a * b
                    }
                }
            };
            let want: Vec<f64> = (0..count).map(|at| exact(a[place(a_shape, at)], b[place(b_shape, at)])).collect();
            let run = |a: &[f64], b: &[f64]| {
                let mut y = vec![0.0; count];
                binary(op, &pair, a, b, &mut y);
                y
            };
            close(&format!("{op:?} {a_shape:?} {b_shape:?}"), &run(&a, &b), &want, 1e-14);
            let dy = noise(count, 3);
            for (side, shape) in [(Side::A, a_shape), (Side::B, b_shape)] {
                let mut d = dy.clone();
                binary_grad(op, &pair, side, &a, &b, &mut d);
                let mut sum = vec![0.0; shape.iter().product()];
                walk(&Walk::broadcast(shape, pair.shape()).reversed(), &d, &mut sum, Write::Add);
                match side {
                    Side::A => check_grad(&format!("{op:?} da"), &a, &sum, &dy, |a| run(a, &b)),
                    Side::B => check_grad(&format!("{op:?} db"), &b, &sum, &dy, |b| run(&a, b)),
                }
            }
        }
    }
    assert_eq!(Pair::new(&[2, 3], &[2]), None);
}

#[test]
fn walks_move_what_they_say() {
    let x: Vec<f64> = (0..120).map(f64::from).collect();
    let mut y = vec![0.0; 120];
    walk(&Walk::transpose(&[2, 3, 4, 5], &[2, 0, 3, 1]), &x, &mut y, Write::Set);
    for (at, got) in y.iter().enumerate() {
        let (b, d, a, c) = (at % 3, at / 3 % 5, at / 15 % 2, at / 30);
        assert_eq!(*got, (((a * 3 + b) * 4 + c) * 5 + d) as f64);
    }
    let mut back = vec![0.0; 120];
    walk(&Walk::transpose(&[2, 3, 4, 5], &[2, 0, 3, 1]).reversed(), &y, &mut back, Write::Set);
    assert_eq!(back, x);
    let mut part = vec![0.0; 2 * 2 * 3];
    walk(&Walk::slice(&[6, 4, 5], &[1, 0, 4], &[3, 2, -2], &[2, 2, 3]), &x, &mut part, Write::Set);
    assert_eq!(part, [24.0, 22.0, 20.0, 34.0, 32.0, 30.0, 84.0, 82.0, 80.0, 94.0, 92.0, 90.0]);
    let along = Along::axis(&[2, 3, 2], 1);
    let (mut picked, mut grad) = (vec![0.0; 2 * 4 * 2], vec![0.0; 12]);
    take(along, &x[..12], &[2, 0, 2, 1], &mut picked);
    assert_eq!(picked[..8], [4.0, 5.0, 0.0, 1.0, 4.0, 5.0, 2.0, 3.0]);
    take_grad(along, &[1.0; 16], &[2, 0, 2, 1], &mut grad);
    assert_eq!(grad[..6], [1.0, 1.0, 1.0, 1.0, 2.0, 2.0]);
}

#[test]
fn folds_and_softmax_along_any_axis() {
    for along in [Along { outer: 3, length: 7, inner: 1 }, Along { outer: 2, length: 5, inner: 6 }] {
        let (x, dy) = (noise(along.elements(), 1), noise(along.elements(), 2));
        let column = |x: &[f64], at: usize| -> Vec<f64> {
            let (outer, inner) = (at / along.inner, at % along.inner);
            (0..along.length).map(|n| x[(outer * along.length + n) * along.inner + inner]).collect()
        };
        let count = along.outer * along.inner;
        let folds: [(Fold, fn(f64, f64) -> f64, f64); 4] = [
            (Fold::Sum, |a, b| a + b, 0.0),
            (Fold::Max, f64::max, f64::NEG_INFINITY),
            (Fold::Min, f64::min, f64::INFINITY),
            (Fold::Product, |a, b| a * b, 1.0),
        ];
        for (op, exact, start) in folds {
            let run = |x: &[f64]| {
                let mut y = vec![0.0; count];
                fold(op, along, x, &mut y);
                y
            };
            let want: Vec<f64> = (0..count).map(|at| column(&x, at).into_iter().fold(start, exact)).collect();
            close(&format!("{op:?}"), &run(&x), &want, 1e-14);
            if matches!(op, Fold::Max | Fold::Min) {
                let mut dx = vec![0.0; x.len()];
                extreme_grad(along, &x, &run(&x), &dy[..count], &mut dx, Write::Set);
                check_grad("extreme", &x, &dx, &dy[..count], run);
            }
        }
        for log in [false, true] {
            let run = |x: &[f64]| {
                let mut y = x.to_vec();
                softmax_along(along, log, &mut y);
                y
            };
            let y = run(&x);
            for at in 0..count {
                let total: f64 = column(&x, at).iter().map(|x| x.exp()).sum();
                let want: Vec<f64> =
                    column(&x, at).iter().map(|x| if log { x - total.ln() } else { x.exp() / total }).collect();
                close("softmax", &column(&y, at), &want, 1e-14);
            }
            let mut dx = vec![0.0; x.len()];
            softmax_along_grad(along, log, &y, &dy, &mut dx, Write::Set);
            check_grad("softmax", &x, &dx, &dy, run);
        }
    }
}

#[test]
fn resampling_and_its_gradient() {
    let along = Along { outer: 2, length: 4, inner: 3 };
    let terms = vec![vec![(0, 1.0)], vec![(0, 0.25), (1, 0.75)], vec![(3, 0.5), (2, 0.5)], vec![], vec![(3, 1.0)]];
    let table = Resample { source: 4, terms };
    let run = |x: &[f64]| {
        let mut y = vec![0.0; 2 * 5 * 3];
        resample(&table, along, x, &mut y);
        y
    };
    let (x, dy) = (noise(24, 1), noise(30, 2));
    let y = run(&x);
    assert_eq!((y[0], y[4], y[10]), (x[0], 0.25f64.mul_add(x[1], 0.0) + 0.75 * x[4], 0.0));
    let mut dx = vec![0.0; 24];
    resample_grad(&table, along, &dy, &mut dx, Write::Set);
    check_grad("resampling", &x, &dx, &dy, run);
}

#[test]
fn fake_quantization() {
    let along = Along { outer: 2, length: 3, inner: 40 };
    let range = QuantRange { low: -8, high: 7 };
    let x: Vec<f64> = noise(240, 1).iter().map(|x| 3.0 * x).collect();
    let scales = [0.25, 0.31, 0.7];
    let quant = FakeQuant { along, range, scales: &scales, zeros: &[0, 2, -3] };
    let mut y = vec![0.0; 240];
    fake_quant(&quant, &x, &mut y);
    let (dy, mut dx, mut ds) = (noise(240, 2), vec![0.0; 240], vec![0.0; 3]);
    fake_quant_grad(&quant, &x, &dy, &mut dx, Write::Set);
    fake_quant_grad_scale(&quant, &x, &dy, &mut ds);
    let mut want = [0.0; 3];
    for at in 0..240 {
        let (scale, zero) = (scales[at / 40 % 3], [0.0, 2.0, -3.0][at / 40 % 3]);
        let free = (x[at] / scale).round_ties_even() + zero;
        let q = free.clamp(-8.0, 7.0);
        assert_eq!(y[at], scale * (q - zero));
        assert_eq!(dx[at], if q == free { dy[at] } else { 0.0 });
        want[at / 40 % 3] += dy[at] * if q == free { q - zero - x[at] / scale } else { q - zero };
    }
    close("scale gradient", &ds, &want, 1e-13);
}

#[test]
fn sgd_follows_its_formula() {
    let settings = Sgd { lr: 0.1, momentum: 0.9, weight_decay: 0.01, nesterov: false, grad_scale: 0.5 };
    let (mut w, mut v) = (vec![1.0f64], vec![0.2]);
    sgd(&settings, &mut w, &[2.0], &mut v);
    assert!((v[0] - (0.18 + 1.01)).abs() < 1e-15 && (w[0] - (1.0 - 0.119)).abs() < 1e-15);
    let (mut w, mut v) = (vec![1.0f64], vec![0.2]);
    sgd(&Sgd { nesterov: true, ..settings }, &mut w, &[2.0], &mut v);
    assert!((w[0] - (1.0 - 0.1 * (1.01 + 0.9 * 1.19))).abs() < 1e-15);
}
