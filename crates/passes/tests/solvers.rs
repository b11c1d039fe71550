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

/// `tr(E·H·Eᵀ)` of the encoded matrix.
fn output_error(encoding: Encoding, parts: &[Part], weight: &[f32], inputs: &Inputs) -> f64 {
    let find = |suffix: &str| parts.iter().find(|p| p.spec.suffix == suffix).map(|p| &p.bytes[..]);
    let decoded = encoding.decode(ROWS, COLS, find).expect("decodes");
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
            let find = |suffix: &str| parts.iter().find(|p| p.spec.suffix == suffix).map(|p| &p.bytes[..]);
            let decoded = encoding.decode(ROWS, COLS, find).expect("decodes");
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
