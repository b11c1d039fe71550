//! What evaluation measures. Every result carries the conditions that it holds under.

use serde::{Deserialize, Serialize};
use std::fmt;

/// How text is cut into windows, and which tokens are scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case")]
pub enum Protocol {
    /// `llama-perplexity`: windows of `context` tokens without overlap; the first token gives way to BOS where the
    /// model has one; the second half of each window is scored; what is left over is dropped.
    Llama {
        /// Tokens of a window.
        context: usize,
    },
    /// The usual one of `transformers`: windows of `context` tokens that begin every `stride` tokens; each token
    /// is scored once, with the longest context that the windows give it.
    Strided {
        /// Tokens of a window.
        context: usize,
        /// Tokens between the beginnings of windows.
        stride: usize,
    },
}

impl Protocol {
    /// Tokens of a window.
    pub fn context(self) -> usize {
        match self {
            Protocol::Llama { context } | Protocol::Strided { context, .. } => context,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Protocol::Llama { context } => write!(f, "llama, context {context}"),
            Protocol::Strided { context, stride } => write!(f, "strided, context {context}, stride {stride}"),
        }
    }
}

/// What a figure was measured on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Processor, as the system names it.
    pub cpu: String,
    /// Logical processors that this process may use.
    pub cpus: usize,
    /// Bytes of main memory, 0 if the system does not say.
    pub memory: u64,
    /// System and architecture: `linux x86_64`.
    pub os: String,
}

/// What a figure holds under.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Conditions {
    /// What the text is called.
    pub data: String,
    /// SHA-256 of the token ids as little-endian `u32`, in hexadecimal.
    pub tokens_sha256: String,
    /// Ids given.
    pub tokens: usize,
    /// Tokens that were scored.
    pub scored: usize,
    /// How they were cut into windows.
    pub protocol: Protocol,
    /// The id put at the beginning of each window, if one was.
    pub bos: Option<u32>,
    /// Type that matrix products were computed in: `f32`, `bf16`.
    pub compute: String,
    /// Threads.
    pub threads: usize,
    /// Seed, where anything is drawn.
    pub seed: u64,
    /// Where.
    pub machine: Machine,
}

/// A figure and its standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The figure.
    pub value: f64,
    /// One standard error.
    pub error: f64,
}

impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.4} ± {:.4}", self.value, self.error)
    }
}

/// Perplexity of one model: `exp` of the mean negative log-likelihood in nats.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Perplexity {
    /// Perplexity.
    pub perplexity: Estimate,
    /// Mean negative log-likelihood per token, in nats.
    pub nll: Estimate,
    /// What it holds under.
    pub conditions: Conditions,
}

/// Kullback–Leibler divergence of a model's next-token distribution from its reference's, in nats per token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Divergence {
    /// Mean over tokens.
    pub mean: Estimate,
    /// Median over tokens.
    pub median: f64,
    /// 99 % of tokens are at most this.
    pub p99: f64,
    /// 99.9 % of tokens are at most this.
    pub p999: f64,
    /// The worst token.
    pub max: f64,
}

/// A model against its reference over the same tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Perplexity of the reference.
    pub reference: Estimate,
    /// Perplexity of the model.
    pub model: Estimate,
    /// Perplexity of the model over that of the reference, minus one; its error is that of paired tokens.
    pub ppl_increase: Estimate,
    /// From the reference's distribution to the model's.
    pub kld: Divergence,
    /// Share of tokens where both give the same id the highest probability.
    pub top1: Estimate,
    /// What it holds under.
    pub conditions: Conditions,
}

/// How fast a model generates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Tokens generated.
    pub generated: usize,
    /// Seconds from the prompt to the first token.
    pub first_token: f64,
    /// Seconds per token after the first: half of them took at most this.
    pub p50: f64,
    /// 95 % of them took at most this.
    pub p95: f64,
    /// 99 % of them took at most this.
    pub p99: f64,
    /// Tokens per second after the first.
    pub tokens_per_second: f64,
    /// The most memory that the process ever held resident, in bytes; `None` where the system does not say.
    pub peak_memory: Option<u64>,
    /// Type that matrix products were computed in.
    pub compute: String,
    /// Threads.
    pub threads: usize,
    /// Where.
    pub machine: Machine,
}
