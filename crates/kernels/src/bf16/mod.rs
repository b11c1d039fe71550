//! Products of f32 activations with bf16 weights: activations are rounded to bf16, sums are kept in f32.
//!
//! The best unit of the machine is chosen at run time, see [`bf16_path`]. All paths agree with the portable one within
//! [`BF16_TOLERANCE`]: they round activations alike and differ in the order and rounding of f32 sums (and the units take
//! denormal numbers for zero).

#[cfg(target_arch = "x86_64")]
mod amx;
mod gram;
mod packed;
mod portable;
#[cfg(target_arch = "x86_64")]
mod tiles;

use std::sync::OnceLock;

use half::bf16;

pub use gram::{gram, gram_bf16};
pub use packed::PackedBf16;

use crate::matmul::{MatMut, MatRef, Write, fill_bias, tokens};
use crate::micro::ROWS;
use crate::parallel::map_tasks;

/// How far a path may be from the portable one, as a share of `Σ |xᵢ·wᵢ|` of each output.
pub const BF16_TOLERANCE: f32 = 4e-6;

/// What computes bf16 products on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bf16Path {
    /// The AMX tile unit.
    Amx,
    /// AVX-512 with BF16.
    Avx512,
    /// f32 arithmetic.
    Portable,
}

/// The path in use, and why not a faster one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bf16Choice {
    /// The path.
    pub path: Bf16Path,
    /// What was found, for a report.
    pub reason: String,
}

/// Chooses the path, once: the fastest that the processor and the operating system offer and whose result on a small
/// product equals the portable path's.
pub fn bf16_path() -> &'static Bf16Choice {
    static CHOICE: OnceLock<Bf16Choice> = OnceLock::new();
    CHOICE.get_or_init(|| {
        let mut refused = Vec::new();
        for path in [Bf16Path::Amx, Bf16Path::Avx512] {
            match available(path).and_then(|()| self_check(path)) {
                Ok(()) => {
                    refused.push(format!("{path:?} equals the portable path on a trial product"));
                    return Bf16Choice { path, reason: refused.join("; ") };
                }
                Err(reason) => refused.push(reason.to_owned()),
            }
        }
        Bf16Choice { path: Bf16Path::Portable, reason: refused.join("; ") }
    })
}

#[cfg(target_arch = "x86_64")]
fn available(path: Bf16Path) -> Result<(), &'static str> {
    // The AMX path leaves small products to AVX-512.
    if !(is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16")) {
        return Err("the processor has no AVX512-BF16");
    }
    if path == Bf16Path::Amx { amx::available() } else { Ok(()) }
}

#[cfg(not(target_arch = "x86_64"))]
fn available(_: Bf16Path) -> Result<(), &'static str> {
    Err("not an x86-64 processor")
}

/// Computes a product with all kinds of edges and compares it with the portable path's.
fn self_check(path: Bf16Path) -> Result<(), &'static str> {
    let (tokens, inputs, outputs) = (75, 1063, 70);
    let sample = |i: usize| ((i * 7919 + i / 13 * 104_729) % 2003) as f32 / 1001.5 - 1.0;
    let x: Vec<f32> = (0..tokens * inputs).map(sample).collect();
    let w: Vec<bf16> = (0..outputs * inputs).map(|i| bf16::from_f32(sample(i + 5))).collect();
    let w = PackedBf16::pack(&w, outputs, inputs);
    let run = |path| {
        let mut y = vec![1.0; tokens * outputs];
        for rows in [0..3, 3..tokens] {
            let x = MatRef::new(&x[rows.start * inputs..], rows.len(), inputs);
            let y = MatMut::new(&mut y[rows.start * outputs..], rows.len(), outputs);
            product(path, x, &w, 0, y, Write::Add);
        }
        y
    };
    // |x·w| is a quarter on average.
    let bound = BF16_TOLERANCE * inputs as f32 / 4.0;
    let close = run(path).iter().zip(run(Bf16Path::Portable)).all(|(a, b)| (a - b).abs() <= bound);
    if close { Ok(()) } else { Err("a bf16 unit gave wrong results on a trial product, and is not used") }
}

/// `y (+)= bf16(x)·Wᵀ` for the outputs of `w` from `output` on, by `path`, which must be available.
fn product(path: Bf16Path, x: MatRef<'_, f32>, w: &PackedBf16, output: usize, mut y: MatMut<'_, f32>, write: Write) {
    match path {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: this path was found available.
        Bf16Path::Amx | Bf16Path::Avx512 => unsafe { tiles::product(path, x, w, output, y, write) },
        _ => portable::product(x, w, output, &mut y, write),
    }
}

