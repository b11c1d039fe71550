//! Functions of each number: Relu, Clip, HardSwish, … and Identity-like operators, which make no node.

use super::{Cx, Done, Refusal, Translate};
use formats::onnx::DataType;
use graph::ops::Activation;

pub(super) fn find(op: &str) -> Option<Translate> {
    Some(match op {
        "Relu" => |cx| unary(cx, Activation::Relu),
        "Sigmoid" => |cx| unary(cx, Activation::Sigmoid),
        "Tanh" => |cx| unary(cx, Activation::Tanh),
        "HardSwish" => |cx| unary(cx, Activation::HardSwish),
        "Mish" => |cx| unary(cx, Activation::Mish),
        "Softplus" => |cx| unary(cx, Activation::Softplus),
        "Softsign" => |cx| unary(cx, Activation::Softsign),
        "Erf" => |cx| unary(cx, Activation::Erf),
        "Exp" => |cx| unary(cx, Activation::Exp),
        "Log" => |cx| unary(cx, Activation::Log),
        "Sqrt" => |cx| unary(cx, Activation::Sqrt),
        "Abs" => |cx| unary(cx, Activation::Abs),
        "Neg" => |cx| unary(cx, Activation::Neg),
        "Reciprocal" => |cx| unary(cx, Activation::Reciprocal),
        "LeakyRelu" => |cx| unary(cx, Activation::LeakyRelu(cx.float("alpha", 0.01))),
        "Elu" => |cx| unary(cx, Activation::Elu(cx.float("alpha", 1.0))),
        "HardSigmoid" => |cx| unary(cx, Activation::HardSigmoid(cx.float("alpha", 0.2), cx.float("beta", 0.5))),
        "Gelu" => gelu,
        "Swish" => swish,
        "Clip" => clip,
        "Identity" | "Dropout" => pass,
        "Cast" => cast,
        _ => return None,
    })
}

fn unary(cx: &mut Cx<'_, '_>, activation: Activation) -> Done {
    let x = cx.value(0)?;
    cx.only(activation, &[x])
}

fn gelu(cx: &mut Cx<'_, '_>) -> Done {
    let tanh = cx.text("approximate", "none") == "tanh";
    unary(cx, if tanh { Activation::GeluTanh } else { Activation::Gelu })
}

fn swish(cx: &mut Cx<'_, '_>) -> Done {
    match cx.float("alpha", 1.0) {
        1.0 => unary(cx, Activation::Silu),
        alpha => Err(Refusal(format!("its alpha is {alpha}"))),
    }
}

/// Bounds are attributes before version 11, inputs since.
fn clip(cx: &mut Cx<'_, '_>) -> Done {
    let bound = |cx: &Cx<'_, '_>, name, input, none: f32| match (cx.opset() < 11, cx.has(input)) {
        (true, _) => Ok(cx.float(name, none)),
        (false, true) => cx.real(input).map(|x| x as f32),
        (false, false) => Ok(none),
    };
    let (low, high) = (bound(cx, "min", 1, f32::NEG_INFINITY)?, bound(cx, "max", 2, f32::INFINITY)?);
    unary(cx, Activation::Clip(low, high))
}

/// The input under another name.
fn pass(cx: &mut Cx<'_, '_>) -> Done {
    if cx.is_read(1) {
        return Err("its mask is read".into());
    }
    match cx.item(0).cloned() {
        Some(item) => cx.alias(item),
        None => Err("its input is missing".into()),
    }
}

/// Between fractions nothing changes here: everything is computed in f32.
fn cast(cx: &mut Cx<'_, '_>) -> Done {
    let x = cx.value(0)?;
    let to = i32::try_from(cx.int("to", 0)).ok().and_then(DataType::of);
    let float = cx.t.graph.values()[x.0].kind == graph::Kind::Float;
    match to {
        Some(to) if to.is_float() && float => cx.alias(super::super::translate::Item::Value(x)),
        to => Err(Refusal(format!("it casts to {to:?}"))),
    }
}
