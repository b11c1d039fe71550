//! Presets: an encoding for every weight of a model, under one name.
//!
//! llama.cpp's mixes ([`Mix`]) make GGUF files; the others ([`Pack`]) make compressed-tensors folders,
//! and those of integers also GPTQ and AWQ folders.

mod mix;
mod pack;

pub use mix::{Facts, Mix};
pub use pack::Pack;

use crate::Container;
use crate::names::{meant, nearest};
use codec::Encoding;
use graph::Weight;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A named choice of encodings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Preset {
    /// One of llama.cpp's mixes.
    Mix(Mix),
    /// One compressed-tensors format for every linear layer.
    Pack(Pack),
}

/// A name that no preset has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown preset `{name}`{}; presets are {}", meant(.suggestion), list())]
pub struct UnknownPreset {
    /// What was written.
    pub name: String,
    /// The nearest name that exists.
    pub suggestion: Option<String>,
}

impl Preset {
    /// Every preset: mixes first, larger ones before smaller.
    pub fn all() -> impl Iterator<Item = Preset> {
        Mix::ALL.into_iter().map(Preset::Mix).chain(Pack::ALL.into_iter().map(Preset::Pack))
    }

    /// The name: `Q4_K_M`, `w4a16`. It is read without regard to case.
    pub const fn name(self) -> &'static str {
        match self {
            Preset::Mix(mix) => mix.name(),
            Preset::Pack(pack) => pack.name(),
        }
    }

    /// The kind of artifact that it is for.
    pub const fn container(self) -> Container {
        match self {
            Preset::Mix(_) => Container::Gguf,
            Preset::Pack(_) => Container::CompressedTensors,
        }
    }

    /// Whether artifacts of this kind can hold it, where all its encodings fit.
    pub fn fits(self, container: Container) -> bool {
        match self {
            Preset::Mix(_) => container == Container::Gguf,
            Preset::Pack(_) => !matches!(container, Container::Gguf | Container::Safetensors | Container::Onnx),
        }
    }

    /// The encoding of a weight in a model of these facts.
    pub fn encoding(self, facts: &Facts, weight: &Weight) -> Encoding {
        match self {
            Preset::Mix(mix) => mix.encoding(facts, weight),
            Preset::Pack(pack) => pack.encoding(weight),
        }
    }
}

impl FromStr for Preset {
    type Err = UnknownPreset;

    fn from_str(name: &str) -> Result<Preset, UnknownPreset> {
        Preset::all().find(|p| p.name().eq_ignore_ascii_case(name)).ok_or_else(|| UnknownPreset {
            name: name.into(),
            suggestion: nearest(name, Preset::all().map(Preset::name)).map(str::to_owned),
        })
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl TryFrom<String> for Preset {
    type Error = UnknownPreset;

    fn try_from(name: String) -> Result<Preset, UnknownPreset> {
        name.parse()
    }
}

impl From<Preset> for String {
    fn from(preset: Preset) -> String {
        preset.name().into()
    }
}

fn list() -> String {
    Preset::all().map(Preset::name).collect::<Vec<_>>().join(", ")
}
