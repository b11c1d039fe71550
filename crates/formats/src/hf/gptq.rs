//! `quantization_config` of GPTQ checkpoints, and the `quantize_config.json` that AutoGPTQ wrote instead.
//!
//! ```json
//! {"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": true, "desc_act": false,
//!  "checkpoint_format": "gptq", "lm_head": false, "dynamic": {"-:re": {}, "+:re": {"bits": 8}}}
//! ```
//!
//! Sources: AutoGPTQ `quantization/config.py`, GPTQModel `quantization/config.py`, transformers `GPTQConfig`.

use super::{Error, Node};
use codec::packed::{Bits, ZeroPoints};
use serde_json::{Map, Value, json};

/// What GPTQ checkpoints without a `quantization_config` have beside them.
pub const QUANTIZE_CONFIG: &str = "quantize_config.json";

/// Columns of a group, and how they are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grouping {
    /// Of a code.
    pub bits: Bits,
    /// Columns that share a scale; all of them where there is none.
    pub group: Option<usize>,
}

/// The whole configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GptqConfig {
    /// Of modules that `dynamic` says nothing of.
    pub grouping: Grouping,
    /// How zero points are stored.
    pub zeros: ZeroPoints,
    /// Whether zero points are all in the middle.
    pub symmetric: bool,
    /// What differs: modules by a regular expression for the start of their names, and their grouping, or none for those
    /// left alone. The first that matches counts.
    pub dynamic: Vec<(String, Option<Grouping>)>,
}

impl GptqConfig {
    /// One grouping for all.
    pub fn new(grouping: Grouping, zeros: ZeroPoints, symmetric: bool) -> GptqConfig {
        GptqConfig { grouping, zeros, symmetric, dynamic: Vec::new() }
    }

    /// Reads the object.
    pub(super) fn of(node: &Node<'_>) -> Result<GptqConfig, Error> {
        const FORMATS: &str = "gptq, gptq_v2";
        let key = ["checkpoint_format", "format"].into_iter().find(|key| node.get(key).is_some());
        let format = key.map(|key| node.need::<&str>(key)).transpose()?.unwrap_or("gptq");
        let zeros = match format {
            "gptq" => ZeroPoints::LessOne,
            "gptq_v2" => ZeroPoints::Plain,
            other => return Err(node.unsupported(key.unwrap_or_default(), other, FORMATS)),
        };
        if let Some(pack) = node.find::<&str>("pack_dtype")?.filter(|p| *p != "int32") {
            return Err(node.unsupported("pack_dtype", pack, "int32"));
        }
        let grouping = grouping(node, None)?;
        let mut dynamic = vec![];
        if let Some(rules) = node.object("dynamic")? {
            for (pattern, _) in rules.entries() {
                let rule = rules.object(pattern)?.filter(|_| !pattern.starts_with("-:"));
                let rule = rule.map(|rule| self::grouping(&rule, Some(grouping))).transpose()?;
                let pattern = pattern.strip_prefix("+:").or(pattern.strip_prefix("-:")).unwrap_or(pattern);
                dynamic.push((pattern.to_owned(), rule));
            }
        }
        Ok(GptqConfig { grouping, zeros, symmetric: node.find("sym")?.unwrap_or(true), dynamic })
    }

    /// The object that loaders expect.
    pub fn to_json(&self) -> Value {
        let format = match self.zeros {
            ZeroPoints::LessOne => "gptq",
            ZeroPoints::Plain => "gptq_v2",
        };
        let mut config = json!({
            "quant_method": "gptq", "bits": self.grouping.bits.get(), "group_size": group_size(self.grouping.group),
            "sym": self.symmetric, "desc_act": false, "lm_head": false, "checkpoint_format": format,
            "pack_dtype": "int32", "true_sequential": true, "damp_percent": 0.01, "static_groups": false,
        });
        let rule = |(pattern, grouping): &(String, Option<Grouping>)| match grouping {
            None => (format!("-:{pattern}"), json!({})),
            Some(Grouping { bits, group }) => {
                (format!("+:{pattern}"), json!({"bits": bits.get(), "group_size": group_size(*group)}))
            }
        };
        if let (false, Value::Object(config)) = (self.dynamic.is_empty(), &mut config) {
            config.insert("dynamic".into(), self.dynamic.iter().map(rule).collect::<Map<_, _>>().into());
        }
        config
    }
}

fn grouping(node: &Node<'_>, outer: Option<Grouping>) -> Result<Grouping, Error> {
    const BITS: &str = "2, 3, 4, 8";
    let bits = match (node.find::<u32>("bits")?, outer) {
        (None, Some(outer)) => outer.bits,
        (None, None) => {
            return Err(node.need::<u32>("bits").err().unwrap_or_else(|| node.unsupported("bits", "", BITS)));
        }
        (Some(bits), _) => {
            let known = u8::try_from(bits).ok().filter(|b| [2, 3, 4, 8].contains(b)).and_then(Bits::new);
            known.ok_or_else(|| node.unsupported("bits", bits, BITS))?
        }
    };
    let group = if node.get("group_size").is_none() { outer.and_then(|o| o.group) } else { group(node)? };
    Ok(Grouping { bits, group })
}

/// `group_size`: `None` for −1, a scale for each row.
pub(super) fn group(node: &Node<'_>) -> Result<Option<usize>, Error> {
    const KEY: &str = "group_size";
    match node.find::<i64>(KEY)? {
        None | Some(-1) => Ok(None),
        Some(size) => match usize::try_from(size) {
            Ok(size) if size > 0 => Ok(Some(size)),
            _ => Err(node.unsupported(KEY, size, "-1, or a number of columns")),
        },
    }
}

/// The inverse of [`group`].
pub(super) fn group_size(group: Option<usize>) -> Value {
    group.map_or(json!(-1), |size| json!(size))
}
