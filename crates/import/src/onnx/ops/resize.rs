//! Resize, and Upsample before it.

use super::{Cx, Done, Refusal, Translate};
use graph::ops::{Coordinates, Interpolation, Resize, Resized, Rounding};

pub(super) fn find(op: &str) -> Option<Translate> {
    Some(match op {
        "Resize" => resize,
        "Upsample" => upsample,
        _ => return None,
    })
}

/// Version 10 took scales as input 1 and laid points out as Upsample did; since 11 there is a region, scales or sizes.
fn resize(cx: &mut Cx<'_, '_>) -> Done {
    if cx.opset() < 11 {
        return upsample(cx);
    }
    let odd = cx.int("antialias", 0) != 0 || cx.int("exclude_outside", 0) != 0;
    if odd || cx.text("keep_aspect_ratio_policy", "stretch") != "stretch" {
        return Err("it antialiases, leaves the outside out, or keeps the aspect ratio".into());
    }
    let coordinates = match cx.text("coordinate_transformation_mode", "half_pixel") {
        "half_pixel" => Coordinates::HalfPixel,
        "pytorch_half_pixel" => Coordinates::HalfPixelOrOrigin,
        "asymmetric" => Coordinates::Asymmetric,
        "align_corners" => Coordinates::AlignCorners,
        other => return Err(Refusal(format!("its coordinates are `{other}`"))),
    };
    let rounding = match cx.text("nearest_mode", "round_prefer_floor") {
        "round_prefer_floor" => Rounding::HalfDown,
        "round_prefer_ceil" => Rounding::HalfUp,
        "floor" => Rounding::Floor,
        _ => Rounding::Ceil,
    };
    let interpolation = match cx.text("mode", "nearest") {
        "nearest" => Interpolation::Nearest(rounding),
        "linear" => Interpolation::Linear,
        "cubic" => Interpolation::Cubic(cx.float("cubic_coeff_a", -0.75)),
        other => return Err(Refusal(format!("its mode is `{other}`"))),
    };
    finish(cx, interpolation, coordinates)
}

fn upsample(cx: &mut Cx<'_, '_>) -> Done {
    let interpolation = match cx.text("mode", "nearest") {
        "nearest" => Interpolation::Nearest(Rounding::Floor),
        "linear" => Interpolation::Linear,
        other => return Err(Refusal(format!("its mode is `{other}`"))),
    };
    finish(cx, interpolation, Coordinates::Asymmetric)
}

fn finish(cx: &mut Cx<'_, '_>, interpolation: Interpolation, coordinates: Coordinates) -> Done {
    let x = cx.value(0)?;
    let shape = cx.shape(x)?;
    let chosen = match cx.list("axes") {
        Some(axes) => axes.iter().map(|a| cx.axis(*a, shape.len())).collect::<Result<Vec<_>, _>>()?,
        None => (0..shape.len()).collect(),
    };
    let mut axes = Vec::new();
    for (axis, to) in chosen.iter().zip(targets(cx, chosen.len())?) {
        let resized = match (shape[*axis].fixed(), to) {
            (_, To::Scale(1.0)) => continue,
            (Some(n), To::Scale(scale)) if scale > 0.0 => {
                Resized { axis: *axis, points: (n as f64 * scale).floor() as usize, scale: scale as f32 }
            }
            (Some(n), To::Points(points)) => Resized { axis: *axis, points, scale: points as f32 / n as f32 },
            (None, To::Whole) => continue,
            _ => return Err("it resizes the batch, or by an impossible scale".into()),
        };
        if shape[*axis].fixed() != Some(resized.points) {
            axes.push(resized);
        }
    }
    cx.only(Resize { interpolation, coordinates, axes }, &[x])
}

/// What an axis is resized to.
#[derive(Clone, Copy)]
enum To {
    Scale(f64),
    Points(usize),
    /// The whole batch.
    Whole,
}

fn targets(cx: &Cx<'_, '_>, count: usize) -> Result<Vec<To>, Refusal> {
    use super::super::fold::Elem;
    let scales = if cx.opset() < 11 { 1 } else { 2 };
    let given = if let Some(attribute) = cx.attribute("scales") {
        attribute.floats.iter().map(|s| To::Scale(f64::from(*s))).collect()
    } else if scales == 2 && cx.has(3) {
        let point = |elem: &Elem| match elem {
            Elem::Int(n @ 1..) => usize::try_from(*n).map(To::Points).map_err(|_| Refusal::from("a size is too large")),
            Elem::Batch => Ok(To::Whole),
            other => Err(Refusal(format!("its sizes hold {other:?}"))),
        };
        cx.known(3)?.data.iter().map(point).collect::<Result<Vec<_>, _>>()?
    } else {
        cx.known(scales)?.reals()?.into_iter().map(To::Scale).collect()
    };
    match given.len() == count {
        true => Ok(given),
        false => Err(Refusal(format!("{} scales for {count} axes", given.len()))),
    }
}
