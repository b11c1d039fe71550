//! The rates of this machine, measured in a few milliseconds each, so that a plan can predict its time.

use crate::{EngineError, Importance};
use codec::{BlockFormat, Dtype, Encoding};
use graph::{Body, Model, Place, Role, Weight, WeightStore};
use passes::quantize::sequential::Job;
use plan::{CostModel, encoding_name};
use std::time::Instant;

const ROWS: usize = 16;
const COLS: usize = 1024;
const RUNS: usize = 3;

/// Measures encoding, decoding and a matrix product, each on one thread.
pub fn calibrate() -> Result<CostModel, EngineError> {
    let mut costs = CostModel::default();
    let model = sample()?;
    for encoding in encodings() {
        costs.encode_ns.insert(encoding_name(&encoding), encode_ns(&model, encoding)?);
    }
    costs.decode_ns = decode_ns(&model)?;
    costs.macs_per_second = macs_per_second();
    Ok(costs)
}

fn encodings() -> impl Iterator<Item = Encoding> {
    let packed =
        ["int4-g128", "int4-g128-asym", "int8-channel", "int8-channel-bytes", "fp8-channel", "mxfp4-g32", "nvfp4-g16"];
    let plain = [Dtype::F32, Dtype::F16, Dtype::BF16].map(Encoding::Plain);
    let packed = packed.into_iter().filter_map(|name| plan::encoding(name).ok());
    plain.into_iter().chain(BlockFormat::ALL.map(Encoding::Block)).chain(packed)
}

/// One weight of numbers spread like those of a trained one.
fn sample() -> Result<Model, EngineError> {
    let wave = |i: usize| ((i * 2654435761) % 65_521) as f32 / 65_521.0 - 0.5;
    let data: Vec<f32> = (0..ROWS * COLS).map(|i| wave(i) + wave(i * 7 + 1) + wave(i * 31 + 5)).collect();
    let mut weights = WeightStore::default();
    weights.insert(Weight::from_f32("sample", Place::outer(Role::Other), vec![ROWS, COLS], &data)?);
    Ok(Model { body: Body::Unknown { reason: "a sample".into() }, weights })
}

/// The sample in an encoding, through the pass that will do the work.
fn encoded(model: &Model, encoding: Encoding) -> Result<Model, EngineError> {
    let mut encoded = model.clone();
    let jobs: Vec<Job> = model.weights.iter().map(|(weight, _)| Job::round(weight, encoding)).collect();
    crate::quantize::encode_rows(&mut encoded, &jobs, &Importance::default())?;
    Ok(encoded)
}

fn encode_ns(model: &Model, encoding: Encoding) -> Result<f64, EngineError> {
    let model = encoded(model, encoding)?;
    let weights: Vec<_> = model.weights.iter().map(|(_, w)| w.clone()).collect();
    best_ns(|| weights.iter().try_for_each(|w| w.source.parts().map(drop))).map_err(EngineError::Source)
}

fn decode_ns(model: &Model) -> Result<f64, EngineError> {
    let model = encoded(model, Encoding::Block(BlockFormat::Q4_K))?;
    let mut best = f64::INFINITY;
    for (_, weight) in model.weights.iter() {
        let parts = weight.source.parts()?;
        let part = parts.first().map(|p| &p[..]);
        let decode = || weight.encoding.decode(ROWS, COLS, |_| part).map(drop);
        let ns = best_ns(decode).map_err(|source| graph::SourceError::Codec { name: weight.name.clone(), source })?;
        best = best.min(ns);
    }
    Ok(best)
}

/// The fastest of a few runs, per number of the sample.
fn best_ns<E>(mut run: impl FnMut() -> Result<(), E>) -> Result<f64, E> {
    let mut best = f64::INFINITY;
    for _ in 0..RUNS {
        let start = Instant::now();
        run()?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(best * 1e9 / (ROWS * COLS) as f64)
}

/// Of a product of the shape that a decoder's are: many tokens, f32.
fn macs_per_second() -> f64 {
    let (tokens, width) = (128, 512);
    let (x, w) = (vec![0.5f32; tokens * width], vec![0.25f32; width * width]);
    let mut y = vec![0f32; tokens * width];
    let product = || {
        kernels::linear(&x, &w, None, &mut y, width, width);
        Ok::<_, std::convert::Infallible>(())
    };
    let Ok(ns) = best_ns(product);
    (tokens * width * width) as f64 / (ns * 1e-9 * (ROWS * COLS) as f64)
}
