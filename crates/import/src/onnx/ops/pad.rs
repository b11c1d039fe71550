//! Pad: attributes before version 11, inputs since.

use super::{Cx, Done, Refusal, Translate};
use graph::ops::{Pad, PadKind};

pub(super) fn find(op: &str) -> Option<Translate> {
    (op == "Pad").then_some(pad as Translate)
}

fn pad(cx: &mut Cx<'_, '_>) -> Done {
    let x = cx.value(0)?;
    let rank = cx.shape(x)?.len();
    let (given, constant) = match cx.list("pads") {
        Some(pads) => (pads.to_vec(), cx.float("value", 0.0)),
        None => (cx.ints(1)?, if cx.has(2) { cx.real(2)? as f32 } else { 0.0 }),
    };
    let axes = match cx.has(3) {
        true => cx.ints(3)?.into_iter().map(|a| cx.axis(a, rank)).collect::<Result<Vec<_>, _>>()?,
        false => (0..rank).collect(),
    };
    if given.len() != 2 * axes.len() {
        return Err(Refusal(format!("{} pads for {} axes", given.len(), axes.len())));
    }
    let mut pads = vec![[0, 0]; rank];
    for (n, axis) in axes.iter().enumerate() {
        let one = |n: i64| usize::try_from(n).map_err(|_| Refusal("it crops".into()));
        pads[*axis] = [one(given[n])?, one(given[n + axes.len()])?];
    }
    let kind = match cx.text("mode", "constant") {
        "constant" => PadKind::Constant(constant),
        "reflect" => PadKind::Reflect,
        "edge" => PadKind::Edge,
        other => return Err(Refusal(format!("its mode is `{other}`"))),
    };
    cx.only(Pad { kind, pads }, &[x])
}
