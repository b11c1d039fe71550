//! Counters: activation memory against plans known by heart, and budgets as people write them.

use graph::ops::{Activation, Add, Concat, Conv, Reshape, Span};
use graph::{Body, Dim, Graph, Kind, Model, Place, Role, Weight, WeightStore};
use plan::{Amount, Budget, Counters, Criterion, Part, Recipe, Resource, Step};

/// `x` [1, 4, 4] → conv to 8 channels → relu in place → conv to 8 → sum with the first → a flat view of it.
fn model() -> Model {
    let (mut graph, mut weights) = (Graph::default(), WeightStore::default());
    let shape =
        |dims: &[usize]| [Dim::Batch].into_iter().chain(dims.iter().map(|n| Dim::Fixed(*n))).collect::<Vec<_>>();
    let x = graph.input("x", Kind::Float, shape(&[1, 4, 4]));
    let conv = |graph: &mut Graph, weights: &mut WeightStore, name: &str, x, inputs: usize| {
        let data = vec![1.0; 8 * inputs];
        let weight = Weight::from_f32(name, Place::outer(Role::Other), vec![8, inputs, 1, 1], &data).expect("f32");
        let weight = weights.insert(weight);
        let op = Conv { weight, bias: None, outputs: 8, window: vec![Span::of(1); 2], groups: 1 };
        graph.push1(name, op, &[x], weights).expect("fits")
    };
    let a = conv(&mut graph, &mut weights, "a", x, 1);
    let a = graph.push1("relu", Activation::Relu, &[a], &weights).expect("fits");
    let b = conv(&mut graph, &mut weights, "b", a, 8);
    let sum = graph.push1("sum", Add, &[a, b], &weights).expect("fits");
    let flat = graph.push1("flat", Reshape { shape: shape(&[128]) }, &[sum], &weights).expect("fits");
    let all = graph.push1("twice", Concat { axis: 1 }, &[flat, flat], &weights).expect("fits");
    graph.output(all);
    Model { body: Body::Network { graph }, weights }
}

#[test]
fn activations_share_memory() {
    let counted = Counters::of(&model()).expect("readable");
    assert_eq!(counted.parameters, 72);
    assert_eq!(counted.bytes, 288);
    assert_eq!(counted.macs, [("Conv f32".to_owned(), 16 * 8 + 16 * 64)].into());
    let memory = counted.memory;
    // x and a; a, written over; a and b; their sum, in place of one; seen flat; and twice beside it.
    assert_eq!(memory.timeline, [64 + 512, 512, 1024, 1024, 512, 1536]);
    assert_eq!((memory.live, memory.at.as_str(), memory.planned), (1536, "twice", 1536));
}

#[test]
fn energy_follows_what_is_computed_and_moved() {
    let (model, counted) = (model(), Counters::of(&model()).expect("readable"));
    let products = (16 * 8 + 16 * 64) as f64 * 4.6e-12;
    let weights = 288.0 * 160e-12;
    let moved = (16 + 5 * 128 + 256) as f64 * 4.0 * 2.0 * 2.5e-12;
    assert!((plan::estimated_energy(&model, &counted) / (products + weights + moved) - 1.0).abs() < 1e-9);
}

#[test]
fn budgets_are_read_and_written() {
    let budget = |text: &str| text.parse::<Budget>();
    assert_eq!(budget("0.5"), Ok(Budget { of: Resource::Macs, left: Amount::Share(0.5) }));
    assert_eq!(budget("peak=256KiB"), Ok(Budget { of: Resource::Peak, left: Amount::Count(262_144) }));
    assert_eq!(budget("parameters = 3000"), Ok(Budget { of: Resource::Parameters, left: Amount::Count(3000) }));
    assert_eq!(budget("latency=2.5ms"), Ok(Budget { of: Resource::Latency, left: Amount::Time(2_500_000) }));
    assert_eq!(budget("layers=6"), Ok(Budget { of: Resource::Layers, left: Amount::Count(6) }));
    assert_eq!(
        budget("layers=1"),
        Ok(Budget { of: Resource::Layers, left: Amount::Count(1) }),
        "all would be no budget"
    );
    assert_eq!(budget("experts=0.5"), Ok(Budget { of: Resource::Experts, left: Amount::Share(0.5) }));
    let wrong =
        ["", "0", "-1", "nan", "speed=2", "channels=100", "macs=fast", "macs=2ms", "latency=100", "latency=0ms"];
    for wrong in wrong.into_iter().chain(["layers=0", "layers=2ms", "experts=0"]) {
        assert!(budget(wrong).is_err(), "{wrong}");
    }
    let text = "[[step]]\nprune = { macs = 0.5, by = \"taylor\", across = \"global\", multiple = 8 }\n";
    let recipe = Recipe::parse(text).expect("valid");
    let [Step::Prune(spec)] = &recipe.steps[..] else { panic!("{recipe:?}") };
    assert_eq!((spec.budget.left, spec.multiple), (Amount::Share(0.5), 8));
    assert_eq!(Recipe::parse(&recipe.to_toml()).expect("valid"), recipe);
    let timed = Recipe::parse("[[step]]\nprune = { latency = \"800us\" }\n").expect("valid");
    assert_eq!(Recipe::parse(&timed.to_toml()).expect("valid"), timed);
    for wrong in
        ["prune = {}", "prune = { macs = 0.5, bytes = 9 }", "prune = { macs = 0.5, by = \"luck\" }", "prone = {}"]
    {
        assert!(Recipe::parse(&format!("[[step]]\n{wrong}\n")).is_err(), "{wrong}");
    }
}

#[test]
fn layers_and_experts_go_by_criteria_of_their_own() {
    let read = |budget: &str| Recipe::parse(&format!("[[step]]\nprune = {{ {budget} }}\n"));
    for (budget, by) in [("layers = 6", Part::Layers.criterion()), ("experts = 0.5, by = \"l2\"", Criterion::L2)] {
        let recipe = read(budget).expect("valid");
        let [Step::Prune(spec)] = &recipe.steps[..] else { panic!("{recipe:?}") };
        assert_eq!(spec.by, by);
        assert_eq!(Recipe::parse(&recipe.to_toml()).expect("valid"), recipe);
    }
    for (wrong, remedy) in [
        ("layers = 6, by = \"taylor\"", "influence, loss"),
        ("macs = 0.5, by = \"reap\"", "l1, l2, bn-scale, fpgm, taylor"),
        ("layers = 6, across = \"global\"", "leave out `across`"),
        ("experts = 0.5, only = [\"router\"]", "leave out `only`"),
    ] {
        let error = read(wrong).expect_err(wrong).to_string();
        assert!(error.contains(remedy), "{error}");
    }
}
