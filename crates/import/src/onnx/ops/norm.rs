//! Normalisations: of batches, instances, groups, layers, and across neighbouring channels.

use super::{Cx, Done, Refusal, Translate};
use graph::ops::{BatchNorm, GroupNorm, Lrn, Norm, NormKind};

pub(super) fn find(op: &str) -> Option<Translate> {
    Some(match op {
        "BatchNormalization" => batch,
        "InstanceNormalization" => instance,
        "GroupNormalization" => group,
        "LayerNormalization" => |cx| layer(cx, NormKind::Layer),
        "RMSNormalization" => |cx| layer(cx, NormKind::Rms),
        "LRN" => lrn,
        _ => return None,
    })
}

fn batch(cx: &mut Cx<'_, '_>) -> Done {
    if cx.int("training_mode", 0) != 0 || cx.is_read(1) || cx.int("spatial", 1) == 0 {
        return Err("it takes the statistics of the batch, or of each position".into());
    }
    let x = cx.value(0)?;
    let channels = cx.channels(x)?;
    let [scale, bias, mean, var] = [1, 2, 3, 4].map(|n| cx.weight_of(n, &[channels]));
    let (eps, momentum) = (f64::from(cx.float("epsilon", 1e-5)), f64::from(cx.float("momentum", 0.9)));
    cx.only(BatchNorm { scale: scale?, bias: bias?, mean: mean?, var: var?, eps, momentum }, &[x])
}

fn instance(cx: &mut Cx<'_, '_>) -> Done {
    let x = cx.value(0)?;
    let groups = cx.channels(x)?;
    let (scale, bias) = (cx.weight_of(1, &[groups])?, cx.weight_of(2, &[groups])?);
    cx.only(GroupNorm { groups, scale, bias, eps: f64::from(cx.float("epsilon", 1e-5)) }, &[x])
}

/// Scales are one for each group before version 21, for each channel since.
fn group(cx: &mut Cx<'_, '_>) -> Done {
    let x = cx.value(0)?;
    let channels = cx.channels(x)?;
    let groups = usize::try_from(cx.int("num_groups", 0)).unwrap_or_default();
    let (scale, bias) = (cx.weight_of(1, &[channels])?, cx.weight_of(2, &[channels])?);
    cx.only(GroupNorm { groups, scale, bias, eps: f64::from(cx.float("epsilon", 1e-5)) }, &[x])
}

fn layer(cx: &mut Cx<'_, '_>, kind: NormKind) -> Done {
    let x = cx.value(0)?;
    let shape = cx.shape(x)?;
    if cx.axis(cx.int("axis", -1), shape.len())? + 1 != shape.len() || cx.is_read(1) || cx.is_read(2) {
        return Err("it normalises over several axes, or its statistics are read".into());
    }
    let size = shape.last().and_then(|d| d.fixed()).ok_or("its input has no fixed width")?;
    let weight = cx.weight_of(1, &[size])?;
    let bias = cx.has(2).then(|| cx.weight_of(2, &[size])).transpose()?;
    let eps = f64::from(cx.float("epsilon", 1e-5));
    cx.only(Norm { kind, size, weight, bias, eps, offset: 0.0 }, &[x])
}

fn lrn(cx: &mut Cx<'_, '_>) -> Done {
    let x = cx.value(0)?;
    let size = usize::try_from(cx.int("size", 0)).ok().filter(|n| *n > 0);
    let size = size.ok_or_else(|| Refusal("its size is impossible".into()))?;
    let (alpha, beta, bias) = (cx.float("alpha", 1e-4), cx.float("beta", 0.75), cx.float("bias", 1.0));
    cx.only(Lrn { size, alpha, beta, bias }, &[x])
}
