//! The names of packed encodings, in recipes and reports.
//!
//! `int<bits>-<per>[-asym]`, `int8-<per>-bytes`, `fp8-<per>`, `mxfp4-g32`, `nvfp4-g16`, where `<per>` is `tensor`,
//! `channel`, `g<size>` or `block`. Scales are bf16; `-f16` or `-f32` at the end says otherwise. The groups in the
//! names of the two four-bit floats set them apart from ggml's blocks of the same name.

use super::{Bits, Granularity, Packed, ScaleType};
use std::fmt;
use std::str::FromStr;

impl fmt::Display for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Packed::Int { bits, symmetric, per, scale } => {
                let tail = if *symmetric { "" } else { "-asym" };
                write!(f, "int{}-{per}{tail}{}", bits.get(), suffix(*scale))
            }
            Packed::Int8 { per, scale } => write!(f, "int8-{per}-bytes{}", suffix(*scale)),
            Packed::Fp8 { per, scale } => write!(f, "fp8-{per}{}", suffix(*scale)),
            Packed::Mxfp4 => f.write_str("mxfp4-g32"),
            Packed::Nvfp4 => f.write_str("nvfp4-g16"),
        }
    }
}

fn suffix(scale: ScaleType) -> &'static str {
    match scale {
        ScaleType::BF16 => "",
        ScaleType::F16 => "-f16",
        ScaleType::F32 => "-f32",
    }
}

impl fmt::Display for Granularity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Granularity::Tensor => f.write_str("tensor"),
            Granularity::Channel => f.write_str("channel"),
            Granularity::Group(size) => write!(f, "g{size}"),
            Granularity::Block => f.write_str("block"),
        }
    }
}

/// The name is not that of a packed encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotPacked;

impl FromStr for Packed {
    type Err = NotPacked;

    fn from_str(name: &str) -> Result<Self, NotPacked> {
        match name {
            "mxfp4-g32" => return Ok(Packed::Mxfp4),
            "nvfp4-g16" => return Ok(Packed::Nvfp4),
            _ => {}
        }
        let (name, scale) = match name.rsplit_once('-') {
            Some((name, "f16")) => (name, ScaleType::F16),
            Some((name, "f32")) => (name, ScaleType::F32),
            _ => (name, ScaleType::BF16),
        };
        let (head, per) = name.split_once('-').ok_or(NotPacked)?;
        let (per, tail) = per.split_once('-').map_or((per, None), |(per, tail)| (per, Some(tail)));
        let per = per.parse()?;
        match (head, tail) {
            ("fp8", None) => Ok(Packed::Fp8 { per, scale }),
            ("int8", Some("bytes")) => Ok(Packed::Int8 { per, scale }),
            (_, None | Some("asym")) => {
                let bits =
                    head.strip_prefix("int").and_then(|b| b.parse().ok()).and_then(Bits::new).ok_or(NotPacked)?;
                Ok(Packed::Int { bits, symmetric: tail.is_none(), per, scale })
            }
            _ => Err(NotPacked),
        }
    }
}

impl FromStr for Granularity {
    type Err = NotPacked;

    fn from_str(name: &str) -> Result<Self, NotPacked> {
        match name {
            "tensor" => Ok(Granularity::Tensor),
            "channel" => Ok(Granularity::Channel),
            "block" => Ok(Granularity::Block),
            _ => name.strip_prefix('g').and_then(|g| g.parse().ok()).map(Granularity::Group).ok_or(NotPacked),
        }
    }
}
