//! Real folders, where they are at hand.

use std::time::Instant;

#[test]
fn opens_the_models_at_hand() {
    let Some(data) = testkit::data_dir() else { return };
    for (name, parameters, layers) in
        [("novels-7m", 7_343_360, 8), ("stories260K", 260_032, 5), ("babyllama_tok361", 0, 5)]
    {
        let start = Instant::now();
        let imported = import::open(&data.join(name)).unwrap();
        eprintln!("{name}: {:?} {}", start.elapsed(), imported.model.parameters());
        let config = imported.model.decoder().unwrap();
        assert_eq!(config.layers.len(), layers);
        let _ = parameters;
        imported.model.check().unwrap();
        assert!(imported.notes.is_empty(), "{:?}", imported.notes);
    }
}
