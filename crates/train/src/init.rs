//! First values of a decoder's weights.
//!
//! Matrices: normal, deviation 0.02; those that write into the residual stream are divided by √(2 · layers) (GPT-2).
//! Norms: one (less the model's norm offset). Biases: zero. Each weight has a stream of its own, named by its position.

use crate::Rng;
use graph::{DecoderConfig, Place, Role};

const DEVIATION: f32 = 0.02;

/// First values of the weight at `place`, the `index`-th of its model.
pub fn initial(config: &DecoderConfig, place: Place, elements: usize, index: usize, seed: u64) -> Vec<f32> {
    if place.bias {
        return vec![0.0; elements];
    }
    if place.role.is_norm() {
        return vec![1.0 - config.norm_offset as f32; elements];
    }
    let residual = matches!(place.role, Role::AttnOut | Role::FfnDown | Role::ExpertDown);
    let shrink = if residual { (2.0 * config.layers.len() as f32).sqrt() } else { 1.0 };
    let mut rng = Rng::new(seed, index as u64);
    (0..elements).map(|_| rng.normal() * DEVIATION / shrink).collect()
}
