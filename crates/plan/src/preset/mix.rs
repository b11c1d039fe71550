//! llama.cpp's mixes: which GGUF type every tensor gets, exactly as stock `llama-quantize` decides.
//!
//! A mix has a base type. Some tensors get a better one, by the rules of [`Mix::rules`]; the output head (or the tied
//! embedding) is Q6_K; what cannot be cut into the type's blocks falls back to another type ([`fit`]); vectors and
//! routers stay F32.
//!
//! Source: `llama-quant.cpp` of llama.cpp (2026-09); `golden/presets` holds what the tool itself decided.

use codec::BlockFormat::{self, *};
use codec::{Dtype, Encoding};
use graph::{DecoderConfig, Place, Role, Weight};

/// A mix, by the name that llama.cpp gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, non_camel_case_types)]
pub enum Mix {
    F32,
    F16,
    BF16,
    Q8_0,
    Q6_K,
    Q5_K_M,
    Q5_K_S,
    Q5_1,
    Q5_0,
    Q4_K_M,
    Q4_K_S,
    Q4_1,
    Q4_0,
    IQ4_NL,
    IQ4_XS,
    MXFP4_MOE,
    Q3_K_L,
    Q3_K_M,
    Q3_K_S,
    Q2_K,
    TQ2_0,
    TQ1_0,
}

/// What the rules ask of a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Decoder layers.
    pub layers: usize,
    /// Query heads per key head.
    pub heads_per_kv: usize,
    /// Experts of a layer, 0 if dense.
    pub experts: usize,
    /// Whether the output head is the embedding table.
    pub tied: bool,
    /// Whether llama.cpp counts the model as one of its 70 B kind.
    pub seventy_b: bool,
    /// Whether weights are encoded with importance weights.
    pub importance: bool,
}

impl Facts {
    /// The facts of a decoder that is quantized without importance weights.
    pub fn of(config: &DecoderConfig) -> Facts {
        let (layers, experts) = (config.layers.len(), config.experts.as_ref().map_or(0, |e| e.count));
        let seventy_b = match config.family.as_str() {
            "llama" | "mistral" | "mixtral" => layers == 80 && experts != 8 && config.heads != config.kv_heads,
            "qwen2" => layers == 80,
            _ => false,
        };
        let heads_per_kv = config.heads / config.kv_heads.max(1);
        Facts { layers, heads_per_kv, experts, tied: config.tied, seventy_b, importance: false }
    }

    /// The first and last eighth of the layers, and every third between.
    fn sensitive(&self, layer: usize) -> bool {
        let eighth = self.layers / 8;
        layer < eighth || layer >= 7 * self.layers / 8 || (layer - eighth) % 3 == 2
    }

    fn first(&self, layer: usize, part: usize) -> bool {
        layer < self.layers / part
    }
}

/// A better type for a layer's tensor, where the mix has one.
type Rule = fn(&Facts, usize) -> Option<BlockFormat>;

/// What a mix gives to whom.
struct Rules {
    base: BlockFormat,
    /// The embedding table, where it is not also the output head.
    embedding: Option<BlockFormat>,
    /// Values, alone or fused with queries and keys.
    values: Rule,
    attn_out: Rule,
    /// Down projections, of experts too.
    down: Rule,
    /// All experts.
    experts: Option<BlockFormat>,
}

impl Rules {
    fn all(base: BlockFormat) -> Rules {
        Rules { base, embedding: None, values: |_, _| None, attn_out: |_, _| None, down: |_, _| None, experts: None }
    }
}

/// Models of eight experts have little else than experts: their attention output gets more.
const EIGHT_EXPERTS: Rule = |m, _| (m.experts == 8).then_some(Q5_K);

impl Mix {
    /// Every mix, larger ones first.
    pub const ALL: [Mix; 22] = [
        Mix::F32,
        Mix::F16,
        Mix::BF16,
        Mix::Q8_0,
        Mix::Q6_K,
        Mix::Q5_K_M,
        Mix::Q5_K_S,
        Mix::Q5_1,
        Mix::Q5_0,
        Mix::Q4_K_M,
        Mix::Q4_K_S,
        Mix::Q4_1,
        Mix::Q4_0,
        Mix::IQ4_NL,
        Mix::IQ4_XS,
        Mix::MXFP4_MOE,
        Mix::Q3_K_L,
        Mix::Q3_K_M,
        Mix::Q3_K_S,
        Mix::Q2_K,
        Mix::TQ2_0,
        Mix::TQ1_0,
    ];

