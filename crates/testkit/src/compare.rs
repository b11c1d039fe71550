//! Comparisons of lists of numbers, with messages that say where they differ.

/// The largest difference between two lists of the same length, and where it is.
pub fn max_abs_difference(got: &[f32], expected: &[f32]) -> (f32, usize) {
    assert_eq!(got.len(), expected.len(), "lists of different lengths");
    let differences =
        got.iter().zip(expected).map(|(a, b)| if a.is_nan() || b.is_nan() { f32::INFINITY } else { (a - b).abs() });
    differences.enumerate().fold((0.0, 0), |worst, (i, d)| if d > worst.0 { (d, i) } else { worst })
}

/// Fails where two lists differ by more than `tolerance` anywhere.
#[track_caller]
pub fn assert_close(got: &[f32], expected: &[f32], tolerance: f32) {
    let (worst, at) = max_abs_difference(got, expected);
    assert!(worst <= tolerance, "differ by {worst} at {at}: {} is not {}", got[at], expected[at]);
}
