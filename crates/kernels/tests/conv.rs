//! Convolution and its gradients against the definition, over shapes that meet every path; the same bytes at any number of threads.

mod common;

use common::{cast, close, noise, same_at_any_thread_count};
use kernels::{Conv, Real, Write, conv, conv_grad_input, conv_grad_weight};

const PLAIN: Conv = Conv {
    batch: 2,
    channels: 3,
    filters: 5,
    groups: 1,
    input: [7, 9],
    kernel: [3, 3],
    stride: [1, 1],
    dilation: [1, 1],
    pads: [[1, 1], [1, 1]],
};

/// Square, asymmetric, strided, dilated, grouped, depthwise, transposed shapes, kernels larger than what they read.
const SHAPES: [Conv; 15] = [
    PLAIN,
    Conv { batch: 5, filters: 9, input: [8, 8], ..PLAIN },
    Conv { batch: 3, channels: 16, filters: 16, input: [16, 16], ..PLAIN },
    Conv { kernel: [1, 1], pads: [[0, 0], [0, 0]], ..PLAIN },
    Conv { kernel: [1, 1], pads: [[0, 0], [0, 0]], stride: [2, 2], ..PLAIN },
    Conv { stride: [2, 2], ..PLAIN },
    Conv { stride: [2, 3], pads: [[0, 1], [2, 0]], ..PLAIN },
    Conv { dilation: [2, 3], pads: [[2, 2], [3, 3]], input: [9, 12], ..PLAIN },
    Conv { kernel: [5, 2], stride: [3, 2], dilation: [1, 2], pads: [[2, 4], [0, 1]], ..PLAIN },
    Conv { channels: 6, filters: 4, groups: 2, ..PLAIN },
    Conv { channels: 4, filters: 4, groups: 4, stride: [2, 2], ..PLAIN },
    Conv { channels: 4, filters: 8, groups: 4, kernel: [5, 5], pads: [[2, 2], [2, 2]], ..PLAIN },
    Conv { batch: 1, kernel: [5, 5], pads: [[2, 2], [2, 2]], input: [3, 7], ..PLAIN },
    Conv { kernel: [1, 4], input: [1, 40], pads: [[0, 0], [3, 0]], ..PLAIN },
    Conv { batch: 1, channels: 2, kernel: [7, 7], stride: [2, 2], pads: [[3, 3], [3, 3]], input: [150, 130], ..PLAIN },
];

/// Calls `see(y index, x index, w index)` for every product of the definition.
fn products(s: &Conv, mut see: impl FnMut(usize, usize, usize)) {
    let [oh, ow] = s.output();
    let (fg, cg) = (s.filters / s.groups, s.channels / s.groups);
    for y in 0..s.batch * s.filters * oh * ow {
        let (c, r, f, n) = (y % ow, y / ow % oh, y / ow / oh % s.filters, y / ow / oh / s.filters);
        for w in 0..cg * s.kernel[0] * s.kernel[1] {
            let (q, p, i) = (w % s.kernel[1], w / s.kernel[1] % s.kernel[0], w / s.kernel[1] / s.kernel[0]);
            let row = (r * s.stride[0] + p * s.dilation[0]).checked_sub(s.pads[0][0]).filter(|row| *row < s.input[0]);
            let col = (c * s.stride[1] + q * s.dilation[1]).checked_sub(s.pads[1][0]).filter(|col| *col < s.input[1]);
            if let (Some(row), Some(col)) = (row, col) {
                let channel = n * s.channels + f / fg * cg + i;
                let taps = cg * s.kernel[0] * s.kernel[1];
                see(y, (channel * s.input[0] + row) * s.input[1] + col, f * taps + w);
            }
        }
    }
}

fn check<R: Real>(s: &Conv, bound: f64) {
    let lengths = [s.batch * s.channels * s.input[0] * s.input[1], s.weights(), s.output().iter().product::<usize>()];
    let [x_len, w_len, y_len] = [lengths[0], lengths[1], lengths[2] * s.batch * s.filters];
    let (x, w, b, dy) = (noise(x_len, 1), noise(w_len, 2), noise(s.filters, 3), noise(y_len, 4));
    let plane = lengths[2];
    let mut y: Vec<f64> = (0..y_len).map(|at| b[at / plane % s.filters]).collect();
    let (mut dx, mut dw) = (noise(x_len, 5), noise(w_len, 6));
    let (mut got_y, mut got_dx, mut got_dw) = (vec![R::ZERO; y_len], cast::<R>(&dx), cast::<R>(&dw));
    products(s, |at_y, at_x, at_w| {
        y[at_y] += x[at_x] * w[at_w];
        dx[at_x] += dy[at_y] * w[at_w];
        dw[at_w] += dy[at_y] * x[at_x];
    });
    let (x, w, b, dy) = (cast::<R>(&x), cast::<R>(&w), cast::<R>(&b), cast::<R>(&dy));
    conv(s, &x, &w, Some(&b), &mut got_y);
    conv_grad_input(s, &dy, &w, None, &mut got_dx, Write::Add);
    conv_grad_weight(s, &dy, &x, &mut got_dw, Write::Add);
    close(&format!("{s:?}: y"), &got_y, &y, bound);
    close(&format!("{s:?}: dx"), &got_dx, &dx, bound);
    close(&format!("{s:?}: dw"), &got_dw, &dw, bound);
    let before = got_dx.clone();
    conv_grad_input(s, &dy, &w, None, &mut got_dx, Write::Set);
    let kept = cast::<R>(&noise(x_len, 5));
    let sum: Vec<f64> = got_dx.iter().zip(&kept).map(|(a, b)| a.to_f64() + b.to_f64()).collect();
    close(&format!("{s:?}: dx set"), &before, &sum, bound);
}

#[test]
fn convolutions_equal_the_definition() {
    for shape in SHAPES {
        check::<f32>(&shape, 2e-5);
        check::<f64>(&shape, 1e-12);
    }
}

#[test]
fn convolutions_do_not_depend_on_the_threads() {
    let shape = Conv { batch: 9, channels: 20, filters: 24, input: [20, 21], stride: [1, 2], ..PLAIN };
    let (x, w) = (cast::<f32>(&noise(9 * 20 * 420, 1)), cast::<f32>(&noise(shape.weights(), 2)));
    let len = 9 * 24 * shape.output().iter().product::<usize>();
    same_at_any_thread_count("convolution", || {
        let (mut y, mut dx, mut dw) = (vec![0.0; len], vec![0.0; x.len()], vec![0.0; w.len()]);
        conv(&shape, &x, &w, None, &mut y);
        conv_grad_input(&shape, &y, &w, None, &mut dx, Write::Set);
        conv_grad_weight(&shape, &y, &x, &mut dw, Write::Set);
        [y, dx, dw].concat()
    });
}
