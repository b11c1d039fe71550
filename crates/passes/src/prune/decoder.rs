//! A decoder's configuration after its graph lost heads and channels. Its formats have one number for all layers, so what is left
//! must be the same in each.

use super::PruneError;
use graph::{Body, DecoderConfig, Experts, Graph, Model, Op, Role, WeightStore};

/// Makes the configuration say what the graph has. Nothing happens to models that are no decoders.
pub fn configure(model: &mut Model) -> Result<(), PruneError> {
    let Model { body: Body::Decoder { config, graph }, weights } = model else { return Ok(()) };
    let next = configuration(config, graph, weights)?;
    *config = next;
    Ok(())
}

fn configuration(old: &DecoderConfig, graph: &Graph, weights: &WeightStore) -> Result<DecoderConfig, PruneError> {
    let heads = graph.nodes().iter().filter_map(|node| match &node.op {
        Op::Attention(op) => Some((op.heads, op.kv_heads)),
        _ => None,
    });
    let (heads, kv_heads) = same("heads", heads)?.unwrap_or((old.heads, old.kv_heads));
    let width = |role: Role| {
        let down = weights.iter().filter(move |(_, w)| w.place.role == role && !w.place.bias);
        down.filter_map(|(_, w)| w.shape.get(1).copied())
    };
    let of_expert = same("channels of the experts", width(Role::ExpertDown))?;
    // Where there are no dense layers, some formats have the experts' width here.
    let dense = match &old.experts {
        Some(experts) if experts.ffn == old.ffn => of_expert.unwrap_or(old.ffn),
        _ => old.ffn,
    };
    let ffn = same("channels of the feed-forward part", width(Role::FfnDown))?.unwrap_or(dense);
    let experts = old.experts.clone().map(|e| Experts { ffn: of_expert.unwrap_or(e.ffn), ..e });
    Ok(DecoderConfig { heads, kv_heads, ffn, experts, ..old.clone() })
}

/// The one value that all layers have.
fn same<T: PartialEq>(what: &'static str, mut all: impl Iterator<Item = T>) -> Result<Option<T>, PruneError> {
    let first = all.next();
    match all.all(|next| Some(&next) == first.as_ref()) {
        true => Ok(first),
        false => Err(PruneError::Uneven { what }),
    }
}
