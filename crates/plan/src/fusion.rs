//! What a runtime makes of a quantized network: which nodes run on codes, and which conversions are left.

use serde::{Deserialize, Serialize};

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fusion {
    /// Every node, in running order.
    pub nodes: Vec<FusedNode>,
    /// Conversions between numbers and codes that stay when the network runs.
    pub conversions: Vec<Conversion>,
}

/// How a node runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FusedNode {
    /// Its name.
    pub node: String,
    /// Its op.
    pub op: String,
    /// How.
    pub runs: Runs,
}

/// On what a node runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Runs {
    /// On codes, by this kernel.
    OnCodes(String),
    /// It moves codes.
    MovesCodes,
    /// It went into the rounding behind it.
    Absorbed,
    /// On numbers.
    InFloat {
        /// Why.
        why: String,
        /// What would change that.
        fix: String,
    },
}

/// A QuantizeLinear or a DequantizeLinear that stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conversion {
    /// The value.
    pub value: String,
    /// Which way.
    pub to: To,
    /// The node in float beside it; none at the ends of the network, where something has to convert.
    pub beside: Option<String>,
}

/// Which way a conversion goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum To {
    /// From numbers.
    Codes,
    /// From codes.
    Numbers,
}

impl Fusion {
    /// Nodes in float that codes are converted for: each costs time that no quantization at all would not.
    pub fn between_codes(&self) -> impl Iterator<Item = (&FusedNode, &str, &str)> {
        let beside = |node: &str| self.inside().any(|c| c.beside.as_deref() == Some(node));
        self.in_float().filter(move |(node, ..)| beside(&node.node))
    }

    /// Nodes in float, why, and what would change that.
    pub fn in_float(&self) -> impl Iterator<Item = (&FusedNode, &str, &str)> {
        self.nodes.iter().filter_map(|node| match &node.runs {
            Runs::InFloat { why, fix } => Some((node, &why[..], &fix[..])),
            _ => None,
        })
    }

    /// Conversions inside the network.
    pub fn inside(&self) -> impl Iterator<Item = &Conversion> {
        self.conversions.iter().filter(|c| c.beside.is_some())
    }
}
