//! Promise: transforms find their partners in every family, change no logits, and make encodings lose less; a run with
//! them that is killed goes on to the same bytes.

mod common;
mod golden;

use engine::{Calibration, EngineError, Options, Progress, Quiet, Unit, compress, plan};
use exec::{Executor, Tensor};
use golden::model;
use graph::{Model, Role};
use passes::partners::{Refusal, Site, folds, streams};
use passes::transform::rotate::rotate;
use plan::Recipe;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

const TOKENS: usize = 24;
const TOLERANCE: f32 = 1e-4;

/// A tiny model of every configuration at hand, with random weights.
fn models() -> Vec<(String, Model)> {
    let cases = fs::read_dir(testkit::golden_dir("logits")).unwrap().map(|e| e.unwrap().path());
    let mut cases: Vec<_> = cases.filter(|p| p.is_dir()).collect();
    cases.sort();
    assert!(cases.len() >= 14, "golden cases are missing");
    let named = |p: &Path| (p.file_name().unwrap().to_string_lossy().into_owned(), model(&p.join("config.json")));
    cases.iter().map(|p| named(p)).collect()
}

fn logits(model: &Model) -> Vec<f32> {
    let vocab = model.decoder().unwrap().vocab;
    let ids = (0..TOKENS).map(|i| ((37 * i + 11) % vocab) as u32).collect();
    let mut executor: Executor<f32> =
        Executor::new(model.graph().unwrap(), &model.weights, exec::Options::default()).unwrap();
    executor.forward(&Tensor::new(vec![1, TOKENS], ids).unwrap()).unwrap().data().to_vec()
}

/// Roles of some weights, sorted.
fn roles(model: &Model, ids: impl Iterator<Item = graph::WeightId>) -> Vec<Role> {
    let mut roles: Vec<Role> = ids.map(|id| model.weights.get(id).place.role).collect();
    roles.sort();
    roles.dedup();
    roles
}

#[test]
fn every_fold_of_every_family_leaves_the_logits_as_they_are() {
    for (name, mut model) in models() {
        let (graph, before) = (model.graph().unwrap().clone(), logits(&model));
        for (n, (_, fold)) in folds(&model, &graph, &(0..graph.nodes().len())).into_iter().enumerate() {
            let Ok(fold) = fold else { continue };
            let scale = |i: &usize| 1.0 + ((i * 7 + n) % 5) as f32 * 0.3;
            let scale: Vec<f32> = fold.index.iter().map(scale).collect();
            let patch = fold.patch(&model, &scale);
            assert!(patch.len() >= 2);
            model.apply(patch).unwrap();
        }
        let (worst, _) = testkit::max_abs_difference(&logits(&model), &before);
        assert!(worst <= TOLERANCE, "{name}: differs by {worst}");
    }
}

#[test]
fn partners_are_those_that_the_papers_name() {
    for (name, model) in models() {
        let (graph, config) = (model.graph().unwrap(), model.decoder().unwrap());
        let block = &graph.blocks()[0].nodes;
        let found = folds(&model, graph, block);
        let of = |readers: &[Role]| {
            let fold = found.iter().filter_map(|(_, fold)| fold.as_ref().ok());
            let mut all = fold.filter(|f| roles(&model, f.readers.iter().copied()) == readers);
            let writers = |f: &passes::partners::Fold| roles(&model, f.writers.iter().map(|(w, _)| *w));
            all.next().map(writers)
        };
        let qkv: &[Role] = if config.fused_qkv { &[Role::AttnQkv] } else { &[Role::AttnQ, Role::AttnK, Role::AttnV] };
        assert_eq!(of(qkv), Some(vec![Role::AttnNorm]), "{name}");
        let value = if config.fused_qkv { Role::AttnQkv } else { Role::AttnV };
        assert_eq!(of(&[Role::AttnOut]), Some(vec![value]), "{name}");
        if config.layers[0].moe {
            assert_eq!(of(&[Role::ExpertDown]), Some(vec![Role::ExpertUp]), "{name}");
            assert_eq!(
                of(&[Role::Router, Role::ExpertGate, Role::ExpertUp]),
                Some(vec![Role::FfnNorm]),
                "{name}: the router reads what the experts read"
            );
        } else {
            let up = if config.fused_gate_up { Role::FfnGateUp } else { Role::FfnUp };
            assert_eq!(of(&[Role::FfnDown]), Some(vec![up]), "{name}");
        }
        let shared = found.iter().filter_map(|(_, f)| f.as_ref().ok()).find(|f| f.mixes > 1).unwrap();
        let repeated = shared.index.len() / config.head_dim;
        assert_eq!((shared.mixes, repeated), (config.head_dim, config.heads), "{name}");
        let kv: std::collections::BTreeSet<_> = shared.index.iter().collect();
        assert_eq!(kv.len(), config.kv_heads * config.head_dim, "{name}: query heads share a value head's scales");
    }
}

