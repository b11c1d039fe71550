//! Sparsity: which numbers go, that a mask applied again changes nothing, and what making good is worth.

use calib::{Depth, Inputs};
use passes::prune::sparse::{feed_back, magnitude, wanda};
use plan::Zeros;

const ROWS: usize = 24;
const COLS: usize = 160;

fn matrix() -> Vec<f32> {
    testkit::values("sparse", ROWS * COLS, 1.0 / 64.0)
}

/// Columns that go together, some louder than others.
fn inputs() -> (Vec<f32>, Inputs) {
    let noise = testkit::values("inputs", 600 * COLS, 1.0 / 128.0);
    let row = |row: &[f32]| -> Vec<f32> {
        let loud = |j: usize| 0.2 + (j % 7) as f32;
        (0..COLS).map(|j| loud(j) * (row[j] + 0.8 * row[j / 4 * 4])).collect()
    };
    let rows: Vec<f32> = noise.chunks(COLS).flat_map(row).collect();
    let mut inputs = Inputs::new(COLS, Depth::Hessian);
    inputs.see(&rows);
    (rows, inputs)
}

fn zeros(matrix: &[f32]) -> usize {
    matrix.iter().filter(|x| **x == 0.0).count()
}

/// `Σ (x · (w − v))²`.
fn loss(rows: &[f32], w: &[f32], v: &[f32]) -> f64 {
    let dot = |x: &[f32], n: usize| -> f64 {
        let at = n * COLS..(n + 1) * COLS;
        x.iter().zip(&w[at.clone()]).zip(&v[at]).map(|((x, w), v)| f64::from(x * (w - v))).sum()
    };
    rows.chunks(COLS).map(|x| (0..ROWS).map(|n| dot(x, n).powi(2)).sum::<f64>()).sum()
}

#[test]
fn the_least_go() {
    let mut row = [3.0, -1.0, 2.0, -4.0, 0.5, 6.0, 7.0, -8.0];
    magnitude(&mut row, 8, Zeros::Share(0.5));
    assert_eq!(row, [0.0, 0.0, 0.0, -4.0, 0.0, 6.0, 7.0, -8.0]);
    let mut row = [3.0, -1.0, 2.0, -4.0, 0.5, 6.0, 7.0, -8.0];
    magnitude(&mut row, 8, Zeros::Of { zeros: 2, of: 4 });
    assert_eq!(row, [3.0, 0.0, 0.0, -4.0, 0.0, 0.0, 7.0, -8.0]);
    let mut rows = [3.0, 1.0, 1.0, 1.0, 3.0, 1.0];
    wanda(&mut rows, &[0.01, 4.0, 1.0], Zeros::Of { zeros: 1, of: 3 });
    assert_eq!(rows, [0.0, 1.0, 1.0, 0.0, 3.0, 1.0], "what is multiplied by little goes first");
}

#[test]
fn masks_are_idempotent() {
    let (_, inputs) = inputs();
    for amount in [Zeros::Share(0.6), Zeros::Of { zeros: 2, of: 4 }] {
        let [mut by_size, mut by_inputs] = [matrix(), matrix()];
        magnitude(&mut by_size, COLS, amount);
        wanda(&mut by_inputs, &inputs.importance(), amount);
        let (once, again) = ((by_size.clone(), by_inputs.clone()), (&mut by_size, &mut by_inputs));
        magnitude(again.0, COLS, amount);
        wanda(again.1, &inputs.importance(), amount);
        assert_eq!(once, (by_size, by_inputs));
    }
}

#[test]
fn making_good_beats_choosing_well_beats_choosing() {
    let (rows, inputs) = inputs();
    let whole = matrix();
    for amount in [Zeros::Share(0.5), Zeros::Of { zeros: 2, of: 4 }] {
        let [mut by_size, mut by_inputs, mut made_good] = [whole.clone(), whole.clone(), whole.clone()];
        magnitude(&mut by_size, COLS, amount);
        wanda(&mut by_inputs, &inputs.importance(), amount);
        feed_back(&mut made_good, &inputs, amount).expect("factors");
        for sparse in [&by_size, &by_inputs, &made_good] {
            let share = zeros(sparse) as f64 / whole.len() as f64;
            assert!((share - 0.5).abs() < 0.01, "{amount}: {share}");
        }
        let [by_size, by_inputs, made_good] = [&by_size, &by_inputs, &made_good].map(|v| loss(&rows, &whole, v));
        assert!(by_inputs < 0.9 * by_size && made_good < 0.7 * by_inputs, "{by_size} {by_inputs} {made_good}");
    }
}
