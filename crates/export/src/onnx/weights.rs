//! Weights as tensors of a file: in the type and layout that the file had them in, or as codes.

use super::build::{f32s, tensor};
use crate::ExportError;
use codec::{Dtype, Encoding, Matrix};
use formats::onnx::DataType;
use formats::onnx::proto::TensorProto;
use graph::{Grid, Levels, Weight};
use import::onnx::{Home, Network, Stored};

/// The numbers of a weight in the order, and the shape, that the file has them in.
fn laid_out(weight: &Weight, stored: Option<&Stored>) -> Result<(Vec<f32>, Vec<usize>), ExportError> {
    let (numbers, shape) = (weight.read()?, weight.shape.clone());
    let Some(stored) = stored else { return Ok((numbers, shape)) };
    if let ([rows, cols], true) = (&shape[..], stored.transposed) {
        let turned = (0..*cols).flat_map(|c| (0..*rows).map(move |r| (r, c)));
        return Ok((turned.map(|(r, c)| numbers[r * cols + c]).collect(), vec![*cols, *rows]));
    }
    let leading = stored.dims.len().saturating_sub(shape.len());
    Ok((numbers, [vec![1; leading], shape].concat()))
}

/// The type that the file had a weight in; f32 for new ones and for what was codes.
fn original(network: &Network, stored: Option<&Stored>) -> DataType {
    let graph = network.file.graph();
    let tensor = match stored.map(|s| &s.home) {
        Some(Home::Initializer(name)) => graph.initializer.iter().find(|t| t.label() == name),
        Some(Home::Node(at)) => graph.node.get(*at).and_then(|n| n.attribute.iter().find_map(|a| a.t.as_deref())),
        None => None,
    };
    tensor.and_then(|t| t.dtype().ok()).filter(|t| t.is_float()).unwrap_or(DataType::Float)
}

/// A weight as a tensor of numbers.
pub(super) fn plain(
    name: &str,
    weight: &Weight,
    network: &Network,
    stored: Option<&Stored>,
) -> Result<TensorProto, ExportError> {
    let (numbers, dims) = laid_out(weight, stored)?;
    let dtype = original(network, stored);
    let into = match dtype {
        DataType::Float16 => Dtype::F16,
        DataType::Bfloat16 => Dtype::BF16,
        DataType::Double => Dtype::F64,
        _ => return Ok(f32s(name, &dims, &numbers)),
    };
    let matrix = Matrix { rows: 1, cols: numbers.len(), data: &numbers };
    let parts = Encoding::Plain(into).encode(matrix, None);
    let parts = parts.map_err(|source| graph::SourceError::Codec { name: name.into(), source })?;
    Ok(tensor(name, dtype, &dims, parts.into_iter().next().map(|p| p.bytes).unwrap_or_default()))
}

/// A weight on a grid: its codes, scales and zero points, and the axis that these follow.
pub(super) struct Codes {
    pub codes: TensorProto,
    pub scale: TensorProto,
    pub zero: Option<TensorProto>,
    pub axis: Option<usize>,
}

/// The element type of a grid's codes.
pub(super) fn code_type(levels: Levels) -> DataType {
    match levels {
        Levels::I4 => DataType::Int4,
        Levels::U4 => DataType::Uint4,
        Levels::I8 => DataType::Int8,
        Levels::U8 => DataType::Uint8,
        Levels::I16 => DataType::Int16,
        Levels::U16 => DataType::Uint16,
        Levels::I32 => DataType::Int32,
    }
}

/// Codes as bytes; 4-bit ones two to a byte, the first one low.
fn pack(levels: Levels, codes: &[i64]) -> Vec<u8> {
    match levels.bits() {
        4 => codes.chunks(2).map(|c| (c[0] & 15) as u8 | ((c.get(1).copied().unwrap_or(0) & 15) as u8) << 4).collect(),
        8 => codes.iter().map(|c| *c as u8).collect(),
        16 => codes.iter().flat_map(|c| (*c as u16).to_le_bytes()).collect(),
        _ => codes.iter().flat_map(|c| (*c as i32).to_le_bytes()).collect(),
    }
}

/// Zero points of a grid as a tensor; int32 codes have none. Where all are the same the tensor is called after what it holds, so that
/// it is stored once: in small networks names and constants are a tenth of the file.
pub(super) fn zeros(name: &str, levels: Levels, zero: &[i32], dims: &[usize]) -> Option<TensorProto> {
    let codes: Vec<i64> = zero.iter().map(|z| i64::from(*z)).collect();
    let kind = code_type(levels);
    let name = match zero {
        [first, rest @ ..] if rest.iter().all(|z| z == first) => {
            let lengths: String = dims.iter().map(|n| format!("_x{n}")).collect();
            format!("zero_{kind:?}_{first}{lengths}").to_lowercase()
        }
        _ => name.to_owned(),
    };
    (levels != Levels::I32).then(|| tensor(&name, kind, dims, pack(levels, &codes)))
}

/// A weight as codes under names made of its own.
pub(super) fn codes(name: &str, weight: &Weight, grid: &Grid, stored: Option<&Stored>) -> Result<Codes, ExportError> {
    let (numbers, dims) = laid_out(weight, stored)?;
    let turned = stored.is_some_and(|s| s.transposed);
    let leading = dims.len() - weight.shape.len();
    let axis = grid.axis.map(|axis| if turned { 1 - axis.min(1) } else { axis + leading });
    let inner: usize = axis.map_or(1, |axis| dims[axis + 1..].iter().product());
    let count = grid.scale.len().max(1);
    let all: Vec<i64> = numbers.iter().enumerate().map(|(i, x)| grid.code(*x, i / inner.max(1) % count)).collect();
    let shape = if axis.is_some() { vec![count] } else { vec![] };
    Ok(Codes {
        codes: tensor(&format!("{name}_q"), code_type(grid.levels), &dims, pack(grid.levels, &all)),
        scale: f32s(&format!("{name}_scale"), &shape, &grid.scale),
        zero: zeros(&format!("{name}_zero_point"), grid.levels, &grid.zero, &shape),
        axis,
    })
}