#[test]
fn rotation_leaves_the_logits_as_they_are_and_says_where_it_cannot_be() {
    for (name, model) in models() {
        let config = model.decoder().unwrap();
        let stream = streams(&model, model.graph().unwrap()).pop().unwrap();
        match &stream {
            Ok(stream) => {
                assert!(!config.tied && !config.post_norms, "{name}");
                assert_eq!((stream.width, stream.norms.len()), (config.hidden, 2 * config.layers.len() + 1), "{name}");
            }
            Err(Refusal::Shared { weight }) => assert!(config.tied && weight.contains("embed"), "{name}"),
            Err(Refusal::Reader { node, .. }) => assert!(config.post_norms && node.contains("add"), "{name}"),
            Err(other) => panic!("{name}: {other}"),
        }
        let (rotated, notes) = rotate(&model, 3).unwrap();
        assert_eq!(notes.len(), usize::from(stream.is_err()), "{name}: {notes:?}");
        let (worst, _) = testkit::max_abs_difference(&logits(&rotated), &logits(&model));
        assert!(worst <= TOLERANCE, "{name}: differs by {worst}");
        let changed = |id| rotated.weights.get(id).read().unwrap() != model.weights.get(id).read().unwrap();
        let (id, _) = model.weights.iter().find(|(_, w)| w.place.role == Role::AttnOut).unwrap();
        assert!(changed(id), "{name}: heads are turned");
        // Reading some rows, as executors do, and all, as solvers do.
        for (id, weight) in rotated.weights.iter() {
            let all = weight.read().unwrap();
            assert_eq!(weight.read_rows(0..1).unwrap(), all[..weight.cols()], "{}", model.weights.get(id).name);
        }
    }
}

#[test]
fn sites_without_partners_say_why() {
    let tied = models().into_iter().find(|(_, m)| m.decoder().unwrap().tied).unwrap().1;
    let graph = tied.graph().unwrap();
    let head = graph.nodes().len() - 1;
    let value = graph.nodes().iter().rev().find(|n| matches!(n.op, graph::Op::Linear(_))).unwrap().inputs[0];
    let found = folds(&tied, graph, &(0..head + 1)).into_iter().find(|(site, _)| *site == Site::Value(value));
    let refusal = found.unwrap().1.unwrap_err();
    assert!(matches!(&refusal, Refusal::Shared { weight } if weight.contains("embed")), "{refusal}");
}

/// Dies after so many weights.
struct Dies(AtomicU64);

impl Progress for Dies {
    fn begin(&self, _: &str, _: u64, _: Unit) {}

    fn advance(&self, _: u64) {
        assert!(self.0.fetch_sub(1, Ordering::Relaxed) > 1, "killed");
    }

    fn end(&self) {}
}

fn calibration() -> Calibration {
    let window = |w: u32| (0..32).map(|i| (w * 31 + i * i * 7 + i) % 320).collect();
    Calibration { name: "numbers".into(), windows: (0..16).map(window).collect(), chosen: None }
}

#[test]
fn a_killed_run_with_transforms_goes_on_to_the_same_bytes() {
    let home = tempfile::tempdir().unwrap();
    common::write_model(&home.path().join("model"));
    let (source, calibration) = (import::open(&home.path().join("model")).unwrap(), calibration());
    let options = Options { threads: Some(2), calibration: Some(&calibration), ..Options::default() };
    for (n, method) in ["round", "search"].into_iter().enumerate() {
        let recipe = format!("preset = \"w4a16\"\nmethod = \"{method}\"\ntransforms = [\"rotate\", \"awq\"]");
        let plan = plan(&source, &Recipe::parse(&recipe).unwrap(), &options).unwrap();
        let (whole, killed) = (home.path().join(format!("whole{n}")), home.path().join(format!("killed{n}")));
        let journal = compress(&source, &plan, &whole, &options, &Quiet).unwrap().journal;
        assert!(journal.notes.iter().any(|note| note.what.contains("not rotated")), "{:?}", journal.notes);
        let worst = journal.tensors.iter().map(|t| t.relative_error).fold(0.0, f64::max);
        assert!(worst < 0.25, "errors are those against the transformed weights: {worst}");
        let dies = Dies(AtomicU64::new(if method == "round" { 1 } else { 10 }));
        assert!(catch_unwind(AssertUnwindSafe(|| compress(&source, &plan, &killed, &options, &dies))).is_err());
        let one = Options { threads: Some(1), ..options };
        compress(&source, &plan, &killed, &one, &Quiet).unwrap();
        let bytes = |folder: &Path| fs::read(folder.join("model.safetensors")).unwrap();
        assert!(bytes(&whole) == bytes(&killed), "{method}: other bytes after going on");
    }
}

#[test]
fn transforms_that_learn_need_text() {
    let home = tempfile::tempdir().unwrap();
    common::write_model(&home.path().join("model"));
    let source = import::open(&home.path().join("model")).unwrap();
    let recipe = Recipe::parse("preset = \"int8\"\nmethod = \"round\"\ntransforms = [\"smooth\"]").unwrap();
    let options = Options::default();
    let plan = plan(&source, &recipe, &options).unwrap();
    let refused = compress(&source, &plan, &home.path().join("out"), &options, &Quiet);
    assert!(matches!(refused, Err(EngineError::NoText { .. })));
}
