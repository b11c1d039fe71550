//! Every solver on every kind of encoding: less error at the layer's output than rounding, the same bytes at any number
//! of threads.

use calib::{Depth, Inputs};
use codec::{Encoding, Matrix, Part};
use passes::quantize::solver::{Problem, solver};
use plan::Method;

const ROWS: usize = 48;
const COLS: usize = 512;
const TOKENS: usize = 700;

const ENCODINGS: [&str; 14] = [
    "q2_k",
    "q3_k",
    "q4_k",
    "q5_k",
    "q6_k",
    "iq4_xs",
    "q4_0",
    "tq2_0",
    "mxfp4",
    "int4-g128",
    "int3-g32-asym",
    "int4-channel",
    "mxfp4-g32",
    "nvfp4-g16",
];

/// Rows whose columns are correlated and of unlike size, as activations are.
fn inputs(depth: Depth) -> Inputs {
    let noise = testkit::values("noise", TOKENS * COLS, 1.0 / 128.0);
    let common = testkit::values("common", TOKENS * 8, 1.0 / 64.0);
    let row = |t: usize| {
        let (noise, common) = (&noise[t * COLS..], &common[t * 8..]);
        (0..COLS)
            .map(move |j| (0.5 * noise[j] + common[j % 8] + common[(j * 3 + 1) % 8]) * (1.0 + (j % 29) as f32 * 0.1))
    };
    let rows: Vec<f32> = (0..TOKENS).flat_map(row).collect();
    let mut inputs = Inputs::new(COLS, depth);
    inputs.see(&rows);
    inputs
}

fn weight() -> Vec<f32> {
    testkit::values("weight", ROWS * COLS, 1.0 / 1024.0)
}

fn decoded(encoding: Encoding, parts: &[Part]) -> Vec<f32> {
    let find = |suffix: &str| parts.iter().find(|p| p.spec.suffix == suffix).map(|p| &p.bytes[..]);
    encoding.decode(ROWS, COLS, find).expect("decodes")
}

/// `tr(E·H·Eᵀ)` of the encoded matrix.
fn output_error(encoding: Encoding, parts: &[Part], weight: &[f32], inputs: &Inputs) -> f64 {
    let decoded = decoded(encoding, parts);
    let hessian = inputs.hessian().expect("was asked for");
    let error: Vec<f32> = decoded.iter().zip(weight).map(|(a, b)| a - b).collect();
    let row = |e: &[f32]| -> f64 {
        (0..COLS)
            .map(|i| f64::from(e[i]) * e.iter().zip(&hessian[i * COLS..]).map(|(e, h)| f64::from(e * h)).sum::<f64>())
            .sum()
    };
    error.chunks_exact(COLS).map(row).sum()
}

fn solve(method: Method, encoding: Encoding, weight: &[f32], inputs: &Inputs) -> Vec<Part> {
    let matrix = Matrix { rows: ROWS, cols: COLS, data: weight };
    let problem = Problem { name: "w", matrix, encoding, inputs: Some(inputs), whole: None };
    solver(method).expect("has a solver").solve(&problem).expect("solves").parts
}

fn rounded(encoding: Encoding, weight: &[f32]) -> Vec<Part> {
    encoding.encode(Matrix { rows: ROWS, cols: COLS, data: weight }, None).expect("encodes")
}

#[test]
fn error_feedback_beats_rounding_in_every_encoding() {
    let (inputs, weight) = (inputs(Depth::Hessian), weight());
    for name in ENCODINGS {
        let encoding = plan::encoding(name).expect("is an encoding");
        let error = |parts: &[Part]| output_error(encoding, parts, &weight, &inputs);
        let (plain, solved) =
            (error(&rounded(encoding, &weight)), error(&solve(Method::Gptq, encoding, &weight, &inputs)));
        assert!(solved < 0.75 * plain, "{name}: {solved} against {plain}");
    }
}

