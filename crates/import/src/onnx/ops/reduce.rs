//! ReduceMean, ReduceSum, ReduceMax, ReduceMin. Axes are an attribute at first, an input since version 13 (sums) or 18.

use super::{Cx, Done, Translate};
use graph::ops::{Reduce, ReduceKind};

pub(super) fn find(op: &str) -> Option<Translate> {
    Some(match op {
        "ReduceMean" => |cx| reduce(cx, ReduceKind::Mean),
        "ReduceSum" => |cx| reduce(cx, ReduceKind::Sum),
        "ReduceMax" => |cx| reduce(cx, ReduceKind::Max),
        "ReduceMin" => |cx| reduce(cx, ReduceKind::Min),
        _ => return None,
    })
}

fn reduce(cx: &mut Cx<'_, '_>, kind: ReduceKind) -> Done {
    let x = cx.value(0)?;
    let rank = cx.shape(x)?.len();
    let given = match (cx.list("axes"), cx.has(1)) {
        (Some(axes), _) => axes.to_vec(),
        (None, true) => cx.ints(1)?,
        (None, false) => vec![],
    };
    if given.is_empty() && cx.int("noop_with_empty_axes", 0) != 0 {
        return cx.alias(super::super::translate::Item::Value(x));
    }
    let all = (0..rank as i64).collect();
    let given = if given.is_empty() { all } else { given };
    let mut axes = given.into_iter().map(|a| cx.axis(a, rank)).collect::<Result<Vec<_>, _>>()?;
    axes.sort_unstable();
    axes.dedup();
    cx.only(Reduce { kind, axes, keep: cx.int("keepdims", 1) != 0 }, &[x])
}
