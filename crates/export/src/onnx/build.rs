//! Small parts of ONNX messages.

use formats::onnx::DataType;
use formats::onnx::proto::{AttributeProto, NodeProto, TensorProto};

/// A node of ONNX's own operators.
pub(super) fn node(
    op: &str,
    name: &str,
    inputs: &[String],
    outputs: &[String],
    attribute: Vec<AttributeProto>,
) -> NodeProto {
    NodeProto {
        op_type: Some(op.to_owned()),
        name: (!name.is_empty()).then(|| name.to_owned()),
        input: inputs.to_vec(),
        output: outputs.to_vec(),
        attribute,
        ..NodeProto::default()
    }
}

fn attribute(name: &str, kind: i32) -> AttributeProto {
    AttributeProto { name: Some(name.to_owned()), r#type: Some(kind), ..AttributeProto::default() }
}

pub(super) fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { i: Some(i), ..attribute(name, 2) }
}

pub(super) fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto { f: Some(f), ..attribute(name, 1) }
}

pub(super) fn text(name: &str, s: &str) -> AttributeProto {
    AttributeProto { s: Some(s.as_bytes().to_vec()), ..attribute(name, 3) }
}

pub(super) fn ints(name: &str, list: impl IntoIterator<Item = usize>) -> AttributeProto {
    AttributeProto { ints: list.into_iter().map(|n| n as i64).collect(), ..attribute(name, 7) }
}

pub(super) fn floats(name: &str, list: Vec<f32>) -> AttributeProto {
    AttributeProto { floats: list, ..attribute(name, 6) }
}

/// A tensor from its bytes.
pub(super) fn tensor(name: &str, dtype: DataType, dims: &[usize], bytes: Vec<u8>) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        data_type: Some(dtype as i32),
        dims: dims.iter().map(|d| *d as i64).collect(),
        raw_data: Some(bytes.into()),
        ..TensorProto::default()
    }
}

pub(super) fn int64s(name: &str, dims: &[usize], list: &[i64]) -> TensorProto {
    tensor(name, DataType::Int64, dims, list.iter().flat_map(|n| n.to_le_bytes()).collect())
}

pub(super) fn f32s(name: &str, dims: &[usize], list: &[f32]) -> TensorProto {
    tensor(name, DataType::Float, dims, list.iter().flat_map(|x| x.to_le_bytes()).collect())
}