/// Tokens of a task: whole left panels.
const BLOCK_TOKENS: usize = 18 * ROWS;
/// Blocks of tokens that are plenty for the threads of a machine; with fewer, outputs are shared out too.
const PLENTY: usize = 16;
/// Outputs of a task then.
const BLOCK_OUTPUTS: usize = 512;

/// `y = x·Wᵀ + bias`, with `x` `[tokens, inputs]` rounded to bf16 and `y` `[tokens, outputs]`.
///
/// # Panics
/// When the lengths do not agree.
pub fn linear_bf16(x: &[f32], w: &PackedBf16, bias: Option<&[f32]>, y: &mut [f32]) {
    linear_by(bf16_path().path, x, w, bias, y);
}

fn linear_by(path: Bf16Path, x: &[f32], w: &PackedBf16, bias: Option<&[f32]>, y: &mut [f32]) {
    let tokens = tokens(x.len(), w.inputs(), y.len(), w.outputs());
    let write = fill_bias(bias, y, w.outputs());
    let x = MatRef::new(x, tokens, w.inputs());
    let y = MatMut::new(y, tokens, w.outputs());
    let outputs = if tokens.div_ceil(BLOCK_TOKENS) >= PLENTY { w.outputs().max(1) } else { BLOCK_OUTPUTS };
    map_tasks(y.into_blocks(BLOCK_TOKENS, outputs), |(token, output, y)| {
        product(path, x.block(token, 0, y.rows(), w.inputs()), w, output, y, write);
    });
}

/// [`linear_bf16`] with a weight `[outputs, inputs]` that is not packed, and is packed for this one product.
///
/// # Panics
/// When the lengths do not agree.
pub fn linear_bf16_once(x: &[f32], w: &[bf16], bias: Option<&[f32]>, y: &mut [f32], inputs: usize, outputs: usize) {
    linear_bf16(x, &PackedBf16::pack(w, outputs, inputs), bias, y);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(i: usize) -> f32 {
        ((i * 7919 + i / 13 * 104_729) % 2003) as f32 / 1001.5 - 1.0
    }

    /// The product in f64, and `Σ |x·w|`.
    fn exact(x: &[f32], w: &[bf16], inputs: usize) -> Vec<(f64, f64)> {
        let pairs = x.chunks_exact(inputs).flat_map(|x| w.chunks_exact(inputs).map(move |w| (x, w)));
        let terms = |(x, w): (&[f32], &[bf16])| {
            let terms = x.iter().zip(w).map(|(&x, w)| bf16::from_f32(x).to_f64() * w.to_f64());
            terms.fold((0.0, 0.0), |(sum, size), t| (sum + t, size + t.abs()))
        };
        pairs.map(terms).collect()
    }

    #[test]
    fn every_path_is_within_tolerance() {
        let shapes = [(1, 5, 3), (2, 576, 70), (8, 64, 33), (15, 1100, 40), (31, 31, 31), (33, 96, 64), (300, 520, 65)];
        for (tokens, inputs, outputs) in shapes {
            let x: Vec<f32> = (0..tokens * inputs).map(sample).collect();
            let w: Vec<bf16> = (0..outputs * inputs).map(|i| bf16::from_f32(sample(i + 3))).collect();
            let bias: Vec<f32> = (0..outputs).map(sample).collect();
            let packed = PackedBf16::pack(&w, outputs, inputs);
            for path in [Bf16Path::Portable, Bf16Path::Avx512, Bf16Path::Amx] {
                if path != Bf16Path::Portable && available(path).is_err() {
                    continue;
                }
                let mut y = vec![0.0; tokens * outputs];
                linear_by(path, &x, &packed, Some(&bias), &mut y);
                for (i, (&y, (sum, size))) in y.iter().zip(exact(&x, &w, inputs)).enumerate() {
                    let want = sum + f64::from(bias[i % outputs]);
                    let bound = f64::from(BF16_TOLERANCE) * (size + 1.0);
                    assert!((f64::from(y) - want).abs() <= bound, "{path:?} {tokens}x{inputs}x{outputs} at {i}");
                }
            }
        }
    }

    #[test]
    fn the_choice_says_why() {
        assert!(!bf16_path().reason.is_empty());
    }
}
