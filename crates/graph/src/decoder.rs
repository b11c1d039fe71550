//! The frozen configuration of a decoder language model: all that its graph is built from.

use crate::ops::Activation;

/// Everything that distinguishes one decoder from another. Importers fill it, the builder reads it, nothing changes it.
#[derive(Clone, Debug, PartialEq)]
pub struct DecoderConfig {
    /// The architecture, by its Hugging Face `model_type` (`llama`, `qwen3_moe`).
    pub family: String,
    /// Rows of the embedding table.
    pub vocab: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Channels of a head.
    pub head_dim: usize,
    /// Hidden width of the dense feed-forward part.
    pub ffn: usize,
    /// The longest context it was made for, in tokens.
    pub context: usize,
    /// ε of every norm.
    pub norm_eps: f64,
    /// Added to every norm weight (Gemma in its Hugging Face form: 1).
    pub norm_offset: f64,
    /// Norms after attention and after feed-forward too (Gemma 2 and 3).
    pub post_norms: bool,
    /// Norms of queries and keys.
    pub qk_norm: Option<QkNorm>,
    /// Biases on the query, key and value projections.
    pub qkv_bias: bool,
    /// Bias on the attention output projection.
    pub out_bias: bool,
    /// Biases on the feed-forward projections.
    pub ffn_bias: bool,
    /// One matrix for queries, keys and values (Phi-3).
    pub fused_qkv: bool,
    /// One matrix for gate and up (Phi-3).
    pub fused_gate_up: bool,
    /// Of the gated feed-forward part.
    pub activation: Activation,
    /// Multiplies query–key products.
    pub attention_scale: f32,
    /// Soft cap of attention scores.
    pub attention_softcap: Option<f32>,
    /// Soft cap of logits.
    pub logit_softcap: Option<f32>,
    /// Multiplies embeddings.
    pub embed_scale: Option<f32>,
    /// Whether the output head is the embedding table.
    pub tied: bool,
    /// What differs from layer to layer, in order; its length is the number of layers.
    pub layers: Vec<Layer>,
    /// Mixture of experts in place of the dense feed-forward part, for the layers that say so.
    pub experts: Option<Experts>,
}

/// What differs from layer to layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// How many positions a token sees, if not all.
    pub window: Option<usize>,
    /// Rotary embedding.
    pub rope: RopeConfig,
    /// Whether experts stand in for the dense feed-forward part.
    pub moe: bool,
}

/// Rotary embedding with all scaling already worked out, and what it was worked out from.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeConfig {
    /// θ.
    pub base: f32,
    /// Radians per position of each channel pair.
    pub frequencies: Vec<f32>,
    /// Multiplies sine and cosine.
    pub scale: f32,
    /// Unscaled frequency over scaled one for each pair, where scaling is not uniform (Llama 3).
    pub factors: Option<Vec<f32>>,
    /// Uniform division of positions, 1 if none (Gemma 3's global layers).
    pub linear: f32,
    /// What the model turns to beyond its original context (LongRoPE). Kept for exporters: what runs here are
    /// `frequencies`, right up to that context.
    pub long: Option<LongRope>,
}

/// The second set of factors of LongRoPE.
#[derive(Clone, Debug, PartialEq)]
pub struct LongRope {
    /// Tokens up to which the first set holds.
    pub original_context: usize,
    /// Unscaled frequency over scaled one for each pair.
    pub factors: Vec<f32>,
}

/// Over what queries and keys are normalised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QkNorm {
    /// Each head by itself (Qwen 3, Gemma 3).
    Head,
    /// The whole projection (OLMoE).
    Full,
}

/// A mixture of experts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Experts {
    /// How many there are.
    pub count: usize,
    /// How many each token goes to.
    pub used: usize,
    /// Hidden width of each.
    pub ffn: usize,
    /// Whether the chosen probabilities are made to sum to one.
    pub normalize: bool,
}
