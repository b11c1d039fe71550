//! Promise: a decoder loses whole layers, experts, key heads with their queries, or channels that text calls unimportant, in every family and
//! in both containers; what is left computes what it should, may be encoded in the same run, and what cannot be is refused with a remedy.

#[path = "../../import/tests/common/mod.rs"]
mod cases;
mod common;

use cases::{Tensor, cases, tensors, tokenizer, write};
use engine::{Calibration, EngineError, Options, Quiet};
use exec::Executor;
use graph::{Model, Role};
use import::Imported;
use passes::prune::{Freedom, PruneError, groups, whole};
use plan::{Budget, Container, Criterion, Goal, PlanError, PruneSpec, Recipe, Step};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const TOLERANCE: f32 = 2e-4;

fn ids(tokens: usize, vocab: usize) -> Vec<u32> {
    (0..tokens).map(|i| ((37 * i + 11) % vocab) as u32).collect()
}

fn text(vocab: usize) -> Calibration {
    let window = |n: usize| (0..16).map(|i| ((31 * i + 7 * n + i * n) % vocab) as u32).collect();
    Calibration { name: "numbers".into(), windows: (0..6).map(window).collect(), chosen: None }
}

fn logits(model: &Model, tokens: usize) -> Vec<f32> {
    let (graph, vocab) = (model.graph().expect("a graph"), model.decoder().expect("a decoder").vocab);
    let mut executor = Executor::<f32>::new(graph, &model.weights, exec::Options::default()).expect("it runs");
    let ids = exec::Tensor::ids(1, ids(tokens, vocab)).expect("ids");
    executor.forward(&ids).expect("it runs").into_data()
}

fn spec(budget: &str) -> PruneSpec {
    PruneSpec::to(budget.parse::<Budget>().expect("a budget"))
}

fn recipe(spec: PruneSpec, container: Container) -> Recipe {
    let mut recipe = Recipe { steps: vec![Step::Prune(spec)], ..Recipe::new(Goal::Keep) };
    recipe.output.format = Some(container);
    recipe
}

fn compress(
    path: &Path,
    recipe: &Recipe,
    out: &Path,
    calibration: Option<&Calibration>,
) -> Result<engine::Outcome, EngineError> {
    let options = Options { calibration, ..Options::default() };
    let imported = import::open(path)?;
    let plan = engine::plan(&imported, recipe, &options)?;
    engine::compress(&imported, &plan, out, &options, &Quiet)
}

/// A folder of a golden case, its tensors changed.
fn folder(at: &Path, case: &Path, change: impl Fn(&mut Tensor)) -> PathBuf {
    let config = case.join("config.json");
    let mut all = tensors(&config, cases::Experts::Apart);
    all.iter_mut().for_each(change);
    write(at, &config, &all, u64::MAX);
    fs::write(at.join("tokenizer.json"), tokenizer().json()).expect("written");
    at.to_owned()
}

fn pruned(at: &Path, recipe: &Recipe, out: &Path, text: &Calibration) -> Option<Imported> {
    match compress(at, recipe, out, Some(text)) {
        Ok(_) => Some(import::open(out).unwrap_or_else(|e| panic!("{e}"))),
        // What llama.cpp cannot be told of some families.
        Err(EngineError::Export(export::ExportError::NotInLlamaCpp { .. })) => None,
        Err(error) => panic!("{}: {error}", at.display()),
    }
}

