//! `quantization_config` of compressed-tensors: which modules are packed how.
//!
//! ```json
//! {"quant_method": "compressed-tensors", "format": "pack-quantized", "quantization_status": "compressed",
//!  "ignore": ["lm_head"], "config_groups": {"group_0": {"targets": ["Linear"], "weights": {"num_bits": 4, …}}}}
//! ```
//!
//! Unknown keys are kept out of the way; unknown values of known keys are errors, because guessing at numerics is worse.
//!
//! Source: the `compressed-tensors` package, `quantization/quant_args.py`, `quant_config.py`, `quant_scheme.py` (0.18).

use super::{Error, Node, Problem};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The whole configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QuantizationConfig {
    /// Layout of the packed tensors; `mixed-precision` where groups differ.
    pub format: Format,
    /// Modules left alone: names, class names, or `re:` expressions.
    #[serde(default)]
    pub ignore: Vec<String>,
    /// Groups of modules that are quantized alike.
    pub config_groups: BTreeMap<String, Group>,
    /// How keys and values are cached, where their scales are stored.
    #[serde(default)]
    pub kv_cache_scheme: Option<QuantizationArgs>,
}

/// How packed tensors lie in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum Format {
    PackQuantized,
    IntQuantized,
    FloatQuantized,
    NaiveQuantized,
    Nvfp4PackQuantized,
    Mxfp4PackQuantized,
    Mxfp8Quantized,
    MixedPrecision,
    Dense,
}

/// Modules that are quantized alike.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Names, class names (`Linear`), or `re:` expressions.
    pub targets: Vec<String>,
    /// How weights are quantized.
    pub weights: Option<QuantizationArgs>,
    /// How inputs are quantized when the model runs.
    #[serde(default)]
    pub input_activations: Option<QuantizationArgs>,
    /// How outputs are quantized when the model runs.
    #[serde(default)]
    pub output_activations: Option<QuantizationArgs>,
    /// The group's own layout, where it says one.
    #[serde(default)]
    pub format: Option<Format>,
}

/// Numerics of one quantization.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QuantizationArgs {
    /// Bits of a value.
    #[serde(default = "eight")]
    pub num_bits: u32,
    /// Integer or float.
    #[serde(rename = "type", default)]
    pub kind: NumberKind,
    /// Whether zero is at the middle of the range.
    #[serde(default = "yes")]
    pub symmetric: bool,
    /// What shares a scale. The reference infers it from `group_size` where it is absent; [`QuantizationArgs::strategy`] does.
    #[serde(default)]
    strategy: Option<Strategy>,
    /// Columns that share a scale, for `group` and `tensor_group`.
    #[serde(default)]
    pub group_size: Option<i64>,
    /// Rows and columns that share a scale, for `block`.
    #[serde(default)]
    pub block_structure: Option<[usize; 2]>,
    /// For activations: whether scales are found at run time (`true`, `false` or `"local"`).
    #[serde(default)]
    pub dynamic: Value,
    /// Order in which columns were quantized; `group` comes with a `weight_g_idx` tensor.
    #[serde(default)]
    pub actorder: Option<Value>,
    /// The type that scales are rounded to (`torch.uint8` for E8M0), where it is not the model's.
    #[serde(default)]
    pub scale_dtype: Option<String>,
}

/// Integer or float.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum NumberKind {
    #[default]
    Int,
    Float,
}

/// What shares a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Strategy {
    Tensor,
    Channel,
    Group,
    Block,
    Token,
    TensorGroup,
    AttnHead,
}

fn eight() -> u32 {
    8
}

fn yes() -> bool {
    true
}

impl QuantizationArgs {
    /// Weights of `num_bits` bits that share scales by `strategy`.
    pub fn weights(
        num_bits: u32,
        kind: NumberKind,
        symmetric: bool,
        strategy: Strategy,
        group_size: Option<i64>,
    ) -> Self {
        QuantizationArgs {
            num_bits,
            kind,
            symmetric,
            strategy: Some(strategy),
            group_size,
            block_structure: None,
            dynamic: Value::Bool(false),
            actorder: None,
            scale_dtype: None,
        }
    }

    /// What shares a scale: as said, else by group where there is a group size, else the whole tensor.
    pub fn strategy(&self) -> Strategy {
        self.strategy.unwrap_or(match self.group_size {
            Some(n) if n > 0 => Strategy::Group,
            Some(-1) => Strategy::Channel,
            _ => Strategy::Tensor,
        })
    }

    /// The object that the reference writes, defaults spelled out.
    fn to_json(&self) -> Value {
        json!({
            "num_bits": self.num_bits, "type": self.kind, "symmetric": self.symmetric, "group_size": self.group_size,
            "strategy": self.strategy(), "block_structure": self.block_structure, "dynamic": self.dynamic,
            "actorder": self.actorder, "scale_dtype": self.scale_dtype, "zp_dtype": null,
            "observer": if self.dynamic == json!(true) { Value::Null } else { json!("memoryless_minmax") },
            "observer_kwargs": {},
        })
    }
}

impl Group {
    /// The layout of this group, given the configuration it is in.
    pub fn format(&self, config: &QuantizationConfig) -> Format {
        self.format.unwrap_or(config.format)
    }

    fn to_json(&self, format: Format) -> Value {
        let args = |a: &Option<QuantizationArgs>| a.as_ref().map(QuantizationArgs::to_json);
        json!({
            "targets": self.targets, "weights": args(&self.weights),
            "input_activations": args(&self.input_activations), "output_activations": args(&self.output_activations),
            "format": format,
        })
    }
}

impl QuantizationConfig {
    /// The `quantization_config` object (or the older `compression_config`) of a `config.json`. `None` where the model
    /// is not quantized; an error where another tool quantized it.
    pub fn of(config: &Node<'_>) -> Result<Option<QuantizationConfig>, Error> {
        for key in ["quantization_config", "compression_config"] {
            let Some(node) = config.object(key)? else { continue };
            let method = node.find::<&str>("quant_method")?.unwrap_or("compressed-tensors");
            if method != "compressed-tensors" {
                return Err(node.unsupported("quant_method", method, "compressed-tensors"));
            }
            let value = Value::Object(node.entries().map(|(k, v)| (k.clone(), v.clone())).collect::<Map<_, _>>());
            let parsed = serde_json::from_value(value);
            let problem = |source| Problem::Quantization { key: config.name(key), source };
            return parsed.map(Some).map_err(|e| config.error(problem(e)));
        }
        Ok(None)
    }

    /// The object that loaders expect under `quantization_config`.
    pub fn to_json(&self) -> Value {
        let groups: Map<String, Value> =
            self.config_groups.iter().map(|(name, g)| (name.clone(), g.to_json(g.format(self)))).collect();
        json!({
            "quant_method": "compressed-tensors", "version": "0.18.0", "format": self.format,
            "quantization_status": "compressed", "global_compression_ratio": null, "ignore": self.ignore,
            "kv_cache_scheme": self.kv_cache_scheme.as_ref().map(QuantizationArgs::to_json), "sparsity_config": {}, "transform_config": {}, "config_groups": groups,
        })
    }
}
