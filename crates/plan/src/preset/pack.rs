//! One compressed-tensors format for every linear layer; embeddings, the output head, norms and routers stay as they are.
//!
//! Names follow vLLM's: `w4a16` has weights of four bits and activations of sixteen.

use codec::packed::{Bits, Granularity, ScaleType};
use codec::{Dtype, Encoding, Packed};
use graph::{InputQuant, Role, Weight};

/// A compressed-tensors format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pack {
    /// Eight-bit integers, a scale per row, packed.
    W8A16,
    /// Eight-bit integers, a scale per row, plain bytes.
    Int8,
    /// The same, and inputs in eight bits under a scale per token.
    W8A8,
    /// The same, and inputs in eight bits under one calibrated scale.
    W8A8Static,
    /// E4M3 floats, a scale per row.
    Fp8,
    /// The same, and inputs in E4M3 under a scale per token.
    Fp8Dynamic,
    /// E4M3 floats, a scale per row, and inputs in E4M3 under one calibrated scale.
    Fp8Static,
    /// E4M3 floats, a scale per 128 × 128; inputs in E4M3, a scale per 128.
    Fp8Block,
    /// Four-bit integers, a scale per 128.
    W4A16,
    /// Four-bit integers, a scale per 32.
    W4A16G32,
    /// Four-bit integers, a scale and a zero point per 128.
    W4A16Asym,
    /// NVIDIA's four-bit floats.
    Nvfp4,
    /// The same, and inputs in them under one calibrated factor.
    Nvfp4A4,
    /// OCP's four-bit floats.
    Mxfp4,
}

impl Pack {
    /// Every one, larger ones first.
    pub const ALL: [Pack; 14] = [
        Pack::W8A16,
        Pack::Int8,
        Pack::W8A8,
        Pack::W8A8Static,
        Pack::Fp8,
        Pack::Fp8Dynamic,
        Pack::Fp8Static,
        Pack::Fp8Block,
        Pack::W4A16G32,
        Pack::W4A16Asym,
        Pack::W4A16,
        Pack::Nvfp4,
        Pack::Nvfp4A4,
        Pack::Mxfp4,
    ];

    /// The name.
    pub const fn name(self) -> &'static str {
        match self {
            Pack::W8A16 => "w8a16",
            Pack::Int8 => "int8",
            Pack::W8A8 => "w8a8",
            Pack::Fp8 => "fp8",
            Pack::Fp8Dynamic => "fp8-dynamic",
            Pack::W8A8Static => "w8a8-static",
            Pack::Fp8Static => "fp8-static",
            Pack::Fp8Block => "fp8-block",
            Pack::W4A16G32 => "w4a16-g32",
            Pack::W4A16 => "w4a16",
            Pack::W4A16Asym => "w4a16-asym",
            Pack::Nvfp4 => "nvfp4",
            Pack::Nvfp4A4 => "nvfp4-a4",
            Pack::Mxfp4 => "mxfp4",
        }
    }

    /// The encoding of a weight: its own unless it is a linear layer's matrix whose rows fit.
    pub fn encoding(self, weight: &Weight) -> Encoding {
        let packed = if is_linear(weight) { self.packed(weight) } else { None };
        packed.map_or(weight.encoding, Encoding::Packed)
    }

    /// How the input of every layer that it packs is quantized when the model runs.
    pub const fn input(self) -> Option<InputQuant> {
        match self {
            Pack::W8A8 => Some(InputQuant::Int8PerToken),
            Pack::Fp8Dynamic => Some(InputQuant::Fp8PerToken),
            Pack::W8A8Static => Some(InputQuant::Int8 { scale: 0.0 }),
            Pack::Fp8Static => Some(InputQuant::Fp8 { scale: 0.0 }),
            Pack::Fp8Block => Some(InputQuant::Fp8Groups),
            Pack::Nvfp4A4 => Some(InputQuant::Nvfp4 { global: 0.0 }),
            _ => None,
        }
    }

    fn packed(self, weight: &Weight) -> Option<Packed> {
        let (scale, per) = (scale_type(weight), Granularity::Channel);
        let group = group_of(weight.cols());
        match self {
            Pack::W8A16 => Some(Packed::Int { bits: EIGHT, symmetric: true, per, scale }),
            Pack::Int8 | Pack::W8A8 | Pack::W8A8Static => Some(Packed::Int8 { per, scale }),
            Pack::Fp8 | Pack::Fp8Dynamic | Pack::Fp8Static => Some(Packed::Fp8 { per, scale }),
            Pack::Fp8Block => Some(Packed::Fp8 { per: Granularity::Block, scale }),
            Pack::W4A16G32 => {
                let per = Granularity::group(32).filter(|_| weight.cols().is_multiple_of(32)).unwrap_or(per);
                Some(Packed::Int { bits: FOUR, symmetric: true, per, scale })
            }
            Pack::W4A16 => Some(Packed::Int { bits: FOUR, symmetric: true, per: group, scale }),
            Pack::W4A16Asym => Some(Packed::Int { bits: FOUR, symmetric: false, per: group, scale }),
            Pack::Nvfp4 | Pack::Nvfp4A4 => weight.cols().is_multiple_of(16).then_some(Packed::Nvfp4),
            Pack::Mxfp4 => weight.cols().is_multiple_of(32).then_some(Packed::Mxfp4),
        }
    }
}

const FOUR: Bits = Bits::new(4).unwrap();
const EIGHT: Bits = Bits::new(8).unwrap();

/// The largest group, of the sizes that servers have kernels for, that divides a row; else the row.
fn group_of(cols: usize) -> Granularity {
    let size = [128, 64, 32].into_iter().find(|size| cols.is_multiple_of(*size as usize));
    size.and_then(Granularity::group).unwrap_or(Granularity::Channel)
}

/// Scales are stored as the weights were.
fn scale_type(weight: &Weight) -> ScaleType {
    match weight.encoding {
        Encoding::Plain(Dtype::F32) => ScaleType::F32,
        Encoding::Plain(Dtype::F16) => ScaleType::F16,
        _ => ScaleType::BF16,
    }
}

/// Whether a weight is the matrix of a linear layer inside the model's body. Where the architecture is unknown, its name
/// has to tell.
fn is_linear(weight: &Weight) -> bool {
    let place = weight.place;
    match place.role {
        _ if weight.shape.len() != 2 || place.bias || place.role.is_norm() => false,
        Role::TokenEmbed | Role::OutputHead | Role::Router => false,
        Role::Other => {
            let name = weight.name.as_str();
            let apart = ["embed", "embd", "head", "norm", "router", "gate.weight", "wte", "wpe"];
            name.ends_with(".weight") && is_float(weight) && !apart.iter().any(|word| name.contains(word))
        }
        _ => true,
    }
}

fn is_float(weight: &Weight) -> bool {
    matches!(weight.encoding, Encoding::Plain(dtype) if dtype.is_float())
}
