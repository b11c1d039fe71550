//! Grids of values, weights and biases, as onnxruntime's integer kernels want them.
//!
//! | what | grid |
//! |---|---|
//! | values | one scale and zero point for all, `s = (high − low) / 255`, zero exactly on a code |
//! | weights | symmetric, one scale for each output channel, `s = max |w| / 127`; without the code −128 |
//! | biases | 32 bits, `s = s_x · s_w` channel by channel, zero point 0 |
//!
//! A bias that has no code on its grid widens the scale of the weights of its channel.
//!
//! Source: Jacob et al. 2018, *Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference*.

use graph::{Grid, Levels};

/// Codes that a bias may have: half of the accumulator's, so that the product's sum has room.
const BIAS_MOST: f64 = (1u64 << 30) as f64;

/// The grid of a range with zero in it.
pub fn of_range([low, high]: [f32; 2], levels: Levels) -> Grid {
    let (low, high) = (f64::from(low.min(0.0)), f64::from(high.max(0.0)));
    let (first, last) = levels.range();
    let scale = ((high - low) / (last - first) as f64) as f32;
    // A value that is always zero lies on any grid.
    let scale = if scale.is_normal() { scale } else { 1.0 };
    let zero = (first as f64 - low / f64::from(scale)).round_ties_even().clamp(first as f64, last as f64);
    Grid { scale: vec![scale], zero: vec![zero as i32], axis: None, levels }
}

/// The largest code of a symmetric grid.
pub fn most(levels: Levels) -> f32 {
    levels.range().1 as f32
}

/// The scale of channels whose largest sizes these are.
pub fn symmetric(sizes: &[f32], levels: Levels, axis: usize) -> Grid {
    let scale = |size: &f32| {
        let scale = size / most(levels);
        if scale.is_normal() { scale } else { 1.0 }
    };
    let (scale, zero) = (sizes.iter().map(scale).collect(), vec![0; sizes.len()]);
    Grid { scale, zero, axis: Some(axis), levels }
}

/// Widens scales of weights until every bias has a code on `input · scale`.
pub fn make_room(weights: &mut Grid, bias: &[f32], input: f32) {
    for (scale, bias) in weights.scale.iter_mut().zip(bias) {
        let least = f64::from(bias.abs()) / (BIAS_MOST * f64::from(input));
        *scale = scale.max(least as f32);
    }
}

/// The grid of a bias behind weights on a grid and inputs of a scale.
pub fn of_bias(weights: &Grid, input: f32) -> Grid {
    let scale: Vec<f32> = weights.scale.iter().map(|scale| scale * input).collect();
    Grid { zero: vec![0; scale.len()], scale, axis: Some(0), levels: Levels::I32 }
}

/// Rounds numbers of `shape` onto a grid; symmetric ones do not use their least code.
pub fn round(grid: &Grid, shape: &[usize], numbers: &mut [f32]) {
    let inner = inner(grid, shape);
    for (at, x) in numbers.iter_mut().enumerate() {
        let index = at / inner % grid.scale.len().max(1);
        *x = value(grid, index, code(grid, index, *x));
    }
}

/// How many numbers in a row are on one scale.
fn inner(grid: &Grid, shape: &[usize]) -> usize {
    grid.axis.map_or(usize::MAX, |axis| shape.iter().skip(axis + 1).product::<usize>()).max(1)
}

/// The nearest code that is used.
pub fn code(grid: &Grid, index: usize, x: f32) -> i64 {
    let code = grid.code(x, index);
    let signed = matches!(grid.levels, Levels::I4 | Levels::I8 | Levels::I16);
    if signed && grid.axis.is_some() { code.max(1 + grid.levels.range().0) } else { code }
}

/// What a code stands for.
pub fn value(grid: &Grid, index: usize, code: i64) -> f32 {
    let at = if grid.axis.is_some() { index } else { 0 };
    let (scale, zero) = (grid.scale.get(at).copied().unwrap_or(1.0), grid.zero.get(at).copied().unwrap_or(0));
    ((code - i64::from(zero)) as f64 * f64::from(scale)) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_and_the_ends_have_codes() {
        for levels in [Levels::U8, Levels::I8, Levels::U4] {
            for range in [[0.0, 6.0], [-1.0, 3.0], [-2.5, 0.0], [0.5, 4.0], [0.0, 0.0], [-1e-42, 1e-42]] {
                let grid = of_range(range, levels);
                assert_eq!(value(&grid, 0, code(&grid, 0, 0.0)), 0.0);
                for end in range {
                    let back = value(&grid, 0, code(&grid, 0, end));
                    assert!(
                        (back - end).abs() <= 0.5001 * grid.scale[0] || grid.scale[0] == 1.0,
                        "{range:?}: {end} {back}"
                    );
                }
            }
        }
        assert_eq!(of_range([0.0, 6.0], Levels::U8).zero, [0]);
        assert_eq!(of_range([0.0, 6.0], Levels::I8).zero, [-128]);
    }

    #[test]
    fn weights_do_not_use_the_least_code() {
        let grid = symmetric(&[1.27, 0.0], Levels::I8, 0);
        assert_eq!([code(&grid, 0, -5.0), code(&grid, 0, 5.0), code(&grid, 1, 0.0)], [-127, 127, 0]);
    }

    #[test]
    fn a_large_bias_gets_its_code() {
        let mut grid = symmetric(&[1e-9, 1.0], Levels::I8, 0);
        let bias = [300.0, 0.5];
        make_room(&mut grid, &bias, 1e-3);
        let on = of_bias(&grid, 1e-3);
        let mut rounded = bias;
        round(&on, &[2], &mut rounded);
        assert!((rounded[0] - 300.0).abs() < 1e-3 && (rounded[1] - 0.5).abs() < 1e-5, "{rounded:?}");
    }
}
