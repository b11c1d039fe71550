//! What a plan will take, predicted: exact bytes, and estimates of memory and time.
//!
//! Time: every weight costs nanoseconds that depend on its encoding, measured on the machine at hand by whoever makes
//! the [`CostModel`]; the proof costs two runs of the model over its text; the source is read three times (to encode,
//! to measure errors, to hash).
//! Memory: what the program itself holds, plus what the larger of the two phases needs. Encoding holds a stretch of
//! rows per thread, or a whole tensor where an encoding has several parts. Calibration holds what waits between blocks
//! (or it waits in files), and then either one batch and the weights it runs through, or the statistics of a stage and
//! what its solver works in. The proof holds the decoded weights of both
//! models where that is little, else of one decoder layer, beside the activations and logits of one window.

use crate::names::encoding_name;
use crate::units::Bytes;
use crate::{Learns, Method, PlannedTensor};
use codec::Encoding;
use graph::{Model, Role, Size};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Rates of one machine, for the estimates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CostModel {
    /// Nanoseconds to encode one weight on one thread, by encoding.
    pub encode_ns: BTreeMap<String, f64>,
    /// Nanoseconds to decode one weight on one thread.
    pub decode_ns: f64,
    /// Multiply–accumulates per second of one thread.
    pub macs_per_second: f64,
    /// Bytes per second that files are written and read at.
    pub file_bytes_per_second: f64,
}

/// One thread of a server processor of 2023 (Intel Sapphire Rapids, 2.0–3.5 GHz), for want of a measurement.
impl Default for CostModel {
    fn default() -> CostModel {
        CostModel { encode_ns: BTreeMap::new(), decode_ns: 1.0, macs_per_second: 4e10, file_bytes_per_second: 5e8 }
    }
}

impl CostModel {
    /// Nanoseconds for one weight. Encodings that were not measured: searches are slow, plain rounding is not.
    fn encode(&self, encoding: &Encoding) -> f64 {
        let unmeasured = match encoding {
            Encoding::Plain(_) => 1.0,
            Encoding::Packed(_) => 3.0,
            Encoding::Block(format) if format.codec().block_len() == 256 => 40.0,
            Encoding::Block(_) => 5.0,
        };
        self.encode_ns.get(&encoding_name(encoding)).copied().unwrap_or(unmeasured)
    }
}

/// What a plan depends on beside its model and recipe.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    /// Threads.
    pub threads: usize,
    /// Bytes of the artifact that are not weights: metadata, tokenizer.
    pub overhead: u64,
    /// Tokens that the proof runs both models over; 0 for none.
    pub proof_tokens: usize,
    /// Tokens of a window of the proof.
    pub context: usize,
    /// The proof keeps the decoded weights of both models if they take no more bytes than this.
    pub resident: u64,
    /// Text that methods learn from, where there is any.
    pub learning: Option<Learning>,
    /// Rates of the machine.
    pub costs: &'a CostModel,
}

/// Calibration text that a plan is carried out over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Learning {
    /// All of its tokens.
    pub tokens: u64,
    /// Tokens that run together.
    pub batch: u64,
    /// What waits between blocks does so in files.
    pub spill: bool,
    /// The whole model is refined at the end.
    pub refines: bool,
}

/// What a plan will take. Bytes of weights are exact, the rest are estimates.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Prediction {
    /// Bytes of the artifact.
    pub artifact: Bytes,
    /// Free bytes that the output's file system must have.
    pub disk: Bytes,
    /// Peak resident memory.
    pub memory: Bytes,
    /// Seconds until the artifact is written.
    pub encode_seconds: f64,
    /// Seconds until it is proven.
    pub proof_seconds: f64,
}

impl Prediction {
    /// Seconds of the whole run.
    pub fn seconds(&self) -> f64 {
        self.encode_seconds + self.proof_seconds
    }
}

/// Bytes of the program, its tokenizer, and pages of files that stay mapped.
const BASE: u64 = 80 << 20;
/// Numbers in flight per thread while encoding: the exporter's pieces, three being read and three being written.
const IN_FLIGHT: u64 = 6 << 18;

