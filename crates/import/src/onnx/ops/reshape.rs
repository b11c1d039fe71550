//! Operators that only move numbers: Reshape, Flatten, Squeeze, Unsqueeze, Transpose, Expand, DepthToSpace, SpaceToDepth.

use super::super::fold::Elem;
use super::{Cx, Done, Refusal, Translate};
use graph::ops::{Expand, Reshape, Transpose};
use graph::{Dim, Shape, ValueId};

pub(super) fn find(op: &str) -> Option<Translate> {
    Some(match op {
        "Reshape" => reshape,
        "Flatten" => flatten,
        "Squeeze" => squeeze,
        "Unsqueeze" => unsqueeze,
        "Transpose" => transpose,
        "Expand" => expand,
        "DepthToSpace" => depth_to_space,
        "SpaceToDepth" => space_to_depth,
        _ => return None,
    })
}

/// Product of the fixed axes, and whether the batch is among them.
fn measure(shape: &[Dim]) -> Result<(usize, bool), Refusal> {
    let fixed = shape.iter().filter_map(|d| d.fixed()).try_fold(1usize, |n, d| n.checked_mul(d));
    Ok((fixed.ok_or("its shape is too large")?, shape.contains(&Dim::Batch)))
}

fn reshape(cx: &mut Cx<'_, '_>) -> Done {
    let x = cx.value(0)?;
    let old = cx.shape(x)?;
    let target = cx.known(1)?.data;
    let zero_is_zero = cx.int("allowzero", 0) != 0;
    let mut shape: Vec<Option<Dim>> = Vec::new();
    for (axis, elem) in target.iter().enumerate() {
        shape.push(match elem {
            Elem::Batch => Some(Dim::Batch),
            Elem::Int(0) if !zero_is_zero => Some(*old.get(axis).ok_or("a zero copies an axis that is not there")?),
            Elem::Int(-1) => None,
            Elem::Int(n @ 1..) => {
                Some(Dim::Fixed(usize::try_from(*n).map_err(|_| Refusal::from("its shape is too large"))?))
            }
            other => return Err(Refusal(format!("its shape holds {other:?}"))),
        });
    }
    let shape = infer(&old, shape)?;
    cx.only(Reshape { shape }, &[x])
}

/// Works the one missing axis out.
fn infer(old: &[Dim], shape: Vec<Option<Dim>>) -> Result<Shape, Refusal> {
    let given: Shape = shape.iter().filter_map(|d| *d).collect();
    let ((all, batch), (rest, batched)) = (measure(old)?, measure(&given)?);
    let missing = match (batch, batched) {
        (true, false) if all == rest => Dim::Batch,
        (true, false) => return Err("it joins the batch with other axes".into()),
        _ => Dim::Fixed(all.checked_div(rest).unwrap_or_default()),
    };
    if shape.iter().filter(|d| d.is_none()).count() > 1 {
        return Err("it leaves two axes open".into());
    }
    Ok(shape.into_iter().map(|d| d.unwrap_or(missing)).collect())
}

fn flatten(cx: &mut Cx<'_, '_>) -> Done {
    let x = cx.value(0)?;
    let old = cx.shape(x)?;
    let axis = match cx.int("axis", 1) {
        axis if axis == old.len() as i64 => old.len(),
        axis => cx.axis(axis, old.len())?,
    };
    let side = |dims: &[Dim]| match measure(dims)? {
        (1, true) => Ok(Dim::Batch),
        (_, true) => Err(Refusal::from("it joins the batch with other axes")),
        (n, false) => Ok(Dim::Fixed(n)),
    };
    let shape = vec![side(&old[..axis])?, side(&old[axis..])?];
    cx.only(Reshape { shape }, &[x])
}

/// Axes: an attribute before version 13, an input since.
fn axes(cx: &Cx<'_, '_>, rank: usize) -> Result<Option<Vec<usize>>, Refusal> {
    let given = match (cx.list("axes"), cx.has(1)) {
        (Some(axes), _) => axes.to_vec(),
        (None, true) => cx.ints(1)?,
        (None, false) => return Ok(None),
    };
    given.into_iter().map(|a| cx.axis(a, rank)).collect::<Result<Vec<_>, _>>().map(Some)
}

fn squeeze(cx: &mut Cx<'_, '_>) -> Done {
    let x = cx.value(0)?;
    let old = cx.shape(x)?;
    let axes = axes(cx, old.len())?;
    let gone = |axis: usize| axes.as_ref().map_or(old[axis] == Dim::Fixed(1), |axes| axes.contains(&axis));
    let shape = (0..old.len()).filter(|axis| !gone(*axis)).map(|axis| old[axis]).collect();
    cx.only(Reshape { shape }, &[x])
}

