//! # Mixed precision under a budget
//!
//! **What it does.** Gives as few layers as possible one step more precision (4-bit weights 8 bits, 8-bit layers float) until
//! the network's outputs move by no more than a budget, `‖ŷ − y‖ / ‖y‖` on samples.
//!
//! **How.** Layers are wanted in the order of their [sensitivity](super::sensitivity) for each number saved; how many are taken is
//! found by bisection, each time with the whole network made and measured.
//!
//! **What it needs.** A run for each layer, and a whole quantization for each halving.

use super::sensitivity::{Reference, SAMPLES, sensitivity};
use super::{QuantizeError, Work, weights};
use graph::Model;
use std::collections::BTreeSet;

/// The network with as few layers made wider as the budget allows; their names.
pub(super) fn within(work: &Work<'_>, budget: f64) -> Result<(Model, Vec<String>), QuantizeError> {
    let reference = Reference::of(&work.original, work.samples, SAMPLES)?;
    let made = |wide: &[String]| {
        let model = work.made(&wide.iter().cloned().collect::<BTreeSet<_>>())?;
        let error = reference.error(&model)?;
        Ok::<_, QuantizeError>((model, error))
    };
    let (model, error) = made(&[])?;
    if error <= budget {
        return Ok((model, Vec::new()));
    }
    let order = order(work, &reference)?;
    // `most` layers are enough, one less than `least` is not; all but one, so that something is left to quantize.
    let (mut least, mut most) = (1, order.len().saturating_sub(1));
    let (mut best, mut reached) = made(&order[..most])?;
    if reached > budget {
        return Err(QuantizeError::Budget { budget, reached: reached.min(error) });
    }
    while least < most {
        let middle = (least + most) / 2;
        let (model, error) = made(&order[..middle])?;
        if error <= budget {
            (best, reached, most) = (model, error, middle);
        } else {
            least = middle + 1;
        }
    }
    debug_assert!(reached <= budget);
    Ok((best, order[..most].to_vec()))
}

/// Products, those first that move the outputs most for each number of their weights.
fn order(work: &Work<'_>, reference: &Reference) -> Result<Vec<String>, QuantizeError> {
    let mut ranked: Vec<(f64, String)> = Vec::new();
    for node in work.products() {
        let numbers = weights::parts(&node.op).map_or(1, |(id, _)| work.original.weights.get(id).elements());
        let moved = sensitivity(work, reference, node, work.spec.weights)?;
        ranked.push((moved / numbers.max(1) as f64, node.name.clone()));
    }
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    Ok(ranked.into_iter().map(|(_, name)| name).collect())
}
