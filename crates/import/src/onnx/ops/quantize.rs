//! QuantizeLinear and DequantizeLinear. One behind the other they are a rounding to a grid; a DequantizeLinear of a constant is
//! the weight that its codes stand for.

use super::super::fold::{Known, index};
use super::super::translate::{Fixed, Item, Quantized};
use super::{Cx, Done, Refusal, Translate};
use formats::onnx::DataType;
use graph::ops::FakeQuant;
use graph::{Grid, Levels};

pub(super) fn find(op: &str) -> Option<Translate> {
    match op {
        "QuantizeLinear" => Some(quantize),
        "DequantizeLinear" => Some(dequantize),
        _ => None,
    }
}

fn levels(dtype: DataType) -> Result<Levels, Refusal> {
    Ok(match dtype {
        DataType::Int4 => Levels::I4,
        DataType::Uint4 => Levels::U4,
        DataType::Int8 => Levels::I8,
        DataType::Uint8 => Levels::U8,
        DataType::Int16 => Levels::I16,
        DataType::Uint16 => Levels::U16,
        DataType::Int32 => Levels::I32,
        other => return Err(Refusal(format!("its codes are {other:?}"))),
    })
}

/// Keeps the value under the codes' name until a DequantizeLinear reads it.
fn quantize(cx: &mut Cx<'_, '_>) -> Done {
    let dtype = match cx.item(2) {
        Some(Item::Fixed(zero)) => zero.tensor.dtype().map_err(|e| Refusal(e.to_string()))?,
        Some(_) => return Err("its zero point is no constant".into()),
        None => i32::try_from(cx.int("output_dtype", 2)).ok().and_then(DataType::of).unwrap_or(DataType::Uint8),
    };
    levels(dtype)?;
    let value = cx.value(0)?;
    let name = |n| cx.name_of(n).unwrap_or_default().to_owned();
    let (scale, zero) = (name(1), name(2));
    cx.alias(Item::Quantized(Quantized { value, scale, zero, dtype }))
}

fn dequantize(cx: &mut Cx<'_, '_>) -> Done {
    if cx.int("block_size", 0) != 0 {
        return Err("it has a scale for each block".into());
    }
    match cx.item(0).cloned() {
        Some(Item::Quantized(q)) => round_trip(cx, &q),
        Some(Item::Fixed(fixed)) if fixed.grid.is_none() => constant(cx, *fixed),
        _ => Err("its codes are neither constant nor from a QuantizeLinear".into()),
    }
}

fn round_trip(cx: &mut Cx<'_, '_>, q: &Quantized) -> Done {
    let same = |input: usize, name: &str| {
        let ours = cx.name_of(input).unwrap_or_default();
        ours == name || (cx.t.small(ours).is_some() && cx.t.small(ours) == cx.t.small(name))
    };
    if !same(1, &q.scale) || !same(2, &q.zero) {
        return Err("its scale or zero point is not the QuantizeLinear's".into());
    }
    let shape = cx.shape(q.value)?;
    let (scales, zero) = (cx.fixed_shape(1)?, zeros(cx, 2)?);
    let count = scales.iter().product::<usize>();
    let axis = if count == 1 { None } else { Some(cx.axis(cx.int("axis", 1), shape.len())?) };
    let zero = spread(zero, count)?;
    let (scale, levels) = (cx.weight(1)?, levels(q.dtype)?);
    cx.only(FakeQuant { scale, zero, axis, levels }, &[q.value])
}

fn zeros(cx: &Cx<'_, '_>, input: usize) -> Result<Vec<i64>, Refusal> {
    if cx.has(input) { cx.ints(input) } else { Ok(vec![0]) }
}

/// One for each scale.
fn spread(zeros: Vec<i64>, count: usize) -> Result<Vec<i32>, Refusal> {
    let zeros = if zeros.len() == 1 { vec![zeros[0]; count] } else { zeros };
    let all = zeros.iter().map(|z| i32::try_from(*z).ok()).collect::<Option<Vec<_>>>();
    all.filter(|z| z.len() == count).ok_or_else(|| "its zero points do not fit its scales".into())
}

/// A constant that is stored as codes.
fn constant(cx: &mut Cx<'_, '_>, fixed: Fixed) -> Done {
    let shape = fixed.tensor.shape().map_err(|e| Refusal(e.to_string()))?;
    let levels = levels(fixed.tensor.dtype().map_err(|e| Refusal(e.to_string()))?)?;
    let scales: Known = cx.known(1)?;
    let scale: Vec<f32> = scales.reals()?.into_iter().map(|s| s as f32).collect();
    let axis = match scale.len() {
        1 => None,
        count => {
            let axis = index(cx.int("axis", 1), shape.len()).filter(|a| shape.get(*a) == Some(&count));
            Some(axis.ok_or("its scales do not fit its axis")?)
        }
    };
    let zero = spread(zeros(cx, 2)?, scale.len())?;
    let grid = Some(Grid { scale, zero, axis, levels });
    let name = cx.node.output.first().cloned().unwrap_or_default();
    cx.alias(Item::Fixed(Box::new(Fixed { name, grid, ..fixed })))
}
