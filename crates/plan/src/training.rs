//! How a network that names classes is trained, from random weights or to recover from another step: data only.

use serde::{Deserialize, Serialize};

/// See the module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct TrainingSpec {
    /// Times that every sample is seen.
    pub epochs: usize,
    /// Samples of a step.
    pub batch: usize,
    /// Highest learning rate.
    pub rate: f64,
    /// Last learning rate, as a share of the highest; between them half a cosine.
    pub floor: f64,
    /// Steps in which the rate rises from zero.
    pub warmup: usize,
    /// How gradients become steps.
    pub optimizer: OptimizerSpec,
    /// Images move by up to so many pixels.
    pub crop: usize,
    /// Half of the images are mirrored.
    pub flip: bool,
    /// Share of each label that is spread over all classes.
    pub smoothing: f64,
    /// What is learned from the network as it was before; from random weights there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distill: Option<DistillSpec>,
    /// Batches that the running statistics of batch norms are estimated on, after the last step; 0 keeps what training left.
    pub statistics: usize,
    /// Whether steps of quantization are learned, too (LSQ); else they stay as they were chosen.
    pub learn_steps: bool,
    /// Seed of first weights, orders and augmentation.
    pub seed: u64,
}

impl Default for TrainingSpec {
    fn default() -> TrainingSpec {
        TrainingSpec {
            epochs: 1,
            batch: 64,
            rate: 0.05,
            floor: 0.0,
            warmup: 0,
            optimizer: OptimizerSpec::default(),
            crop: 0,
            flip: false,
            smoothing: 0.0,
            distill: None,
            statistics: 0,
            learn_steps: false,
            seed: 0,
        }
    }
}

impl TrainingSpec {
    /// The first field whose value makes no sense, and what is wrong with it.
    pub fn problem(&self) -> Option<String> {
        let share = |x: f64| (0.0..=1.0).contains(&x);
        let rules = [
            ("epochs", self.epochs > 0, "must be at least 1"),
            ("batch", self.batch > 1, "must be at least 2: batch norms need several samples"),
            ("rate", self.rate.is_finite() && self.rate > 0.0, "must be above 0"),
            ("floor", share(self.floor), "is a share from 0 to 1"),
            ("smoothing", share(self.smoothing), "is a share from 0 to 1"),
            (
                "learn-steps",
                !self.learn_steps || matches!(self.optimizer, OptimizerSpec::Sgd { .. }),
                "needs gradient descent: its rate would be too fast for AdamW",
            ),
        ];
        let distill = self.distill.as_ref().map(|d| {
            [
                ("distill.temperature", d.temperature.is_finite() && d.temperature > 0.0, "must be above 0"),
                ("distill.share", share(d.share), "is a share from 0 to 1"),
                ("distill.feature-weight", d.feature_weight.is_finite(), "must be a number"),
            ]
        });
        let all = rules.into_iter().chain(distill.into_iter().flatten());
        all.into_iter().find(|(_, sound, _)| !sound).map(|(field, _, why)| format!("`{field}` {why}"))
    }
}

/// How gradients become steps.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", deny_unknown_fields, rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum OptimizerSpec {
    /// Gradient descent with momentum.
    Sgd {
        /// Decay of the velocity.
        #[serde(default = "momentum")]
        momentum: f64,
        /// Whether a step looks ahead.
        #[serde(default)]
        nesterov: bool,
        /// Decay of kernels and matrices.
        #[serde(default = "sgd_decay")]
        weight_decay: f64,
    },
    /// Adam with decoupled weight decay.
    AdamW {
        /// Decay of the first moment.
        #[serde(default = "momentum")]
        beta1: f64,
        /// Decay of the second moment.
        #[serde(default = "beta2")]
        beta2: f64,
        /// Decay of kernels and matrices.
        #[serde(default = "adam_decay")]
        weight_decay: f64,
    },
}

fn momentum() -> f64 {
    0.9
}

fn sgd_decay() -> f64 {
    5e-4
}

fn beta2() -> f64 {
    0.999
}

fn adam_decay() -> f64 {
    0.01
}

impl Default for OptimizerSpec {
    fn default() -> OptimizerSpec {
        OptimizerSpec::Sgd { momentum: momentum(), nesterov: true, weight_decay: sgd_decay() }
    }
}

/// What a network learns from its teacher.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct DistillSpec {
    /// Share of the loss that compares logits with the teacher's; the rest compares them with labels.
    pub share: f64,
    /// What logits are divided by before they are compared.
    pub temperature: f64,
    /// Values that are compared, by name: as they are where both have the same channels, else their attention maps.
    pub features: Vec<String>,
    /// What the loss of each counts.
    pub feature_weight: f64,
}

impl Default for DistillSpec {
    fn default() -> DistillSpec {
        DistillSpec { share: 0.7, temperature: 4.0, features: vec![], feature_weight: 1.0 }
    }
}
