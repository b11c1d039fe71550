//! Slice, and Gather by constant indices or of a constant table.

use super::super::fold::{index, picked};
use super::{Cx, Done, Refusal, Translate};
use graph::Kind;
use graph::ops::{Embedding, Pick, Reshape, Select};

pub(super) fn find(op: &str) -> Option<Translate> {
    match op {
        "Slice" => Some(slice),
        "Gather" => Some(gather),
        _ => None,
    }
}

/// Starts, ends and axes are attributes before version 10, inputs since.
fn slice(cx: &mut Cx<'_, '_>) -> Done {
    let x = cx.value(0)?;
    let shape = cx.shape(x)?;
    let given = |name, input| match cx.list(name) {
        Some(list) => Ok(Some(list.to_vec())),
        None if cx.has(input) => cx.ints(input).map(Some),
        None => Ok(None),
    };
    let (starts, ends) = (given("starts", 1)?.ok_or("it has no starts")?, given("ends", 2)?.ok_or("it has no ends")?);
    let axes = given("axes", 3)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = given("steps", 4)?.unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
        return Err("starts, ends, axes and steps are not as many".into());
    }
    let mut picks = Vec::new();
    for n in 0..starts.len() {
        let axis = cx.axis(axes[n], shape.len())?;
        match shape[axis].fixed() {
            None if (starts[n], ends[n], steps[n]) == (0, i64::MAX, 1) => {}
            None => return Err("it slices the batch".into()),
            Some(length) => {
                let indices = picked(length, starts[n], ends[n], steps[n]).ok_or("its step is zero")?;
                picks.push(Pick { axis, indices });
            }
        }
    }
    if picks.iter().any(|p| p.indices.is_empty()) {
        return Err("nothing is left of an axis".into());
    }
    cx.only(Select { picks }, &[x])
}

fn gather(cx: &mut Cx<'_, '_>) -> Done {
    if cx.is_fixed(0) && cx.known(1).is_err() && cx.int("axis", 0) == 0 {
        let indices = cx.value(1)?;
        if cx.t.graph.values()[indices.0].kind == Kind::Index {
            let weight = cx.weight(0)?;
            return cx.only(Embedding { weight }, &[indices]);
        }
    }
    let x = cx.value(0)?;
    let shape = cx.shape(x)?;
    let axis = cx.axis(cx.int("axis", 0), shape.len())?;
    let at = cx.known(1)?;
    let length = shape[axis].fixed().ok_or("it picks from the batch")?;
    let indices = at.ints()?.into_iter().map(|i| index(i, length)).collect::<Option<Vec<_>>>();
    let indices = indices.filter(|i| !i.is_empty()).ok_or_else(|| Refusal("its indices are impossible".into()))?;
    let picked = cx.push(Select { picks: vec![Pick { axis, indices }] }, &[x])?;
    if at.shape.len() == 1 {
        return cx.done(&[picked]);
    }
    let around = at.shape.iter().map(|n| graph::Dim::Fixed(*n));
    let shape = shape[..axis].iter().copied().chain(around).chain(shape[axis + 1..].iter().copied()).collect();
    cx.only(Reshape { shape }, &[picked])
}
