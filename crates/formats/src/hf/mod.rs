//! The JSON files of a Hugging Face model folder: `config.json`, `generation_config.json`, `tokenizer_config.json`.
//!
//! [`Json`] reads a file with a size cap; [`Node`] is an object in it whose getters name file and key when something is
//! missing or of another type. What transformers 4 and 5 spell differently has one accessor here: [`Node::dtype`]
//! (`torch_dtype`, `dtype`) and [`Node::rope`] (`rope_theta` and `rope_scaling`, `rope_parameters`).
//!
//! Source: <https://huggingface.co/docs/transformers/main_classes/configuration>.

mod awq;
mod gptq;
mod node;
mod packed;
mod problem;
pub mod quantization;
mod rope;

pub use awq::AwqConfig;
pub use gptq::{GptqConfig, Grouping, QUANTIZE_CONFIG};
pub use node::{FromJson, Json, Node};
pub use problem::{Error, Problem};
pub use quantization::QuantizationConfig;
pub use rope::{Rope, RopeParameters};

/// How a folder's weights are packed.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "there is one per model")]
pub enum Quantization {
    /// As compressed-tensors does.
    CompressedTensors(QuantizationConfig),
    /// As GPTQ's tools do.
    Gptq(GptqConfig),
    /// As AWQ's tools do.
    Awq(AwqConfig),
}

impl Quantization {
    /// What `config.json` says, or else a `quantize_config.json` beside it. `None` where the model is not quantized; an
    /// error where a tool quantized it whose files are not read here.
    pub fn of(config: &Node<'_>, beside: Option<&Json>) -> Result<Option<Quantization>, Error> {
        let inside = config.object("quantization_config")?;
        let Some(node) = inside.clone().or(beside.map(Json::root)) else {
            return Ok(QuantizationConfig::of(config)?.map(Quantization::CompressedTensors));
        };
        let method = node.find::<&str>("quant_method")?;
        match method.unwrap_or(if inside.is_some() { "compressed-tensors" } else { "gptq" }) {
            "compressed-tensors" => Ok(QuantizationConfig::of(config)?.map(Quantization::CompressedTensors)),
            "gptq" => Ok(Some(Quantization::Gptq(GptqConfig::of(&node)?))),
            "awq" => Ok(Some(Quantization::Awq(AwqConfig::of(&node)?))),
            other => Err(node.unsupported("quant_method", other, "compressed-tensors, gptq, awq")),
        }
    }
}

/// A model's configuration.
pub const CONFIG: &str = "config.json";
/// Defaults for generating text.
pub const GENERATION_CONFIG: &str = "generation_config.json";
/// What surrounds the tokenizer: special tokens, chat template.
pub const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
/// The tokenizer itself.
pub const TOKENIZER: &str = "tokenizer.json";