    /// The name, and the number that `general.file_type` has for it (`llama_ftype`).
    const fn label(self) -> (&'static str, u32) {
        match self {
            Mix::F32 => ("F32", 0),
            Mix::F16 => ("F16", 1),
            Mix::BF16 => ("BF16", 32),
            Mix::Q8_0 => ("Q8_0", 7),
            Mix::Q6_K => ("Q6_K", 18),
            Mix::Q5_K_M => ("Q5_K_M", 17),
            Mix::Q5_K_S => ("Q5_K_S", 16),
            Mix::Q5_1 => ("Q5_1", 9),
            Mix::Q5_0 => ("Q5_0", 8),
            Mix::Q4_K_M => ("Q4_K_M", 15),
            Mix::Q4_K_S => ("Q4_K_S", 14),
            Mix::Q4_1 => ("Q4_1", 3),
            Mix::Q4_0 => ("Q4_0", 2),
            Mix::IQ4_NL => ("IQ4_NL", 25),
            Mix::IQ4_XS => ("IQ4_XS", 30),
            Mix::MXFP4_MOE => ("MXFP4_MOE", 38),
            Mix::Q3_K_L => ("Q3_K_L", 13),
            Mix::Q3_K_M => ("Q3_K_M", 12),
            Mix::Q3_K_S => ("Q3_K_S", 11),
            Mix::Q2_K => ("Q2_K", 10),
            Mix::TQ2_0 => ("TQ2_0", 37),
            Mix::TQ1_0 => ("TQ1_0", 36),
        }
    }

    /// The name.
    pub const fn name(self) -> &'static str {
        self.label().0
    }

    /// The number that `general.file_type` has for it.
    pub const fn file_type(self) -> u32 {
        self.label().1
    }

    /// The rules; `Err` for mixes that hold plain numbers.
    fn rules(self) -> Result<Rules, Dtype> {
        Ok(match self {
            Mix::F32 => return Err(Dtype::F32),
            Mix::F16 => return Err(Dtype::F16),
            Mix::BF16 => return Err(Dtype::BF16),
            Mix::Q8_0 => Rules::all(Q8_0),
            Mix::Q6_K => Rules::all(Q6_K),
            Mix::Q5_K_M => Rules {
                values: |m, i| m.sensitive(i).then_some(Q6_K),
                down: |m, i| m.sensitive(i).then_some(Q6_K),
                ..Rules::all(Q5_K)
            },
            Mix::Q5_K_S => Rules::all(Q5_K),
            Mix::Q5_1 => Rules::all(Q5_1),
            Mix::Q5_0 => Rules { down: |m, i| (m.importance && m.first(i, 8)).then_some(Q5_1), ..Rules::all(Q5_0) },
            Mix::Q4_K_M => Rules {
                values: |m, i| m.sensitive(i).then_some(Q6_K),
                down: |m, i| m.sensitive(i).then_some(Q6_K),
                attn_out: EIGHT_EXPERTS,
                ..Rules::all(Q4_K)
            },
            Mix::Q4_K_S => Rules {
                values: |_, i| (i < 4).then_some(Q5_K),
                down: |m, i| m.first(i, 8).then_some(Q5_K),
                attn_out: EIGHT_EXPERTS,
                ..Rules::all(Q4_K)
            },
            Mix::Q4_1 => Rules::all(Q4_1),
            Mix::Q4_0 => Rules { down: |m, i| (m.importance && m.first(i, 8)).then_some(Q4_1), ..Rules::all(Q4_0) },
            Mix::IQ4_NL => four_bit_grid(IQ4_NL),
            Mix::IQ4_XS => four_bit_grid(IQ4_XS),
            Mix::MXFP4_MOE => Rules { experts: Some(MXFP4), ..Rules::all(Q8_0) },
            Mix::Q3_K_L => Rules {
                values: |_, _| Some(Q5_K),
                down: |_, _| Some(Q5_K),
                attn_out: |m, _| (m.experts != 8).then_some(Q5_K),
                ..Rules::all(Q3_K)
            },
            Mix::Q3_K_M => Rules {
                values: |_, i| Some(if i < 2 { Q5_K } else { Q4_K }),
                down: |m, i| Some(if m.first(i, 16) { Q5_K } else { Q4_K }),
                attn_out: |m, _| Some(if m.experts == 8 { Q5_K } else { Q4_K }),
                ..Rules::all(Q3_K)
            },
            Mix::Q3_K_S => Rules { attn_out: EIGHT_EXPERTS, ..Rules::all(Q3_K) },
            Mix::Q2_K => Rules {
                values: |m, _| Some(if m.heads_per_kv >= 4 { Q4_K } else { Q3_K }),
                down: |_, _| Some(Q3_K),
                attn_out: |m, _| Some(if m.experts == 8 { Q5_K } else { Q3_K }),
                ..Rules::all(Q2_K)
            },
            Mix::TQ2_0 => Rules { embedding: Some(Q4_K), ..Rules::all(TQ2_0) },
            Mix::TQ1_0 => Rules { embedding: Some(Q4_K), ..Rules::all(TQ1_0) },
        })
    }

    /// The encoding of a weight. Weights without a place in the architecture get the base type.
    pub fn encoding(self, facts: &Facts, weight: &Weight) -> Encoding {
        let place = weight.place;
        if weight.shape.len() < 2 || place.bias || place.role.is_norm() || place.role == Role::Router {
            return Encoding::Plain(Dtype::F32);
        }
        match self.rules() {
            Err(dtype) => Encoding::Plain(dtype),
            Ok(rules) => fit(rules.wanted(facts, place, weight.cols()), weight.cols()),
        }
    }
}

