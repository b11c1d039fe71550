//! Windows of convolutions and pools from `kernel_shape`, `strides`, `dilations`, `pads` and `auto_pad`.

use super::{Cx, Refusal};
use graph::Dim;
use graph::ops::Span;

/// One window for each spatial axis of an input of this shape. `kernel` stands in for `kernel_shape`.
pub(super) fn windows(cx: &Cx<'_, '_>, shape: &[Dim], kernel: Option<&[usize]>) -> Result<Vec<Span>, Refusal> {
    let space = shape.get(2..).unwrap_or_default();
    let sizes = match (cx.lengths("kernel_shape")?, kernel) {
        (Some(sizes), _) => sizes,
        (None, Some(kernel)) => kernel.to_vec(),
        (None, None) => return Err("it has no kernel shape".into()),
    };
    let ones = vec![1; space.len()];
    let strides = cx.lengths("strides")?.unwrap_or_else(|| ones.clone());
    let dilations = cx.lengths("dilations")?.unwrap_or(ones);
    let pads = cx.lengths("pads")?.unwrap_or_else(|| vec![0; 2 * space.len()]);
    let fits = [sizes.len(), strides.len(), dilations.len()].iter().all(|n| *n == space.len());
    if !fits || pads.len() != 2 * space.len() || space.is_empty() || space.len() > 2 {
        return Err(Refusal(format!(
            "its windows do not fit {} spatial axes, or these are not one or two",
            space.len()
        )));
    }
    if sizes.iter().chain(&strides).chain(&dilations).any(|n| *n == 0) {
        return Err("a size, stride or dilation is zero".into());
    }
    let span = |n: usize| {
        let pad = [pads[n], pads[n + space.len()]];
        pad_automatically(cx, Span { size: sizes[n], stride: strides[n], dilation: dilations[n], pad }, space[n])
    };
    (0..space.len()).map(span).collect()
}

/// `auto_pad`: padding such that there is a window for each stride.
fn pad_automatically(cx: &Cx<'_, '_>, span: Span, dim: Dim) -> Result<Span, Refusal> {
    let mode = cx.text("auto_pad", "NOTSET");
    let length = dim.fixed().ok_or("a spatial axis is open")?;
    let total = (length.div_ceil(span.stride) - 1).saturating_mul(span.stride);
    let total = total.saturating_add(span.reach()).saturating_sub(length);
    let pad = match mode {
        "NOTSET" => span.pad,
        "VALID" => [0, 0],
        "SAME_UPPER" => [total / 2, total - total / 2],
        "SAME_LOWER" => [total - total / 2, total / 2],
        other => return Err(Refusal(format!("auto_pad is `{other}`"))),
    };
    Ok(Span { pad, ..span })
}
