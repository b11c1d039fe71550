//! Conv and ConvTranspose, over one or two spatial axes, with constant kernels.

use super::window::windows;
use super::{Cx, Done, Refusal, Translate};
use graph::ops::{Conv, ConvTranspose, Span};
use graph::{Dim, WeightId};

pub(super) fn find(op: &str) -> Option<Translate> {
    match op {
        "Conv" => Some(conv),
        "ConvTranspose" => Some(transpose),
        _ => None,
    }
}

fn conv(cx: &mut Cx<'_, '_>) -> Done {
    convolution(cx, bias)
}

/// A convolution whose bias is found like this.
pub(super) fn convolution(
    cx: &mut Cx<'_, '_>,
    bias: impl Fn(&mut Cx<'_, '_>, usize) -> Result<Option<WeightId>, Refusal>,
) -> Done {
    let x = cx.value(0)?;
    let (shape, kernel) = (cx.shape(x)?, cx.fixed_shape(1)?);
    let window = windows(cx, &shape, kernel.get(2..))?;
    let outputs = *kernel.first().ok_or("its kernel is a scalar")?;
    let (weight, bias) = (cx.weight(1)?, bias(cx, outputs)?);
    let groups = groups(cx)?;
    cx.only(Conv { weight, bias, outputs, window, groups }, &[x])
}

fn transpose(cx: &mut Cx<'_, '_>) -> Done {
    let x = cx.value(0)?;
    let (shape, kernel) = (cx.shape(x)?, cx.fixed_shape(1)?);
    let mut window = windows(cx, &shape, kernel.get(2..))?;
    let extra = cx.lengths("output_padding")?.unwrap_or_else(|| vec![0; window.len()]);
    let groups = groups(cx)?;
    let outputs = kernel.get(1).ok_or("its kernel is no matrix")?.saturating_mul(groups);
    if cx.text("auto_pad", "NOTSET") != "NOTSET" || cx.attribute("output_shape").is_some() {
        fit(cx, &mut window, &extra, &shape[2..])?;
    }
    let (weight, bias) = (cx.weight(1)?, bias(cx, outputs)?);
    cx.only(ConvTranspose { weight, bias, outputs, window, extra, groups }, &[x])
}

/// Padding from the output's shape: what is said, or a point for each stride.
fn fit(cx: &Cx<'_, '_>, window: &mut [Span], extra: &[usize], space: &[Dim]) -> Result<(), Refusal> {
    let said = cx.lengths("output_shape")?;
    let upper = cx.text("auto_pad", "NOTSET") == "SAME_UPPER";
    for (n, span) in window.iter_mut().enumerate() {
        let input = space[n].fixed().ok_or("a spatial axis is open")?;
        let wanted =
            said.as_ref().map_or(Some(input * span.stride), |s| s.get(n).copied()).ok_or("output_shape is short")?;
        let full = (input - 1) * span.stride + extra.get(n).copied().unwrap_or_default() + span.reach();
        let total = full.checked_sub(wanted).ok_or("its output is larger than its windows reach")?;
        // ONNX: the larger half goes to the end for SAME_UPPER, else to the beginning.
        span.pad = if upper { [total / 2, total - total / 2] } else { [total - total / 2, total / 2] };
    }
    Ok(())
}

fn groups(cx: &Cx<'_, '_>) -> Result<usize, Refusal> {
    usize::try_from(cx.int("group", 1))
        .ok()
        .filter(|g| *g > 0)
        .ok_or_else(|| "its number of groups is impossible".into())
}

fn bias(cx: &mut Cx<'_, '_>, outputs: usize) -> Result<Option<WeightId>, Refusal> {
    cx.has(2).then(|| cx.weight_of(2, &[outputs])).transpose()
}