fn four_bit_grid(base: BlockFormat) -> Rules {
    Rules {
        values: |m, _| (m.heads_per_kv >= 4).then_some(Q5_K),
        down: |m, i| (!m.importance && m.first(i, 8)).then_some(Q5_K),
        attn_out: EIGHT_EXPERTS,
        ..Rules::all(base)
    }
}

impl Rules {
    /// The type that the rules give, whether or not rows fit it.
    fn wanted(&self, facts: &Facts, place: Place, cols: usize) -> BlockFormat {
        let layer = place.layer.unwrap_or(0);
        let better = match place.role {
            Role::OutputHead => Some(self.head(cols)),
            Role::TokenEmbed if facts.tied => Some(self.head(cols)),
            Role::TokenEmbed => self.embedding,
            Role::AttnV | Role::AttnQkv => return self.values(facts, layer),
            Role::AttnK if facts.experts == 8 => Some(Q8_0),
            Role::AttnOut => (self.attn_out)(facts, layer),
            role if role.is_expert() && self.experts.is_some() => self.experts,
            Role::FfnDown | Role::ExpertDown => (self.down)(facts, layer),
            _ => None,
        };
        better.unwrap_or(self.base)
    }

    fn head(&self, cols: usize) -> BlockFormat {
        if self.base == Q8_0 || !cols.is_multiple_of(self.base.codec().block_len()) { Q8_0 } else { Q6_K }
    }

    /// Values are few where many heads share them, and weigh all the more.
    fn values(&self, facts: &Facts, layer: usize) -> BlockFormat {
        match (self.values)(facts, layer).unwrap_or(self.base) {
            _ if facts.experts == 8 => Q8_0,
            Q3_K | Q4_K if facts.seventy_b => Q5_K,
            wanted => wanted,
        }
    }
}

/// The type itself where rows are a multiple of its block; else a fallback of about its size; else F16.
fn fit(wanted: BlockFormat, cols: usize) -> Encoding {
    let fits = |format: &BlockFormat| cols.is_multiple_of(format.codec().block_len());
    let fallback = match wanted {
        IQ4_XS => IQ4_NL,
        Q2_K | Q3_K | TQ1_0 | TQ2_0 => Q4_0,
        Q4_K => Q5_0,
        Q5_K => Q5_1,
        Q6_K => Q8_0,
        other => other,
    };
    [wanted, fallback].into_iter().find(fits).map_or(Encoding::Plain(Dtype::F16), Encoding::Block)
}
