//! What a weight is for: the vocabulary that presets, exporters and reports share.

use std::fmt;

/// The part a weight plays. Names follow the common words of the decoder family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Role {
    TokenEmbed,
    OutputNorm,
    OutputHead,
    AttnNorm,
    AttnQ,
    AttnK,
    AttnV,
    AttnQkv,
    AttnQNorm,
    AttnKNorm,
    AttnOut,
    AttnPostNorm,
    FfnNorm,
    FfnGate,
    FfnUp,
    FfnGateUp,
    FfnDown,
    FfnPostNorm,
    Router,
    ExpertGate,
    ExpertUp,
    ExpertDown,
    /// Anything without a place in a known architecture.
    Other,
}

impl Role {
    /// Lower-case name, as recipes and reports spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Role::TokenEmbed => "token_embed",
            Role::OutputNorm => "output_norm",
            Role::OutputHead => "output_head",
            Role::AttnNorm => "attn_norm",
            Role::AttnQ => "attn_q",
            Role::AttnK => "attn_k",
            Role::AttnV => "attn_v",
            Role::AttnQkv => "attn_qkv",
            Role::AttnQNorm => "attn_q_norm",
            Role::AttnKNorm => "attn_k_norm",
            Role::AttnOut => "attn_out",
            Role::AttnPostNorm => "attn_post_norm",
            Role::FfnNorm => "ffn_norm",
            Role::FfnGate => "ffn_gate",
            Role::FfnUp => "ffn_up",
            Role::FfnGateUp => "ffn_gate_up",
            Role::FfnDown => "ffn_down",
            Role::FfnPostNorm => "ffn_post_norm",
            Role::Router => "router",
            Role::ExpertGate => "expert_gate",
            Role::ExpertUp => "expert_up",
            Role::ExpertDown => "expert_down",
            Role::Other => "other",
        }
    }

    /// Whether the weight scales a normalised value.
    pub const fn is_norm(self) -> bool {
        matches!(
            self,
            Role::OutputNorm
                | Role::AttnNorm
                | Role::AttnQNorm
                | Role::AttnKNorm
                | Role::AttnPostNorm
                | Role::FfnNorm
                | Role::FfnPostNorm
        )
    }

    /// The roles whose matrices servers join with this one's into one product, itself included; their scales must agree
    /// where an encoding has one for the whole matrix.
    pub const fn fused(self) -> &'static [Role] {
        match self {
            Role::AttnQ | Role::AttnK | Role::AttnV => &[Role::AttnQ, Role::AttnK, Role::AttnV],
            Role::FfnGate | Role::FfnUp => &[Role::FfnGate, Role::FfnUp],
            Role::ExpertGate | Role::ExpertUp => &[Role::ExpertGate, Role::ExpertUp],
            _ => &[],
        }
    }

    /// Whether the weight is one expert's.
    pub const fn is_expert(self) -> bool {
        matches!(self, Role::ExpertGate | Role::ExpertUp | Role::ExpertDown)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where a weight stands in its model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The decoder layer, if it is in one.
    pub layer: Option<usize>,
    /// Its role there.
    pub role: Role,
    /// The expert, for an expert's weight.
    pub expert: Option<usize>,
    /// Whether it is the bias beside the role's matrix.
    pub bias: bool,
}

impl Place {
    /// A weight outside the layers.
    pub const fn outer(role: Role) -> Place {
        Place { layer: None, role, expert: None, bias: false }
    }

    /// A matrix or norm of a layer.
    pub const fn layer(layer: usize, role: Role) -> Place {
        Place { layer: Some(layer), role, expert: None, bias: false }
    }

    /// A matrix of an expert.
    pub const fn expert(layer: usize, role: Role, expert: usize) -> Place {
        Place { layer: Some(layer), role, expert: Some(expert), bias: false }
    }

    /// The bias beside this matrix.
    pub const fn bias(self) -> Place {
        Place { bias: true, ..self }
    }
}