fn unsqueeze(cx: &mut Cx<'_, '_>) -> Done {
    let x = cx.value(0)?;
    let mut shape = cx.shape(x)?;
    let given = if cx.opset() < 13 { cx.list("axes").unwrap_or_default().len() } else { cx.ints(1)?.len() };
    let mut axes = axes(cx, shape.len() + given)?.ok_or("it has no axes")?;
    axes.sort_unstable();
    for axis in axes {
        if axis > shape.len() {
            return Err("its axes leave a gap".into());
        }
        shape.insert(axis, Dim::Fixed(1));
    }
    cx.only(Reshape { shape }, &[x])
}

fn transpose(cx: &mut Cx<'_, '_>) -> Done {
    let x = cx.value(0)?;
    let rank = cx.shape(x)?.len();
    let order = cx.lengths("perm")?.unwrap_or_else(|| (0..rank).rev().collect());
    cx.only(Transpose { order }, &[x])
}

/// The larger of the two shapes, axis by axis.
fn expand(cx: &mut Cx<'_, '_>) -> Done {
    let x = cx.value(0)?;
    let old = cx.shape(x)?;
    let dim = |elem: &Elem| match elem {
        Elem::Int(n @ 1..) => usize::try_from(*n).map(Dim::Fixed).map_err(|_| Refusal::from("its shape is too large")),
        Elem::Batch => Ok(Dim::Batch),
        other => Err(Refusal(format!("its shape holds {other:?}"))),
    };
    let target = cx.known(1)?.data.iter().map(dim).collect::<Result<Shape, _>>()?;
    let rank = old.len().max(target.len());
    let at = |shape: &[Dim], axis: usize| (axis + shape.len()).checked_sub(rank).map_or(Dim::Fixed(1), |i| shape[i]);
    let larger = |axis| if at(&target, axis) == Dim::Fixed(1) { at(&old, axis) } else { at(&target, axis) };
    cx.only(Expand { shape: (0..rank).map(larger).collect() }, &[x])
}

/// `[batch, channels, height, width]` and the block.
fn plane(cx: &Cx<'_, '_>, x: ValueId) -> Result<(Dim, usize, usize, usize, usize), Refusal> {
    let block = usize::try_from(cx.int("blocksize", 0)).unwrap_or_default();
    match cx.shape(x)?[..] {
        [batch, Dim::Fixed(c), Dim::Fixed(h), Dim::Fixed(w)] if block > 0 && block < 1 << 16 => {
            Ok((batch, c, h, w, block))
        }
        _ => Err("its input is no plane, or its block is impossible".into()),
    }
}

/// Reshape, transpose, reshape: the channels' blocks become rows and columns.
fn depth_to_space(cx: &mut Cx<'_, '_>) -> Done {
    let x = cx.value(0)?;
    let (n, c, h, w, b) = plane(cx, x)?;
    let fixed = |dims: [usize; 5]| [n].into_iter().chain(dims.map(Dim::Fixed)).collect::<Shape>();
    let (split, order) = match cx.text("mode", "DCR") {
        "DCR" => (fixed([b, b, c / (b * b), h, w]), vec![0, 3, 4, 1, 5, 2]),
        _ => (fixed([c / (b * b), b, b, h, w]), vec![0, 1, 4, 2, 5, 3]),
    };
    let shape = [n].into_iter().chain([c / (b * b), h * b, w * b].map(Dim::Fixed)).collect();
    let split = cx.push(Reshape { shape: split }, &[x])?;
    let turned = cx.push(Transpose { order }, &[split])?;
    cx.only(Reshape { shape }, &[turned])
}

fn space_to_depth(cx: &mut Cx<'_, '_>) -> Done {
    let x = cx.value(0)?;
    let (n, c, h, w, b) = plane(cx, x)?;
    let fixed = |dims: &[usize]| [n].into_iter().chain(dims.iter().map(|d| Dim::Fixed(*d))).collect::<Shape>();
    let split = cx.push(Reshape { shape: fixed(&[c, h / b, b, w / b, b]) }, &[x])?;
    let turned = cx.push(Transpose { order: vec![0, 3, 5, 1, 2, 4] }, &[split])?;
    cx.only(Reshape { shape: fixed(&[c * b * b, h / b, w / b]) }, &[turned])
}
