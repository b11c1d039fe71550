//! Gemm and MatMul: linear layers where one side is constant, products of values otherwise. Gather of a table by indices.

use super::{Cx, Done, Refusal, Translate};
use graph::ops::{Add, Linear, MatMul};

pub(super) fn find(op: &str) -> Option<Translate> {
    match op {
        "Gemm" => Some(gemm),
        "MatMul" => Some(matmul),
        _ => None,
    }
}

fn gemm(cx: &mut Cx<'_, '_>) -> Done {
    let (alpha, beta) = (cx.float("alpha", 1.0), cx.float("beta", 1.0));
    if cx.int("transA", 0) != 0 || alpha != 1.0 || (cx.has(2) && beta != 1.0) {
        return Err(Refusal(format!("transA {}, alpha {alpha} and beta {beta} are not plain", cx.int("transA", 0))));
    }
    let x = cx.value(0)?;
    let weight = if cx.int("transB", 0) != 0 { cx.weight(1)? } else { cx.weight_transposed(1)? };
    let outputs = cx.t.weights.get(weight).shape.first().copied().unwrap_or_default();
    if !cx.has(2) {
        return cx.only(Linear { weight, bias: None }, &[x]);
    }
    if let Ok(bias) = cx.weight_of(2, &[outputs]) {
        return cx.only(Linear { weight, bias: Some(bias) }, &[x]);
    }
    let (product, c) = (cx.push(Linear { weight, bias: None }, &[x])?, cx.value(2)?);
    cx.only(Add, &[product, c])
}

fn matmul(cx: &mut Cx<'_, '_>) -> Done {
    let a = cx.value(0)?;
    if cx.is_fixed(1) && cx.fixed_shape(1)?.len() == 2 {
        let weight = cx.weight_transposed(1)?;
        return cx.only(Linear { weight, bias: None }, &[a]);
    }
    let b = cx.value(1)?;
    cx.only(MatMul, &[a, b])
}
