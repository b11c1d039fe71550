//! The JSON files of a Hugging Face model folder: `config.json`, `generation_config.json`, `tokenizer_config.json`.
//!
//! [`Json`] reads a file with a size cap; [`Node`] is an object in it whose getters name file and key when something is
//! missing or of another type. What transformers 4 and 5 spell differently has one accessor here: [`Node::dtype`]
//! (`torch_dtype`, `dtype`) and [`Node::rope`] (`rope_theta` and `rope_scaling`, `rope_parameters`).
//!
//! Source: <https://huggingface.co/docs/transformers/main_classes/configuration>.

mod node;
mod packed;
mod problem;
pub mod quantization;
mod rope;

pub use node::{FromJson, Json, Node};
pub use problem::{Error, Problem};
pub use quantization::QuantizationConfig;
pub use rope::{Rope, RopeParameters};

/// A model's configuration.
pub const CONFIG: &str = "config.json";
/// Defaults for generating text.
pub const GENERATION_CONFIG: &str = "generation_config.json";
/// What surrounds the tokenizer: special tokens, chat template.
pub const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
/// The tokenizer itself.
pub const TOKENIZER: &str = "tokenizer.json";
