//! A config read key by key: sizes are capped, problems are collected, what is not supported is set apart.

use crate::Problem;
use formats::hf::{FromJson, Node};
use graph::ops::Activation;
use std::fmt::Display;

/// Most decoder layers that a config may claim.
pub const MAX_LAYERS: usize = 4096;
/// Most experts of a layer that a config may claim.
pub const MAX_EXPERTS: usize = 4096;
/// Most channels of a head that a config may claim.
pub const MAX_HEAD_DIM: usize = 4096;
/// Largest width, vocabulary or context that a config may claim.
pub const MAX_WIDTH: usize = 1 << 28;

/// A config under examination. Getters return something harmless after a problem, so that all problems are found.
pub struct Keys<'a> {
    node: Node<'a>,
    file: std::path::PathBuf,
    /// What is wrong: the config is to be refused.
    pub problems: Vec<Problem>,
    /// What is fine but unknown here: the model has no graph.
    pub unsupported: Vec<String>,
}

impl<'a> Keys<'a> {
    /// Starts to read the language model's part of a config.
    pub fn new(node: Node<'a>, file: &std::path::Path) -> Keys<'a> {
        Keys { node, file: file.to_owned(), problems: vec![], unsupported: vec![] }
    }

    /// The object itself.
    pub fn node(&self) -> Node<'a> {
        self.node.clone()
    }

    /// A key that may be absent or null.
    pub fn find<T: FromJson<'a>>(&mut self, key: &str) -> Option<T> {
        let found = self.node.find(key);
        self.ok(found).flatten()
    }

    /// The value, or its error noted.
    pub fn ok<T>(&mut self, result: Result<T, formats::hf::Error>) -> Option<T> {
        result.map_err(|e| self.problems.push(e.into())).ok()
    }

    /// A size that must be there, from 1 to `max`.
    pub fn size(&mut self, key: &str, max: usize) -> usize {
        let needed = self.node.need(key);
        let value = self.ok(needed).unwrap_or(1);
        self.capped(key, value, max)
    }

    /// A size that may be absent or null, from 1 to `max`.
    pub fn size_or(&mut self, key: &str, default: usize, max: usize) -> usize {
        match self.find(key) {
            Some(value) => self.capped(key, value, max),
            None => default,
        }
    }

    fn capped(&mut self, key: &str, value: usize, max: usize) -> usize {
        if (1..=max).contains(&value) {
            return value;
        }
        let (file, key, value) = (self.file.clone(), key.to_owned(), value.to_string());
        self.problems.push(Problem::Range { file, key, value, min: 1, max });
        1
    }

    /// A finite number that may be absent.
    pub fn number_or(&mut self, key: &str, default: f64) -> f64 {
        let value = self.find(key).unwrap_or(default);
        if !value.is_finite() {
            self.wrong(key, "is not finite");
        }
        value
    }

    /// A switch that may be absent.
    pub fn flag_or(&mut self, key: &str, default: bool) -> bool {
        self.find(key).unwrap_or(default)
    }

    /// The activation under the first of these keys that is there.
    pub fn activation(&mut self, keys: &[&str], default: Activation) -> Activation {
        let Some((key, name)) = keys.iter().find_map(|k| Some((*k, self.find::<&str>(k)?))) else { return default };
        match name {
            "silu" | "swish" => Activation::Silu,
            "gelu" => Activation::Gelu,
            "gelu_pytorch_tanh" | "gelu_new" | "gelu_fast" => Activation::GeluTanh,
            "relu" => Activation::Relu,
            _ => {
                self.unsupported(format!("{key} = {name}"));
                default
            }
        }
    }

    /// The window of each layer: by `layer_types` where the config has them, else by `slides`.
    pub fn windows(
        &mut self,
        layers: usize,
        window: Option<usize>,
        slides: impl Fn(usize) -> bool,
    ) -> Vec<Option<usize>> {
        let types = self.find::<Vec<&str>>("layer_types");
        if types.as_ref().is_some_and(|t| t.len() != layers) {
            self.wrong("layer_types", "does not have one entry for each layer");
        }
        let slides = |i: usize| match types.as_ref().and_then(|t| t.get(i)) {
            Some(name) => *name == "sliding_attention",
            None => slides(i),
        };
        (0..layers).map(|i| window.filter(|_| slides(i))).collect()
    }

    /// Notes that a key has a value that no model has.
    pub fn wrong(&mut self, key: &str, why: impl Display) {
        self.problems.push(Problem::Value { file: self.file.clone(), key: key.into(), why: why.to_string() });
    }

    /// Notes something that is fine but unknown here.
    pub fn unsupported(&mut self, what: impl Display) {
        self.unsupported.push(what.to_string());
    }
}
