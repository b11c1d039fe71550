//! Rotary frequencies from a config's parameters, by the formulas of transformers' `modeling_rope_utils.py`.
//!
//! Pair `i` of `d` rotary channels turns by `f_i = θ^(−2i/d)` per position, then
//!
//! | kind | frequency | sine and cosine times |
//! |---|---|---|
//! | `default`, `dynamic` up to the context | `f_i` | 1 |
//! | `linear` | `f_i / factor` | 1 |
//! | `llama3` | `f_i`, `f_i / factor`, or between by wavelength | 1 |
//! | `yarn` | between `f_i / factor` and `f_i` by a ramp over `i` | `0.1 ln(factor) + 1` |
//! | `longrope` | `f_i / short_i`; `f_i / long_i` beyond the original context | `√(1 + ln(factor) / ln(original))` |
//!
//! LongRoPE changes its factors with the length of the sequence. What runs here are the short ones: right up to the
//! original context, and not beyond; importers say so.
//!
//! Sources: YaRN arXiv:2309.00071, LongRoPE arXiv:2402.13753, Llama 3.1's `rope_type`.

use crate::keys::{Keys, MAX_WIDTH};
use formats::hf::{Node, Rope, RopeParameters};
use graph::{DecoderConfig, LongRope, RopeConfig};
use std::f32::consts::PI;

/// What the config around the parameters supplies.
#[derive(Clone, Copy)]
pub struct Around {
    /// Channels of a head.
    pub head_dim: usize,
    /// `max_position_embeddings`.
    pub context: usize,
    /// θ where the config has none.
    pub theta: f64,
}

/// The rotary embedding of full-attention layers and of sliding ones. `local` is the θ of sliding layers in families
/// that give them their own.
pub fn read(keys: &mut Keys<'_>, around: Around, local: Option<f64>) -> (RopeConfig, RopeConfig) {
    let apart = Around { theta: local.unwrap_or(around.theta), ..around };
    let rope = keys.node().rope();
    match keys.ok(rope) {
        Some(Rope::ByLayerType { full, sliding }) => (one(keys, &full, around), one(keys, &sliding, apart)),
        Some(Rope::Shared(shared)) => {
            let full = one(keys, &shared, around);
            let sliding = if local.is_some() { plain(apart, apart.head_dim) } else { full.clone() };
            (full, sliding)
        }
        None => (plain(around, around.head_dim), plain(apart, apart.head_dim)),
    }
}

/// Unscaled frequencies with θ of `around`.
pub fn plain(around: Around, dims: usize) -> RopeConfig {
    let base = around.theta as f32;
    let frequency = |i: usize| 1.0 / base.powf((2 * i) as f32 / dims as f32);
    let frequencies = (0..dims / 2).map(frequency).collect();
    RopeConfig { base, frequencies, scale: 1.0, factors: None, linear: 1.0, long: None }
}

/// The same frequencies, each divided by its factor.
pub fn divided(mut rope: RopeConfig, factors: Vec<f32>) -> RopeConfig {
    rope.frequencies.iter_mut().zip(&factors).for_each(|(f, factor)| *f /= factor);
    rope.factors = Some(factors);
    rope
}

/// What a user should know of a decoder's rotary embedding.
pub fn note(config: &DecoderConfig) -> Option<String> {
    let long = config.layers.iter().find_map(|l| l.rope.long.as_ref())?;
    let n = long.original_context;
    Some(format!("LongRoPE runs with its short factors: right up to {n} tokens, not beyond; exports keep both sets"))
}

fn one(keys: &mut Keys<'_>, parameters: &RopeParameters<'_>, around: Around) -> RopeConfig {
    let around = Around { theta: parameters.theta.unwrap_or(around.theta), ..around };
    if !(around.theta > 0.0 && around.theta.is_finite()) {
        keys.wrong("rope_theta", "is not a positive number");
    }
    let outer = keys.node();
    let mut options = Options { node: parameters.options.clone(), outer, keys };
    let partial = options.number("partial_rotary_factor").unwrap_or(1.0);
    if !(partial > 0.0 && partial <= 1.0) {
        options.keys.wrong("partial_rotary_factor", "is not above 0 and at most 1");
        return plain(around, around.head_dim);
    }
    let rope = plain(around, (around.head_dim as f64 * partial) as usize);
    match parameters.kind {
        // Dynamic scaling changes nothing up to the context that the config states.
        "default" | "dynamic" => rope,
        "linear" => linear(&mut options, rope),
        "llama3" => llama3(&mut options, rope, around),
        "yarn" => yarn(&mut options, rope, around),
        "longrope" => longrope(&mut options, rope, around),
        kind => {
            options.keys.unsupported(format!("rope_type = {kind}"));
            rope
        }
    }
}

/// The parameters' own object, then the config around it.
struct Options<'a, 'k, 'n> {
    node: Option<Node<'n>>,
    outer: Node<'n>,
    keys: &'k mut Keys<'a>,
}