/// The layer in the middle adds nothing, so it goes, and the model computes what it did; windows and rotations keep to their layers.
#[test]
fn every_family_loses_the_layer_that_does_nothing() {
    let home = TempDir::new().expect("a folder");
    let mut in_gguf = 0;
    for (name, case) in cases() {
        let idle = |tensor: &mut Tensor| {
            let last = ["o_proj", "down_proj", ".w2."].iter().any(|part| tensor.name.contains(part));
            tensor.data.iter_mut().filter(|_| last && tensor.name.contains("layers.1.")).for_each(|x| *x = 0.0);
        };
        let source = folder(&home.path().join(&name), &case, idle);
        let original = import::open(&source).expect("opens").model;
        for (container, out, tokens) in [(Container::Safetensors, "folder", 24), (Container::Gguf, "gguf", 8)] {
            let out = home.path().join(format!("{name}.{out}"));
            let Some(pruned) = pruned(&source, &recipe(spec("layers=2"), container), &out, &text(96)) else { continue };
            in_gguf += usize::from(container == Container::Gguf);
            assert_eq!(pruned.model.decoder().expect("a decoder").layers.len(), 2);
            let (worst, _) = testkit::max_abs_difference(&logits(&pruned.model, tokens), &logits(&original, tokens));
            assert!(worst <= TOLERANCE, "{name} as {container}: differs by {worst}");
        }
    }
    assert!(in_gguf >= 12, "{in_gguf}");
}

/// `−Σ ln p` of the text.
fn loss(model: &Model, text: &Calibration) -> f64 {
    let mut executor = Executor::<f32>::new(model.graph().expect("a graph"), &model.weights, exec::Options::default())
        .expect("it runs");
    let one = |window: &Vec<u32>| {
        let logits = executor.forward(&exec::Tensor::ids(1, window.clone()).expect("ids")).expect("it runs");
        let rows = logits.data().chunks(logits.width()).zip(&window[1..]);
        let lost = |(row, next): (&[f32], &u32)| {
            row.iter().map(|z| f64::from(*z).exp()).sum::<f64>().ln() - f64::from(row[*next as usize])
        };
        rows.map(lost).sum::<f64>()
    };
    text.windows.iter().map(one).sum()
}

#[test]
fn the_layer_that_the_text_misses_least_goes() {
    let home = TempDir::new().expect("a folder");
    let case = testkit::golden_dir("logits").join("llama_3");
    let source = folder(&home.path().join("source"), &case, |_| ());
    let (model, text) = (import::open(&source).expect("opens").model, text(96));
    let without = |gone: usize| {
        let layers = (0..3).filter(|n| *n != gone).collect();
        let staying = whole::Staying { layers, experts: Default::default() };
        let (config, weights) = staying.of(&model).expect("plain");
        let graph = import::build(&config, &weights, &source).unwrap_or_else(|e| panic!("{e}"));
        loss(&Model { body: graph::Body::Decoder { config, graph }, weights }, &text)
    };
    let losses = [0, 1, 2].map(without);
    let by_loss = PruneSpec { by: Criterion::Loss, ..spec("layers=2") };
    let chosen = whole::choose(&model, &by_loss, &text.windows, &|_| ()).unwrap_or_else(|e| panic!("{e}"));
    let gone = (0..3).find(|n| !chosen.staying.layers.contains(n)).expect("one went");
    let tokens = text.windows.iter().map(|w| w.len() - 1).sum::<usize>() as f64;
    assert!(losses.iter().all(|loss| *loss >= losses[gone]), "{losses:?}, {gone} went");
    let measured = chosen.figures.last().expect("measured").1;
    assert!((measured - losses[gone] / tokens).abs() < 1e-4, "{measured} is not {}", losses[gone] / tokens);
}

