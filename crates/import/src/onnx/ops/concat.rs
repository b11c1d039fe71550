//! Concat and Split.

use super::{Cx, Done, Refusal, Translate};
use graph::ops::{Concat, Split};

pub(super) fn find(op: &str) -> Option<Translate> {
    match op {
        "Concat" => Some(concat),
        "Split" => Some(split),
        _ => None,
    }
}

fn concat(cx: &mut Cx<'_, '_>) -> Done {
    let values = cx.values()?;
    let first = *values.first().ok_or("it has no inputs")?;
    let axis = cx.axis(cx.int("axis", 1), cx.shape(first)?.len())?;
    cx.only(Concat { axis }, &values)
}

/// Sizes are an attribute before version 13, an input since; without them the parts are equal, the last one may be smaller.
fn split(cx: &mut Cx<'_, '_>) -> Done {
    let x = cx.value(0)?;
    let shape = cx.shape(x)?;
    let axis = cx.axis(cx.int("axis", 0), shape.len())?;
    let length = shape[axis].fixed().ok_or("it splits the batch")?;
    let sizes = match (cx.list("split"), cx.has(1)) {
        (Some(sizes), _) => Some(sizes.to_vec()),
        (None, true) => Some(cx.ints(1)?),
        (None, false) => None,
    };
    let widths = match sizes {
        Some(sizes) => {
            let widths = sizes.iter().map(|n| usize::try_from(*n).ok()).collect::<Option<Vec<_>>>();
            widths.ok_or_else(|| Refusal(format!("its sizes are {sizes:?}")))?
        }
        None => {
            let parts = cx.node.output.len().max(1);
            let each = length.div_ceil(parts);
            (0..parts).map(|n| each.min(length.saturating_sub(n * each))).collect()
        }
    };
    if widths.contains(&0) {
        return Err("it makes an empty part".into());
    }
    let values = cx.push_all(Split { axis, widths }, &[x])?;
    cx.done(&values)
}