impl Options<'_, '_, '_> {
    fn number(&mut self, key: &str) -> Option<f64> {
        let inner = self.node.as_ref().map_or(Ok(None), |n| n.find::<f64>(key));
        let inner = self.keys.ok(inner).flatten();
        let outer = self.outer.find::<f64>(key);
        inner.or(self.keys.ok(outer).flatten())
    }

    /// A number that must be there and be positive.
    fn need(&mut self, key: &str) -> f64 {
        match self.number(key) {
            Some(value) if value > 0.0 && value.is_finite() => value,
            Some(value) => {
                self.keys.wrong(key, format!("is {value}, not a positive number"));
                1.0
            }
            None => {
                self.keys.wrong(key, "is missing among the rope parameters");
                1.0
            }
        }
    }

    /// The context that the model was first trained with; the outer key wins, as in the reference.
    fn original_context(&mut self, around: Around) -> f64 {
        const KEY: &str = "original_max_position_embeddings";
        let outer = self.outer.find::<f64>(KEY);
        let outer = self.keys.ok(outer).flatten();
        let value = outer.or_else(|| self.number(KEY)).unwrap_or(around.context as f64);
        if !(value >= 1.0 && value <= MAX_WIDTH as f64) {
            self.keys.wrong(KEY, "is not a length");
            return 1.0;
        }
        value
    }

    fn factors(&mut self, key: &str, pairs: usize) -> Vec<f32> {
        let found = self.node.as_ref().map_or(Ok(None), |n| n.find::<Vec<f32>>(key));
        let found = self.keys.ok(found).flatten().unwrap_or_default();
        if found.len() != pairs || found.iter().any(|f| !(*f > 0.0 && f.is_finite())) {
            self.keys.wrong(key, format!("is not a list of {pairs} positive numbers"));
            return vec![1.0; pairs];
        }
        found
    }
}

fn linear(options: &mut Options<'_, '_, '_>, mut rope: RopeConfig) -> RopeConfig {
    rope.linear = options.need("factor") as f32;
    rope.frequencies.iter_mut().for_each(|f| *f /= rope.linear);
    rope
}

fn llama3(options: &mut Options<'_, '_, '_>, rope: RopeConfig, around: Around) -> RopeConfig {
    let factor = options.need("factor") as f32;
    let (low, high) = (options.need("low_freq_factor") as f32, options.need("high_freq_factor") as f32);
    let original = options.original_context(around) as f32;
    if low >= high {
        options.keys.wrong("low_freq_factor", "is not below high_freq_factor");
    }
    let factor_of = |f: &f32| {
        let wavelength = 2.0 * PI / f;
        if wavelength < original / high {
            1.0
        } else if wavelength > original / low {
            factor
        } else {
            let smooth = (original / wavelength - low) / (high - low);
            1.0 / ((1.0 - smooth) / factor + smooth)
        }
    };
    let factors = rope.frequencies.iter().map(factor_of).collect();
    divided(rope, factors)
}

fn yarn(options: &mut Options<'_, '_, '_>, rope: RopeConfig, around: Around) -> RopeConfig {
    let dims = 2.0 * rope.frequencies.len() as f64;
    let original = options.original_context(around);
    let factor = options.number("factor").unwrap_or(around.context as f64 / original);
    let (fast, slow) = (options.number("beta_fast").unwrap_or(32.0), options.number("beta_slow").unwrap_or(1.0));
    let mscale = |scale: f64| if factor <= 1.0 { 1.0 } else { 0.1 * scale * factor.ln() + 1.0 };
    let scale = match (options.number("attention_factor"), options.number("mscale"), options.number("mscale_all_dim")) {
        (Some(scale), _, _) => scale,
        (None, Some(scale), Some(all)) if scale != 0.0 && all != 0.0 => mscale(scale) / mscale(all),
        _ => mscale(1.0),
    };
    let dim = |turns: f64| dims * (original / (turns * std::f64::consts::TAU)).ln() / (2.0 * around.theta.ln());
    let truncate = options.node.as_ref().and_then(|n| n.find("truncate").ok().flatten()).unwrap_or(true);
    let (low, high) = (dim(fast), dim(slow));
    let (low, high) = if truncate { (low.floor(), high.ceil()) } else { (low, high) };
    let (low, high) = (low.max(0.0), high.min(dims - 1.0));
    let width = if low == high { 0.001 } else { high - low };
    let ramp = |i: usize| ((i as f64 - low) / width).clamp(0.0, 1.0);
    let factors = (0..rope.frequencies.len()).map(|i| (1.0 / (ramp(i) / factor + 1.0 - ramp(i))) as f32).collect();
    RopeConfig { scale: scale as f32, ..divided(rope, factors) }
}

fn longrope(options: &mut Options<'_, '_, '_>, rope: RopeConfig, around: Around) -> RopeConfig {
    let pairs = rope.frequencies.len();
    let original = options.original_context(around);
    let factor = options.number("factor").unwrap_or(around.context as f64 / original);
    let spread = if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / original.ln()).sqrt() };
    let scale = options.number("attention_factor").unwrap_or(spread) as f32;
    let (short, long) = (options.factors("short_factor", pairs), options.factors("long_factor", pairs));
    let long = Some(LongRope { original_context: original as usize, factors: long }).filter(|l| l.factors != short);
    RopeConfig { scale, long, ..divided(rope, short) }
}