/// In layer `n` expert `n + 1` adds nothing: it goes, by use and by magnitude, and what is left is what a test cuts out by hand.
#[test]
fn experts_go_with_their_rows_of_the_router() {
    let home = TempDir::new().expect("a folder");
    for name in ["mixtral", "olmoe", "qwen3_moe", "qwen3_moe_mixed"] {
        let case = testkit::golden_dir("logits").join(name);
        let count = cases::parse(&case.join("config.json")).1.experts.expect("a mixture").count;
        let gone = |tensor: &Tensor| tensor.name.split('.').nth(2)?.parse::<usize>().ok().map(|layer| layer + 1);
        let number = |tensor: &Tensor| {
            let (_, behind) = tensor.name.split_once(".experts.")?;
            behind.split('.').next()?.parse::<usize>().ok()
        };
        let idle = |tensor: &mut Tensor| {
            let last = tensor.name.contains("down_proj") || tensor.name.contains(".w2.");
            if last && number(tensor).is_some() && number(tensor) == gone(tensor) {
                tensor.data.fill(0.0);
            }
        };
        let source = folder(&home.path().join(name), &case, idle);
        let cut = home.path().join(format!("{name}-by-hand"));
        let mut all = tensors(&case.join("config.json"), cases::Experts::Apart);
        all.retain(|tensor| number(tensor).is_none() || number(tensor) != gone(tensor));
        for tensor in &mut all {
            let Some(gone) = gone(tensor) else { continue };
            if let Some(behind) = number(tensor).filter(|n| *n > gone) {
                tensor.name = tensor.name.replace(&format!("experts.{behind}."), &format!("experts.{}.", behind - 1));
            }
            if tensor.name.ends_with("mlp.gate.weight") || tensor.name.ends_with("block_sparse_moe.gate.weight") {
                tensor.shape[0] -= 1;
                tensor.data.drain(gone * 64..(gone + 1) * 64);
            }
        }
        let config = fs::read_to_string(case.join("config.json")).expect("there");
        let fewer = ["num_local_experts", "num_experts"].iter().fold(config, |text, key| {
            text.replace(&format!("\"{key}\": {count}"), &format!("\"{key}\": {}", count - 1))
        });
        let file = home.path().join(format!("{name}.json"));
        fs::write(&file, fewer).expect("written");
        write(&cut, &file, &all, u64::MAX);
        let expected = logits(&import::open(&cut).unwrap_or_else(|e| panic!("{e}")).model, 24);
        for (by, container) in [
            (Criterion::Reap, Container::Safetensors),
            (Criterion::L2, Container::Safetensors),
            (Criterion::Reap, Container::Gguf),
        ] {
            let spec = PruneSpec { by, ..spec(&format!("experts={}", count - 1)) };
            let out = home.path().join(format!("{name}-{}-{container}", by.name()));
            let Some(pruned) = pruned(&source, &recipe(spec, container), &out, &text(96)) else { continue };
            assert_eq!(pruned.model.decoder().and_then(|c| c.experts.clone()).map(|e| e.count), Some(count - 1));
            let (worst, _) = testkit::max_abs_difference(&logits(&pruned.model, 24), &expected);
            assert!(worst <= TOLERANCE, "{name} by {} as {container}: differs by {worst}", by.name());
        }
    }
}

/// Every second channel of every expert does nothing.
#[test]
fn experts_lose_channels() {
    let home = TempDir::new().expect("a folder");
    for (name, ffn) in [("mixtral", 96), ("olmoe", 96), ("qwen3_moe", 32)] {
        let idle = |tensor: &mut Tensor| {
            let Some((_, part)) = tensor.name.split_once(".experts.") else { return };
            let down = part.contains("down_proj") || part.contains("w2");
            let channel = |n: usize| if down { n % ffn } else { n / 64 };
            tensor.data.iter_mut().enumerate().filter(|(n, _)| channel(*n) % 2 == 0).for_each(|(_, x)| *x = 0.0);
        };
        let source = folder(&home.path().join(name), &testkit::golden_dir("logits").join(name), idle);
        let original = import::open(&source).expect("opens").model;
        let spec = PruneSpec { only: vec!["expert_gate".parse().expect("a role")], ..spec("channels=0.5") };
        for container in [Container::Safetensors, Container::Gguf] {
            let out = home.path().join(format!("{name}-{container}"));
            let Some(pruned) = pruned(&source, &recipe(spec.clone(), container), &out, &text(96)) else { continue };
            assert_eq!(pruned.model.decoder().and_then(|c| c.experts.clone()).map(|e| e.ffn), Some(ffn / 2));
            let (worst, _) = testkit::max_abs_difference(&logits(&pruned.model, 24), &logits(&original, 24));
            assert!(worst <= TOLERANCE, "{name} as {container}: differs by {worst}");
        }
    }
}

