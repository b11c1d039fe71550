//! Sums, products and the like of two or more values, stretched to a common shape.

use super::{Cx, Done, Refusal, Translate};
use graph::Op;
use graph::ops::{Add, Binary, Mul};

pub(super) fn find(op: &str) -> Option<Translate> {
    Some(match op {
        "Add" | "Sum" => |cx| fold(cx, Add),
        "Mul" => |cx| fold(cx, Mul),
        "Max" => |cx| fold(cx, Binary::Max),
        "Min" => |cx| fold(cx, Binary::Min),
        "Sub" => |cx| fold(cx, Binary::Sub),
        "Div" => |cx| fold(cx, Binary::Div),
        "Pow" => |cx| fold(cx, Binary::Pow),
        "PRelu" => prelu,
        _ => return None,
    })
}

/// From left to right, for operators that take any number.
fn fold(cx: &mut Cx<'_, '_>, op: impl Into<Op>) -> Done {
    let (op, values) = (op.into(), cx.values()?);
    match values[..] {
        [] => Err("it has no inputs".into()),
        [one] => cx.alias(super::super::translate::Item::Value(one)),
        [first, ref rest @ ..] => {
            let last = rest.iter().try_fold(first, |sum, next| cx.push(op.clone(), &[sum, *next]))?;
            cx.done(&[last])
        }
    }
}

fn prelu(cx: &mut Cx<'_, '_>) -> Done {
    let (x, slope) = (cx.value(0)?, cx.value(1)?);
    let shape = cx.shape(x)?;
    let value = cx.push(Binary::Slope, &[x, slope])?;
    match cx.shape(value)? == shape {
        true => cx.done(&[value]),
        false => Err(Refusal("its slopes are larger than its input".into())),
    }
}