pub(crate) fn predict(model: &Model, tensors: &[PlannedTensor], setting: &Setting<'_>) -> Prediction {
    let phases =
        [encode_memory(tensors, setting), learning_memory(model, tensors, setting), proof_memory(model, setting)];
    let artifact = setting.overhead + tensors.iter().map(|t| t.bytes_after).sum::<u64>();
    Prediction {
        artifact: Bytes(artifact),
        disk: Bytes(artifact + (1 << 20)),
        memory: Bytes(BASE + 6 * setting.overhead + phases.into_iter().max().unwrap_or(0)),
        encode_seconds: encode_seconds(tensors, setting) + learning_seconds(model, tensors, setting),
        proof_seconds: proof_seconds(model, tensors, setting),
    }
}

fn encode_memory(tensors: &[PlannedTensor], setting: &Setting<'_>) -> u64 {
    let one = |t: &PlannedTensor| match (t.from, t.to) {
        (Encoding::Packed(_), _) | (_, Encoding::Packed(_)) => t.elements() * 4 + t.bytes_before + 6 * t.bytes_after,
        _ => t.elements().min(IN_FLIGHT) * 8,
    };
    tensors.iter().map(one).max().unwrap_or(0) * setting.threads as u64
}

/// Bytes of the values that wait between the blocks of a model.
pub fn waiting_bytes(model: &Model, tokens: u64) -> u64 {
    let width = |c: &graph::DecoderConfig| c.hidden + widest_ffn(model).max(c.heads * c.head_dim);
    4 * tokens * model.decoder().map_or(0, width) as u64
}

/// Numbers that the feed-forward part of a layer makes of a token.
fn widest_ffn(model: &Model) -> usize {
    let downs = model.weights.iter().filter(|(_, w)| matches!(w.place.role, Role::FfnDown | Role::ExpertDown));
    downs.map(|(_, w)| w.cols()).max().unwrap_or(0)
}

/// Models that run over the text side by side: the one that is being made, and the original where drift is wanted.
fn lanes(tensors: &[PlannedTensor]) -> u64 {
    if tensors.iter().any(|t| t.method.learns() == Learns::Drift) { 2 } else { 1 }
}

/// Whether the rounding of whole blocks is learned.
fn learns_blocks(tensors: &[PlannedTensor]) -> bool {
    tensors.iter().any(|t| t.method == Method::SignRound)
}

/// What waits, and what the wider of running and solving holds.
fn learning_memory(model: &Model, tensors: &[PlannedTensor], setting: &Setting<'_>) -> u64 {
    let (Some(learning), Some(config)) = (setting.learning, model.decoder()) else { return 0 };
    let solving = tensors.iter().filter(|t| t.method.calibrates()).map(solving_memory).max().unwrap_or(0);
    if solving == 0 {
        return 0;
    }
    // What goes into a block is kept until its rounding is learned.
    let copies = lanes(tensors) + u64::from(learns_blocks(tensors));
    let waiting = if learning.spill { 0 } else { copies * waiting_bytes(model, learning.tokens) };
    let (hidden, ffn) = (config.hidden as u64, widest_ffn(model) as u64);
    let heads = (config.heads * config.head_dim) as u64;
    let batch = learning.batch * 4 * (4 * hidden + (3 * ffn).max(4 * heads));
    let running = batch + 2 * ffn * hidden * 4;
    // Numbers and gradients in f32, two values and codes and a position each; the activations of a batch, and their gradients.
    let refining = 6 * largest_layer(model, config.layers.len()) + 3 * batch;
    let blocks = waiting + running.max(solving).max(if learns_blocks(tensors) { refining } else { 0 });
    // Both models in f32, gradients, and two values and codes and a position for each number.
    let whole = if learning.refines { 26 * model.parameters() as u64 + 3 * batch } else { 0 };
    blocks.max(whole)
}

/// Statistics of a matrix's inputs and their drift, the factor and its source, the matrix before and after correction,
/// its codes and parts.
fn solving_memory(t: &PlannedTensor) -> u64 {
    let cols = t.shape.last().map_or(0, |cols| *cols as u64);
    match t.method.learns() {
        Learns::Nothing => 0,
        Learns::Columns => t.elements() * 6 + 16 * cols,
        Learns::Hessian => 12 * cols * cols + t.elements() * 10,
        Learns::Drift => 16 * cols * cols + t.elements() * 10,
    }
}

