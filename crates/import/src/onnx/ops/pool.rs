//! Pools: over windows, and over the whole plane (a reduction).

use super::window::windows;
use super::{Cx, Done, Translate};
use graph::ops::{Pool, PoolKind, Reduce, ReduceKind};

pub(super) fn find(op: &str) -> Option<Translate> {
    Some(match op {
        "MaxPool" => |cx| pool(cx, PoolKind::Max),
        "AveragePool" => |cx| pool(cx, PoolKind::Average { count_padding: cx.int("count_include_pad", 0) != 0 }),
        "GlobalAveragePool" => |cx| global(cx, ReduceKind::Mean),
        "GlobalMaxPool" => |cx| global(cx, ReduceKind::Max),
        _ => return None,
    })
}

fn pool(cx: &mut Cx<'_, '_>, kind: PoolKind) -> Done {
    if cx.is_read(1) {
        return Err("the positions of its maxima are read".into());
    }
    let x = cx.value(0)?;
    let window = windows(cx, &cx.shape(x)?, None)?;
    let ceil = cx.int("ceil_mode", 0) != 0;
    cx.only(Pool { kind, window, ceil }, &[x])
}

fn global(cx: &mut Cx<'_, '_>, kind: ReduceKind) -> Done {
    let x = cx.value(0)?;
    let axes = (2..cx.shape(x)?.len()).collect();
    cx.only(Reduce { kind, axes, keep: true }, &[x])
}
