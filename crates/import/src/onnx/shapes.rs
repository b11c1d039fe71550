//! Types of values as a file declares them, as far as the graph can say the same.

use formats::onnx::DataType;
use formats::onnx::proto::{DimensionValue, TypeProto, TypeValue, ValueInfoProto};
use graph::{Dim, Kind, Shape};

/// What the first axis of an input is called where its length is open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct BatchName(pub Option<String>);

fn kind(element: i32) -> Kind {
    match DataType::of(element) {
        Some(dtype) if dtype.is_float() => Kind::Float,
        Some(dtype) if dtype.is_integer() => Kind::Index,
        _ => Kind::Unknown,
    }
}

/// The type of a graph input. The batch may be open, other axes may not.
pub(super) fn input(value: &ValueInfoProto, batch: &mut BatchName) -> Result<(Kind, Shape), String> {
    let name = value.name.as_deref().unwrap_or_default();
    let Some((element, dims)) = tensor(value.r#type.as_ref()) else {
        return Err(format!("input `{name}` is no tensor of known rank"));
    };
    let mut shape = Shape::new();
    for (axis, dim) in dims.into_iter().enumerate() {
        shape.push(match dim {
            Declared::Length(n) => Dim::Fixed(n),
            Declared::Zero => return Err(format!("input `{name}`: axis {axis} has length zero")),
            Declared::Name(name) if batch.0.as_deref() == Some(&name) => Dim::Batch,
            Declared::Name(name) if axis == 0 && batch.0.is_none() => {
                batch.0 = Some(name);
                Dim::Batch
            }
            Declared::Open if axis == 0 => Dim::Batch,
            Declared::Name(what) => return Err(open(name, axis, &what)),
            Declared::Open => return Err(open(name, axis, "?")),
        });
    }
    Ok((kind(element), shape))
}

fn open(name: &str, axis: usize, what: &str) -> String {
    format!(
        "input `{name}`: the length of axis {axis} (`{what}`) is open, and only the batch may be; fix it when exporting the model"
    )
}

/// The type that a file declares for a value; unknown where it leaves more open than the batch.
pub(super) fn declared(value: Option<&ValueInfoProto>, batch: &BatchName) -> (Kind, Shape) {
    const UNKNOWN: (Kind, Shape) = (Kind::Unknown, Shape::new());
    let Some((element, dims)) = value.and_then(|v| tensor(v.r#type.as_ref())) else { return UNKNOWN };
    let dim = |dim: Declared| match dim {
        Declared::Length(n) => Some(Dim::Fixed(n)),
        Declared::Name(name) if batch.0 == Some(name.clone()) => Some(Dim::Batch),
        Declared::Zero | Declared::Name(_) | Declared::Open => None,
    };
    match dims.into_iter().map(dim).collect::<Option<Shape>>() {
        Some(shape) if kind(element) != Kind::Unknown => (kind(element), shape),
        _ => UNKNOWN,
    }
}

enum Declared {
    Length(usize),
    Zero,
    Name(String),
    Open,
}

fn tensor(value: Option<&TypeProto>) -> Option<(i32, Vec<Declared>)> {
    let Some(TypeValue::Tensor(tensor)) = &value?.value else { return None };
    let dim = |value: &Option<DimensionValue>| match value {
        Some(DimensionValue::Value(n @ 1..)) => usize::try_from(*n).map_or(Declared::Open, Declared::Length),
        Some(DimensionValue::Value(0)) => Declared::Zero,
        Some(DimensionValue::Param(name)) if !name.is_empty() => Declared::Name(name.clone()),
        _ => Declared::Open,
    };
    let dims = tensor.shape.as_ref()?.dim.iter().map(|d| dim(&d.value)).collect();
    Some((tensor.elem_type.unwrap_or_default(), dims))
}