/// Bytes of the decoded weights of a model and its artifact together.
pub fn decoded_bytes(model: &Model) -> u64 {
    8 * model.parameters() as u64
}

/// Both models: all weights in f32, or those of one layer or the head; the activations of a window; logits.
fn proof_memory(model: &Model, setting: &Setting<'_>) -> u64 {
    let Some(config) = model.decoder().filter(|_| setting.proof_tokens > 0) else { return 0 };
    let head = (config.vocab * config.hidden) as u64 * 4;
    let decoded = Some(decoded_bytes(model)).filter(|bytes| *bytes <= setting.resident);
    let weights = decoded.unwrap_or_else(|| 2 * largest_layer(model, config.layers.len()).max(head));
    let width = (config.hidden * 4 + config.ffn * 3 + config.heads * config.head_dim * 4) as u64;
    // Logits come a few rows at a time.
    let rows = ((1 << 21) / config.vocab.max(1)).clamp(128, 1024).min(setting.context) as u64;
    weights + 8 * (setting.context as u64 * width + rows * config.vocab as u64)
}

/// Bytes of the largest layer in f32.
fn largest_layer(model: &Model, layers: usize) -> u64 {
    let mut sums = vec![0; layers];
    for (_, weight) in model.weights.iter() {
        if let Some(sum) = weight.place.layer.and_then(|l| sums.get_mut(l)) {
            *sum += weight.elements() as u64 * 4;
        }
    }
    sums.into_iter().max().unwrap_or(0)
}

fn encode_seconds(tensors: &[PlannedTensor], setting: &Setting<'_>) -> f64 {
    let changed = |t: &&PlannedTensor| t.from != t.to;
    let ns: f64 = tensors.iter().filter(changed).map(|t| t.elements() as f64 * setting.costs.encode(&t.to)).sum();
    let bytes: u64 = tensors.iter().map(|t| t.bytes_before + t.bytes_after).sum();
    ns * 1e-9 / setting.threads.max(1) as f64 + bytes as f64 / setting.costs.file_bytes_per_second
}

/// Models run over the text; statistics are half a square per token and input, and one more for drift; solvers walk a
/// triangle per row.
fn learning_seconds(model: &Model, tensors: &[PlannedTensor], setting: &Setting<'_>) -> f64 {
    let Some(learning) = setting.learning else { return 0.0 };
    let lanes = lanes(tensors) as f64;
    let macs = |t: &PlannedTensor| {
        let cols = t.shape.last().map_or(0.0, |cols| *cols as f64);
        let shared = match t.method.learns() {
            Learns::Nothing | Learns::Columns => 0.0,
            Learns::Hessian => 0.25 * cols * cols,
            Learns::Drift => 0.75 * cols * cols,
        };
        learning.tokens as f64 * (lanes * t.elements() as f64 + shared) + t.elements() as f64 * cols
    };
    let calibrated = tensors.iter().filter(|t| t.method.calibrates() && model.weights.find(&t.name).is_some());
    calibrated.map(macs).sum::<f64>() / setting.costs.macs_per_second / setting.threads.max(1) as f64
}

/// Errors are measured by reading source and artifact once; then both models run.
fn proof_seconds(model: &Model, tensors: &[PlannedTensor], setting: &Setting<'_>) -> f64 {
    let costs = setting.costs;
    let elements: u64 = tensors.iter().map(PlannedTensor::elements).sum();
    let bytes: u64 = tensors.iter().map(|t| 2 * t.bytes_before + t.bytes_after).sum();
    let window = Size { batch: 1, tokens: setting.context };
    let macs = model.graph().map_or(0, |graph| graph.cost(&model.weights, window).macs) as f64;
    let windows = setting.proof_tokens as f64 / setting.context.max(1) as f64;
    let decode = 2.0 * elements as f64 * costs.decode_ns * 1e-9;
    (decode + 2.0 * macs * windows / costs.macs_per_second) / setting.threads.max(1) as f64
        + bytes as f64 / costs.file_bytes_per_second
}
