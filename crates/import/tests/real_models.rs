//! Real folders, where they are at hand.

#[test]
fn the_models_at_hand_open_and_hold_numbers() {
    let Some(data) = testkit::data_dir() else { return };
    for (name, parameters, layers) in
        [("novels-7m", 7_344_384, 8), ("stories260K", 260_032, 5), ("babyllama_tok361", 969_216, 5)]
    {
        let imported = import::open(&data.join(name)).unwrap();
        let model = &imported.model;
        model.check().unwrap();
        assert_eq!(model.parameters(), parameters, "{name}");
        assert_eq!(model.decoder().unwrap().layers.len(), layers, "{name}");
        assert!(imported.notes.is_empty(), "{:?}", imported.notes);
        assert!(import::check_finite(model, &imported.path).is_empty());
    }
}