#[test]
fn searched_scales_are_no_worse_than_rounding() {
    let (inputs, weight) = (inputs(Depth::Hessian), weight());
    for name in ENCODINGS {
        let encoding = plan::encoding(name).expect("is an encoding");
        let importance = inputs.importance();
        let error = |parts: &[Part]| {
            let decoded = decoded(encoding, parts);
            let squares = decoded.iter().zip(&weight).zip(importance.iter().cycle());
            squares.map(|((a, b), w)| f64::from((a - b) * (a - b) * w)).sum::<f64>()
        };
        let (plain, solved) =
            (error(&rounded(encoding, &weight)), error(&solve(Method::Search, encoding, &weight, &inputs)));
        assert!(solved <= plain, "{name}: {solved} against {plain}");
    }
}

#[test]
fn the_number_of_threads_does_not_change_a_byte() {
    let (inputs, weight) = (inputs(Depth::Hessian), weight());
    for method in Method::ALL.into_iter().filter(|m| solver(*m).is_some()) {
        for name in ["q3_k", "int4-g128"] {
            let encoding = plan::encoding(name).expect("is an encoding");
            let with = |threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("makes threads");
                pool.install(|| solve(method, encoding, &weight, &inputs))
            };
            let one = with(1);
            assert!([2, 4].into_iter().all(|threads| with(threads) == one), "{method} of {name}");
        }
    }
}

#[test]
fn half_quadratic_scales_leave_fewer_large_errors_than_rounding() {
    let weight = weight();
    for name in ["q3_k", "q4_0", "int4-g128", "int3-g32-asym"] {
        let encoding = plan::encoding(name).expect("is an encoding");
        let matrix = Matrix { rows: ROWS, cols: COLS, data: &weight };
        let sum = |parts: &[Part]| -> f64 {
            decoded(encoding, parts).iter().zip(&weight).map(|(a, b)| f64::from((a - b).abs()).powf(0.7)).sum()
        };
        let fitted = passes::quantize::hqq::encode(&encoding, matrix, None).expect("encodes");
        let (plain, fitted) = (sum(&rounded(encoding, &weight)), sum(&fitted));
        assert!(fitted < plain, "{name}: {fitted} against {plain}");
    }
}

#[test]
fn two_ternary_planes_are_nine_levels_at_the_error_that_the_paper_has() {
    let normal: Vec<f32> = (0..12)
        .map(|n| testkit::values(&format!("plane {n}"), ROWS * COLS, 1.0 / 128.0))
        .fold(vec![0.0; ROWS * COLS], |sum, x| sum.iter().zip(x).map(|(a, b)| a + b).collect());
    let encoding = plan::encoding("int4-g128").expect("is an encoding");
    let matrix = Matrix { rows: ROWS, cols: COLS, data: &normal };
    let parts = passes::quantize::ptqtp::encode(&encoding, matrix, None).expect("encodes");
    let decoded = decoded(encoding, &parts);
    for group in decoded.chunks_exact(128) {
        let mut levels: Vec<f32> = group.to_vec();
        levels.sort_by(f32::total_cmp);
        levels.dedup();
        assert!(levels.len() <= 9, "{levels:?}");
    }
    let square = |x: &mut dyn Iterator<Item = f32>| x.map(|x| f64::from(x * x)).sum::<f64>();
    let error = square(&mut decoded.iter().zip(&normal).map(|(a, b)| a - b)) / square(&mut normal.iter().copied());
    assert!((0.15..0.18).contains(&error.sqrt()), "relative error {}", error.sqrt());
}

#[test]
fn ternary_scales_begin_better_than_the_largest_magnitude() {
    let (inputs, weight) = (inputs(Depth::Hessian), weight());
    let encoding = plan::encoding("tq2_0").expect("is an encoding");
    let error = |method| output_error(encoding, &solve(method, encoding, &weight, &inputs), &weight, &inputs);
    let (ternary, feedback) = (error(Method::Ternary), error(Method::Gptq));
    assert!(ternary < 0.8 * feedback, "{ternary} against {feedback}");
}
