//! How a model is to be run beside its weights: inputs of linear layers in few bits, and keys and values in the cache.
//!
//! Servers do it when they load the artifact, and so does the executor, so that what it costs is measured. Calibration fills in the
//! scales ([`crate::WeightStore::run`]), importers read them back, exporters write them.

use crate::WeightId;
use std::collections::BTreeMap;

/// How the input of a linear layer is quantized when the model runs. `scale` is what a code is multiplied with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum InputQuant {
    /// Eight-bit integers; one scale per token, found at run time.
    Int8PerToken,
    /// Eight-bit integers under one calibrated scale.
    Int8 {
        /// Calibrated: `amax / 127`.
        scale: f32,
    },
    /// E4M3; one scale per token, found at run time.
    Fp8PerToken,
    /// E4M3 in groups of 128 along a row, scales found at run time: what 128 × 128 blocks of weights are served with.
    Fp8Groups,
    /// E4M3 under one calibrated scale.
    Fp8 {
        /// Calibrated: `amax / 448`.
        scale: f32,
    },
    /// Four-bit floats in groups of 32, scales found at run time.
    Mxfp4,
    /// Four-bit floats in groups of 16, whose scales, found at run time, are E4M3 under one calibrated factor.
    Nvfp4 {
        /// Calibrated: `448 · 6 / amax`.
        global: f32,
    },
}

impl InputQuant {
    /// The same kind, calibrated on inputs whose largest magnitude is `amax`; kinds without a calibrated number stay.
    #[must_use]
    pub fn calibrated(self, amax: f32) -> InputQuant {
        let amax = amax.max(f32::MIN_POSITIVE);
        match self {
            InputQuant::Int8 { .. } => InputQuant::Int8 { scale: amax / 127.0 },
            InputQuant::Fp8 { .. } => InputQuant::Fp8 { scale: amax / 448.0 },
            InputQuant::Nvfp4 { .. } => InputQuant::Nvfp4 { global: 448.0 * 6.0 / amax },
            other => other,
        }
    }

    /// The calibrated number, where the kind has one; 0 before calibration.
    pub const fn number(self) -> Option<f32> {
        match self {
            InputQuant::Int8 { scale } | InputQuant::Fp8 { scale } => Some(scale),
            InputQuant::Nvfp4 { global } => Some(global),
            _ => None,
        }
    }
}

/// Scales of the keys and values that a layer caches in E4M3: `amax / 448` of each.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CacheScales {
    /// Of keys, after the rotary embedding.
    pub key: f32,
    /// Of values.
    pub value: f32,
}

/// How a model is to be run; empty where it runs as its weights are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunQuant {
    /// By the weight whose input it is.
    pub inputs: BTreeMap<WeightId, InputQuant>,
    /// By decoder layer: of every layer, or of none.
    pub cache: BTreeMap<usize, CacheScales>,
}