#[test]
fn key_heads_go_with_their_queries_and_queries_alone() {
    let home = TempDir::new().expect("a folder");
    let source = home.path().join("source");
    common::write_model(&source);
    let model = import::open(&source).expect("opens").model;
    let found = groups::find(&model, Freedom::default());
    let rows = |channel: &groups::Channel, role| -> Vec<usize> {
        let of_role = |axis: &&passes::prune::Axis| match axis.of {
            passes::prune::Of::Weight(id) => axis.axis == 0 && model.weights.get(id).place.role == role,
            passes::prune::Of::Value(_) => false,
        };
        channel.indices.keys().filter(of_role).flat_map(|axis| channel.indices[axis].clone()).collect()
    };
    let heads = found.groups.iter().filter(|g| g.name.contains("q_proj")).collect::<Vec<_>>();
    assert_eq!(heads.len(), 2, "one group for each layer");
    for (n, channel) in heads.iter().flat_map(|g| g.channels.iter().enumerate()) {
        assert_eq!(rows(channel, Role::AttnK), (16 * n..16 * (n + 1)).collect::<Vec<_>>());
        assert_eq!(rows(channel, Role::AttnQ), (32 * n..32 * (n + 1)).collect::<Vec<_>>());
    }
    for (only, heads, out) in [("attn_k", (2, 1), "keys"), ("attn_q", (2, 2), "queries")] {
        let spec = PruneSpec { only: vec![only.parse().expect("a role")], ..spec("channels=0.5") };
        let out = home.path().join(out);
        compress(&source, &recipe(spec, Container::Safetensors), &out, None).unwrap_or_else(|e| panic!("{e}"));
        let left = import::open(&out).expect("opens").model;
        let config = left.decoder().expect("a decoder");
        assert_eq!((config.heads, config.kv_heads, config.ffn), (heads.0, heads.1, 96));
    }
}

/// Half of the feed-forward channels are read by nobody: gradients on text find them.
#[test]
fn taylor_looks_at_the_text() {
    let home = TempDir::new().expect("a folder");
    let case = testkit::golden_dir("logits").join("llama");
    let idle = |tensor: &mut Tensor| {
        let reads = tensor.name.contains("down_proj");
        tensor.data.iter_mut().enumerate().filter(|(n, _)| reads && n % 2 == 0).for_each(|(_, x)| *x = 0.0);
    };
    let source = folder(&home.path().join("source"), &case, idle);
    let only = vec!["ffn_gate".parse().expect("a role")];
    let spec = PruneSpec { by: Criterion::Taylor, only, ..spec("channels=0.5") };
    let out = home.path().join("out");
    let asked = recipe(spec, Container::Safetensors);
    let error = compress(&source, &asked, &out, None).expect_err("no text");
    assert!(error.to_string().contains("--calibration"), "{error}");
    let small = pruned(&source, &asked, &out, &text(96)).expect("a folder");
    assert_eq!(small.model.decoder().expect("a decoder").ffn, 48);
    let original = import::open(&source).expect("opens").model;
    let (worst, _) = testkit::max_abs_difference(&logits(&small.model, 24), &logits(&original, 24));
    assert!(worst <= TOLERANCE, "differs by {worst}");
}

