//! Inputs of products, and cached keys and values, as servers have them: on the grids of [`graph::RunQuant`].
//!
//! A scale per token or group is `amax / 127` or `amax / 448`, found here as servers find it at run time; others are
//! calibrated and come with the model. Four-bit floats are those of [`Packed::Mxfp4`] and [`Packed::Nvfp4`].
//!
//! Source: vLLM, `scaled_int8_quant`, `scaled_fp8_quant`; the `compressed-tensors` package.

use crate::Scalar;
use codec::packed::{Levels, Range};
use codec::{CodecError, Encoding, Matrix, Packed};
use graph::InputQuant;
use rayon::prelude::*;

/// Bytes.
const INT8: Levels = Levels::Integer(8);

/// Rows of `width` on the grid of `quant`.
pub(crate) fn served<R: Scalar>(quant: InputQuant, x: &[R], width: usize) -> Result<Vec<R>, CodecError> {
    let per = |run: usize, levels: Levels| each_run(x, run, |run| run_time(levels, run));
    let under = |scale: f32, levels: Levels| each_run(x, width, |run| rounded(levels, scale, run));
    match quant {
        InputQuant::Int8PerToken => Ok(per(width, INT8)),
        InputQuant::Fp8PerToken => Ok(per(width, Levels::E4m3)),
        InputQuant::Fp8Groups => {
            Ok(each_run(x, width, |row| row.chunks_mut(128).for_each(|g| run_time(Levels::E4m3, g))))
        }
        InputQuant::Int8 { scale } => Ok(under(scale, INT8)),
        InputQuant::Fp8 { scale } => Ok(under(scale, Levels::E4m3)),
        InputQuant::Mxfp4 => floats(Packed::Mxfp4, x, width, None),
        InputQuant::Nvfp4 { global } => {
            let amax = Levels::E4m3.max() * Levels::E2m1.max() / global;
            floats(Packed::Nvfp4, x, width, Some(Range::of(&[amax])))
        }
    }
}

/// Numbers in E4M3 under a scale.
pub(crate) fn cached<R: Scalar>(scale: f32, x: &[R]) -> Vec<R> {
    const RUN: usize = 4096;
    each_run(x, RUN, |run| rounded(Levels::E4m3, scale, run))
}

/// Changes runs of so many numbers.
fn each_run<R: Scalar>(x: &[R], run: usize, change: impl Fn(&mut [f32]) + Sync) -> Vec<R> {
    let mut out = vec![R::ZERO; x.len()];
    out.par_chunks_mut(run.max(1)).zip(x.par_chunks(run.max(1))).for_each(|(out, x)| {
        let mut run: Vec<f32> = x.iter().map(|x| x.to_f64() as f32).collect();
        change(&mut run);
        out.iter_mut().zip(run).for_each(|(out, x)| *out = R::from_f32(x));
    });
    out
}

/// Rounds under the scale that the numbers' own range asks for.
fn run_time(levels: Levels, run: &mut [f32]) {
    let scale = Range::of(run).amax() / levels.max();
    if scale > 0.0 {
        rounded(levels, scale, run);
    }
}

fn rounded(levels: Levels, scale: f32, run: &mut [f32]) {
    let mut codes = vec![0; run.len()];
    levels.encode(run, scale, 0.0, &mut codes);
    levels.decode(&codes, scale, 0.0, run);
}

fn floats<R: Scalar>(packed: Packed, x: &[R], width: usize, whole: Option<Range>) -> Result<Vec<R>, CodecError> {
    let data: Vec<f32> = x.iter().map(|x| x.to_f64() as f32).collect();
    let (rows, cols) = (data.len() / width.max(1), width);
    let parts = packed.encode(Matrix { rows, cols, data: &data }, whole)?;
    let find = |suffix: &str| parts.iter().find(|p| p.spec.suffix == suffix).map(|p| &p.bytes[..]);
    let decoded = Encoding::Packed(packed).decode(rows, cols, find)?;
    Ok(decoded.into_iter().map(R::from_f32).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_as_near_as_its_grid_allows_and_calibrated_scales_saturate() {
        let x: Vec<f32> = (0..4 * 256).map(|i| (i as f32 * 0.37).sin()).collect();
        let (amax, worst) = (1.0f32, |q: InputQuant| {
            let got = served(q, &x, 256).unwrap();
            got.iter().zip(&x).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
        });
        for (quant, bound) in [
            (InputQuant::Int8PerToken, 0.5 / 127.0),
            (InputQuant::Int8 { scale: 0.0 }.calibrated(amax), 0.5 / 127.0),
            (InputQuant::Fp8PerToken, 1.0 / 16.0),
            (InputQuant::Fp8Groups, 1.0 / 16.0),
            (InputQuant::Fp8 { scale: 0.0 }.calibrated(amax), 1.0 / 16.0),
            (InputQuant::Mxfp4, 0.26),
            (InputQuant::Nvfp4 { global: 0.0 }.calibrated(amax), 0.2),
        ] {
            let worst = worst(quant);
            assert!(worst > 0.0 && worst <= bound * 1.001, "{quant:?}: {worst}");
        }
        assert_eq!(
            served(InputQuant::Int8 { scale: 1.0 / 127.0 }, &[3.0f64, -0.5], 2).unwrap()[0],
            f64::from(127.0 * (1.0f32 / 127.0))
        );
        assert_eq!(served(InputQuant::Int8PerToken, &[0.0f32; 4], 4).unwrap(), [0.0; 4]);
    }
}
