//! What each ONNX operator becomes, one file per family.

mod activation;
mod arithmetic;
mod concat;
mod conv;
mod dynamic;
mod gemm;
mod norm;
mod pad;
mod pool;
mod quantize;
mod reduce;
mod reshape;
mod resize;
mod select;
mod softmax;
mod window;

use super::cx::{Cx, Done};
use super::translate::Refusal;
use formats::onnx::proto::NodeProto;

/// Turns a node into nodes of the graph, or says why not.
pub(super) type Translate = fn(&mut Cx<'_, '_>) -> Done;

/// The translation of a node's operator. `com.microsoft` had Gelu before ONNX did.
pub(super) fn find(node: &NodeProto) -> Option<Translate> {
    let domain = node.domain.as_deref().unwrap_or_default();
    let op = node.op_type.as_deref().unwrap_or_default();
    if !matches!((domain, op), ("" | "ai.onnx", _) | ("com.microsoft", "Gelu")) {
        return None;
    }
    let families = [
        activation::find,
        arithmetic::find,
        concat::find,
        conv::find,
        dynamic::find,
        gemm::find,
        norm::find,
        pad::find,
        pool::find,
        quantize::find,
        reduce::find,
        reshape::find,
        resize::find,
        select::find,
        softmax::find,
    ];
    families.into_iter().find_map(|family| family(op))
}
