//! Tiny models of every family, from the configurations that logits are kept for.

use formats::hf::Json;
use graph::{Model, Weight, WeightStore};
use import::{Parsed, parse_config};
use std::path::Path;

/// A model of a configuration file, its weights random and the same every time.
pub fn model(file: &Path) -> Model {
    let Ok(Parsed::Decoder(arch, config)) = parse_config(&Json::open(file).unwrap(), file) else {
        panic!("{}: no decoder", file.display())
    };
    let mut weights = WeightStore::default();
    for (place, shape) in import::places(&config) {
        let name = arch.hf_name(place).unwrap();
        let data = testkit::weight_value(&name, shape.iter().product(), config.norm_offset != 0.0);
        weights.insert(Weight::from_f32(&name, place, shape, &data).unwrap());
    }
    let graph = import::build(&config, &weights, file).unwrap();
    Model { body: graph::Body::Decoder { config, graph }, weights }
}
