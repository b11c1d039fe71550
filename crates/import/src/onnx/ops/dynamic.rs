//! DynamicQuantizeLinear, and the products of integers behind it, as onnxruntime's dynamic quantizer writes them.
//!
//! `(Σ (q_x − z_x) · q_w) · (s_x · s_w)`: the graph has the rounded number `(q_x − z_x) · s_x` in the place of its codes, and one in the place of
//! their scale. That computes the same wherever codes are only multiplied, and scales only multiply what comes of it, so anything
//! else that reads them makes the node opaque.

use super::super::fold::{Elem, Known};
use super::super::translate::Item;
use super::conv::convolution;
use super::{Cx, Done, Refusal, Translate};
use formats::onnx::{DataType, captured};
use graph::ops::{DynamicQuant, Linear};
use graph::{Grid, Levels, Op};

pub(super) fn find(op: &str) -> Option<Translate> {
    match op {
        "DynamicQuantizeLinear" => Some(quantize),
        "MatMulInteger" => Some(matmul),
        "ConvInteger" => Some(conv),
        _ => None,
    }
}

fn quantize(cx: &mut Cx<'_, '_>) -> Done {
    const PRODUCTS: &[&str] = &["MatMulInteger", "ConvInteger"];
    for (output, readers) in [(0, PRODUCTS), (1, &["Mul"]), (2, PRODUCTS)] {
        only_read_by(cx, output, readers)?;
    }
    let x = cx.value(0)?;
    let value = cx.push(DynamicQuant, &[x])?;
    if let Some(scale) = cx.node.output.get(1) {
        let one = Known { shape: vec![], data: vec![Elem::Real(1.0)] };
        cx.t.items.insert(scale.clone(), Item::Known(one));
    }
    cx.done(&[value])
}

/// Whether nothing but these operators reads an output.
fn only_read_by(cx: &Cx<'_, '_>, output: usize, operators: &[&str]) -> Done {
    let Some(name) = cx.node.output.get(output).filter(|n| !n.is_empty()) else { return Ok(()) };
    let graph = cx.t.file.graph();
    let shown = graph.output.iter().any(|v| v.name.as_deref() == Some(name));
    let other = graph.node.iter().find(|node| {
        let read = node.input.contains(name) && !operators.contains(&node.op_type.as_deref().unwrap_or_default());
        read || captured(node).contains(&name.as_str())
    });
    match (shown, other) {
        (false, None) => Ok(()),
        _ => Err(Refusal(format!("`{name}` is read by more than {}", operators.join(" and ")))),
    }
}

/// Checks that a product reads codes as they were made, and gives its weight its grid.
fn codes(cx: &mut Cx<'_, '_>) -> Done {
    only_read_by(cx, 0, &["Cast"])?;
    let x = cx.value(0)?;
    let made = cx.t.graph.maker(x).map(|at| &cx.t.graph.nodes()[at].op);
    if !matches!(made, Some(Op::DynamicQuant(_))) {
        return Err("its codes are not from a DynamicQuantizeLinear".into());
    }
    let zero = cx.t.file.graph().node.iter().find(|n| n.output.first().map(String::as_str) == cx.name_of(0));
    if zero.and_then(|n| n.output.get(2)).map(String::as_str) != cx.name_of(2) {
        return Err("its zero point is not that of its codes".into());
    }
    let zero = if cx.has(3) { cx.ints(3)? } else { vec![0] };
    let ([zero], Some(Item::Fixed(fixed))) = (&zero[..], cx.item(1)) else {
        return Err("its weight is no constant with one zero point".into());
    };
    let zero = i32::try_from(*zero).map_err(|_| "its zero point is no code")?;
    let levels = match fixed.tensor.dtype() {
        Ok(DataType::Int8) => Levels::I8,
        Ok(DataType::Uint8) => Levels::U8,
        _ => return Err("the codes of its weight are not of 8 bits".into()),
    };
    let mut fixed = fixed.clone();
    fixed.grid = Some(Grid { scale: vec![1.0], zero: vec![zero], axis: None, levels });
    if let Some(name) = cx.name_of(1) {
        cx.t.items.insert(name.to_owned(), Item::Fixed(fixed));
    }
    Ok(())
}

fn matmul(cx: &mut Cx<'_, '_>) -> Done {
    codes(cx)?;
    let x = cx.value(0)?;
    let weight = cx.weight_transposed(1)?;
    cx.only(Linear { weight, bias: None }, &[x])
}

fn conv(cx: &mut Cx<'_, '_>) -> Done {
    codes(cx)?;
    convolution(cx, |_, _| Ok(None))
}
