//! Softmax and LogSoftmax. Before version 13 all axes from `axis` on were one.

use super::{Cx, Done, Translate};
use graph::Dim;
use graph::ops::Softmax;

pub(super) fn find(op: &str) -> Option<Translate> {
    Some(match op {
        "Softmax" => |cx| softmax(cx, false),
        "LogSoftmax" => |cx| softmax(cx, true),
        _ => return None,
    })
}

fn softmax(cx: &mut Cx<'_, '_>, log: bool) -> Done {
    let x = cx.value(0)?;
    let shape = cx.shape(x)?;
    let old = cx.opset() < 13;
    let axis = cx.axis(cx.int("axis", if old { 1 } else { -1 }), shape.len())?;
    if old && shape[axis + 1..].iter().any(|d| *d != Dim::Fixed(1)) {
        return Err("it sums over several axes, as before version 13".into());
    }
    cx.only(Softmax { axis, log }, &[x])
}
