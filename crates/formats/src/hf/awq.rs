//! `quantization_config` of AWQ checkpoints.
//!
//! ```json
//! {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": true, "version": "gemm",
//!  "modules_to_not_convert": null}
//! ```
//!
//! Sources: AutoAWQ `models/_config.py`, transformers `AwqConfig`.

use super::gptq::{group, group_size};
use super::{Error, Node};
use serde_json::{Value, json};

/// The whole configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwqConfig {
    /// Columns that share a scale; all of them where there is none.
    pub group: Option<usize>,
}

impl AwqConfig {
    /// Reads the object. Zero points are stored whether the config says so or not.
    pub(super) fn of(node: &Node<'_>) -> Result<AwqConfig, Error> {
        for key in ["bits", "w_bit"] {
            if let Some(bits) = node.find::<u32>(key)?.filter(|bits| *bits != 4) {
                return Err(node.unsupported(key, bits, "4"));
            }
        }
        let version = node.find::<&str>("version")?.unwrap_or("gemm");
        if !version.eq_ignore_ascii_case("gemm") {
            return Err(node.unsupported("version", version, "gemm"));
        }
        Ok(AwqConfig { group: group(node)? })
    }

    /// The object that loaders expect, `plain` being modules that they must leave alone. Loaders look for these as parts
    /// of a name, so they are whole names.
    pub fn to_json(&self, plain: &[String]) -> Value {
        json!({
            "quant_method": "awq", "bits": 4, "group_size": group_size(self.group), "zero_point": true,
            "version": "gemm", "modules_to_not_convert": if plain.is_empty() { Value::Null } else { json!(plain) },
        })
    }
}