#[test]
fn what_is_left_is_encoded_in_the_same_run() {
    let home = TempDir::new().expect("a folder");
    let source = home.path().join("source");
    common::write_model(&source);
    let imported = import::open(&source).expect("opens");
    let text = text(320);
    let proof = engine::Text { name: "days".into(), text: common::text() };
    let options = Options { calibration: Some(&text), text: Some(&proof), ..Options::default() };
    let steps = vec![Step::Prune(spec("layers=1"))];
    for goal in [Goal::Preset("q4_0".parse().expect("a preset")), Goal::Bpw("9bpw".parse().expect("a rate"))] {
        let mut asked = Recipe { steps: steps.clone(), ..Recipe::new(goal) };
        asked.calibration.text = vec!["numbers".into()];
        let plan = engine::plan(&imported, &asked, &options).unwrap_or_else(|e| panic!("{e}"));
        let out = home.path().join(format!("{}.gguf", plan.mix));
        let done = engine::compress(&imported, &plan, &out, &options, &Quiet).unwrap_or_else(|e| panic!("{e}"));
        let artifact = import::open(&out).expect("opens").model;
        assert_eq!(artifact.decoder().expect("a decoder").layers.len(), 1);
        let block = |w: &graph::Weight| matches!(w.encoding, codec::Encoding::Block(_));
        assert!(artifact.weights.iter().any(|(_, w)| w.place.layer.is_some() && block(w)), "{}", plan.mix);
        let (journal, plan) = (done.journal, done.plan);
        assert!(plan.mix.starts_with("prune-") && plan.recipe == asked, "{}", plan.mix);
        assert_eq!(plan.tensors.len(), journal.tensors.len());
        assert!(journal.tensors.iter().any(|t| t.fitted.is_some()), "codes were chosen on text");
        assert_eq!(journal.network.expect("counted").steps.len(), 1);
        assert!(journal.proof.quality.expect("measured").kld.mean.value > 0.01, "measured against the whole model");
        assert!(journal.proof.bpw < 20.0, "of what is left: {}", journal.proof.bpw);
    }
    let divergence = Recipe { steps, ..Recipe::new(Goal::Divergence(0.1)) };
    let error = engine::plan(&imported, &divergence, &options).expect_err("no such search");
    assert!(matches!(error, EngineError::Plan(PlanError::StepsThenDivergence)), "{error}");
}

#[test]
fn what_cannot_be_is_refused_with_a_remedy() {
    let home = TempDir::new().expect("a folder");
    let golden = |name: &str| folder(&home.path().join(name), &testkit::golden_dir("logits").join(name), |_| ());
    let (dense, mixture) = (golden("llama"), golden("mixtral"));
    let choose = |path: &Path, budget: &str, windows: &[Vec<u32>]| {
        whole::choose(&import::open(path).expect("opens").model, &spec(budget), windows, &|_| ()).err()
    };
    let windows = text(96).windows;
    assert!(matches!(choose(&dense, "layers=9", &windows), Some(PruneError::TooMany { before: 3, .. })));
    assert!(matches!(choose(&dense, "layers=0.1", &windows), Some(PruneError::TooFew { least: 1, .. })));
    assert!(matches!(choose(&dense, "layers=3", &windows), Some(PruneError::Met)));
    assert!(matches!(choose(&dense, "layers=2", &[]), Some(PruneError::NeedsText { of: "layers", .. })));
    assert!(matches!(choose(&dense, "experts=0.5", &windows), Some(PruneError::NoExperts)));
    assert!(matches!(choose(&mixture, "experts=5", &windows), Some(PruneError::TooMany { before: 4, .. })));
    assert!(matches!(choose(&mixture, "experts=1", &windows), Some(PruneError::TooFew { least: 2, .. })));
    assert!(matches!(choose(&mixture, "experts=0.5", &[]), Some(PruneError::NeedsText { of: "experts", .. })));
    let network = testkit::data_dir().map(|data| data.join("mnist_cnn_burn/mnist.onnx")).filter(|path| path.exists());
    if let Some(network) = network {
        assert!(matches!(choose(&network, "layers=2", &windows), Some(PruneError::NoDecoder { .. })));
    }
    // Three of four heads of a width of 64: transformers would refuse the folder, llama.cpp would not.
    let three = PruneSpec { only: vec!["attn_q".parse().expect("a role")], ..spec("channels=0.75") };
    let wide = home.path().join("wide");
    let config = fs::read_to_string(dense.join("config.json")).expect("there");
    fs::write(home.path().join("one.json"), config.replace("\"num_key_value_heads\": 2", "\"num_key_value_heads\": 1"))
        .expect("written");
    let file = home.path().join("one.json");
    write(&wide, &file, &tensors(&file, cases::Experts::Apart), u64::MAX);
    fs::write(wide.join("tokenizer.json"), tokenizer().json()).expect("written");
    let out = home.path().join("out");
    let error = compress(&wide, &recipe(three.clone(), Container::Safetensors), &out, None).expect_err("no multiple");
    assert!(matches!(error, EngineError::Unsayable { .. }) && error.to_string().contains("gguf"), "{error}");
    compress(&wide, &recipe(three, Container::Gguf), &out, None).unwrap_or_else(|e| panic!("{e}"));
}
