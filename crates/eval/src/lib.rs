//! Perplexity, divergence from a reference, agreement, latency, memory. Every figure carries what it holds under.
//!
//! Models are given as [`LanguageModel`]s; [`Running`] makes one of an imported model. Results are the types of `plan`
//! ([`plan::Perplexity`], [`plan::Comparison`], [`plan::Latency`]; of networks that name classes, [`plan::Accuracy`]).

mod accuracy;
mod energy;
mod error;
mod latency;
mod machine;
mod run;
mod running;
mod score;
mod stats;
mod windows;

pub use accuracy::{Classifier, accuracy};
pub use energy::joules;
pub use error::EvalError;
pub use latency::latency;
pub use machine::{machine, peak_memory};
pub use run::{LanguageModel, Setup, compare, perplexity};
pub use running::Running;
pub use windows::{Window, windows};
