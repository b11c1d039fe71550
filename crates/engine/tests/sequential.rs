//! Promise: every matrix is fitted to what reaches it, or named; learned rounding lowers the error of a block, with the
//! same bytes at any number of threads.

mod golden;

use graph::{Buffer, Model, Patch, Source};
use passes::quantize::refine::refine;
use passes::quantize::sequential::{Job, Options, Sequential, SequentialError, Solved};
use plan::{Experts, Method, Mode};
use std::sync::Arc;

/// A tiny model of a family.
fn tiny(name: &str) -> Model {
    golden::model(&testkit::golden_dir("logits").join(name).join("config.json"))
}

/// All matrices of the blocks of a model, encoded by a method.
fn solve(model: &Model, method: Method, experts: Experts, windows: &[Vec<u32>]) -> Vec<Solved> {
    let encoding = plan::encoding("int4-g32").unwrap();
    let factors: Vec<_> = model.graph().unwrap().nodes().iter().flat_map(|n| n.op.spec().factors()).collect();
    let inner = model.weights.iter().filter(|(id, w)| w.place.layer.is_some() && factors.contains(id));
    let jobs: Vec<Job> = inner.map(|(weight, _)| Job { weight, encoding, method }).collect();
    let options = Options { spill: None, limit: 1 << 30, mode: Mode::Sequential, experts, transforms: &[] };
    let mut walk = Sequential::new(model, model.clone(), &jobs, windows, options).unwrap();
    let mut solved = Vec::new();
    for segment in walk.segments() {
        let nodes = &model.graph().unwrap().nodes()[segment.clone()];
        let here: Vec<_> = nodes.iter().flat_map(|n| n.op.spec().factors()).collect();
        let jobs: Vec<Job> = jobs.iter().filter(|j| here.contains(&j.weight)).copied().collect();
        let keep = &mut |weight: Solved| {
            let of = model.weights.get(weight.job.weight);
            solved.push(weight.clone());
            Ok::<Arc<dyn Source>, SequentialError>(Arc::new(Buffer::new(&of.name[..], of.rows(), weight.parts)))
        };
        walk.quantize(&segment, &jobs, keep).unwrap();
    }
    assert_eq!(solved.len(), jobs.len());
    solved
}

fn windows(model: &Model, count: usize, length: usize) -> Vec<Vec<u32>> {
    let vocab = model.decoder().unwrap().vocab;
    (0..count).map(|w| (0..length).map(|i| ((w * 131 + 37 * i + i * i) % vocab) as u32).collect()).collect()
}

#[test]
fn experts_that_no_token_reaches_are_rounded_and_named_or_see_all_tokens() {
    let model = tiny("qwen3_moe");
    let windows = windows(&model, 1, 2);
    let experts = |solved: Vec<Solved>| -> Vec<Solved> {
        solved.into_iter().filter(|s| model.weights.get(s.job.weight).place.role.is_expert()).collect()
    };
    let routed = experts(solve(&model, Method::Descent, Experts::Routed, &windows));
    let unseen: Vec<_> = routed.iter().filter(|s| s.tokens == 0).collect();
    assert!(!unseen.is_empty() && unseen.len() < routed.len(), "{} of {}", unseen.len(), routed.len());
    for solved in unseen {
        assert_eq!(solved.job.method, Method::Round);
        assert!(solved.notes[0].contains("no token"), "{:?}", solved.notes);
    }
    let all = experts(solve(&model, Method::Descent, Experts::All, &windows));
    assert!(all.iter().all(|s| s.tokens >= 2 && s.job.method == Method::Descent));
}

#[test]
fn learned_rounding_lowers_the_error_of_blocks_at_any_number_of_threads() {
    let model = tiny("llama");
    let windows = windows(&model, 8, 32);
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| solve(&model, Method::SignRound, Experts::Routed, &windows))
    };
    let one = with(1);
    let notes: Vec<&String> = one.iter().flat_map(|s| &s.notes).filter(|n| n.contains("learned rounding")).collect();
    assert_eq!(notes.len(), model.graph().unwrap().blocks().len());
    assert!(notes.iter().any(|n| !n.contains("not kept")), "{notes:?}");
    let descent = solve(&model, Method::Descent, Experts::Routed, &windows);
    assert!(one.iter().zip(&descent).any(|(a, b)| a.parts != b.parts));
    let four = with(4);
    assert!(one.iter().zip(&four).all(|(a, b)| a.parts == b.parts), "four threads give other bytes than one");
}

#[test]
fn tokens_of_experts_are_counted_before_anything_is_fitted() {
    let model = tiny("qwen3_moe");
    let (windows, config) = (windows(&model, 2, 16), model.decoder().unwrap());
    let mut blocks = 0;
    let graph = model.graph().unwrap();
    let found = calib::coverage(graph, &model.weights, config.vocab, &windows, &mut || blocks += 1).unwrap();
    let top_k = config.experts.as_ref().unwrap().used;
    assert!(!found.is_empty() && blocks >= found.len());
    assert!(found.values().all(|tokens| tokens.iter().sum::<u64>() == (32 * top_k) as u64), "{found:?}");
}

#[test]
fn refining_lowers_divergence_on_text_it_did_not_learn_from_at_any_number_of_threads() {
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/novels-4m");
    let imported = import::open(std::path::Path::new(shipped)).unwrap();
    let (model, tokenizer) = (&imported.model, imported.tokenizer().unwrap());
    let names = ["The old man", "A child", "Her sister", "The captain"];
    let text: String = (0..120).map(|i| format!("{} saw the house of {}. ", names[i % 4], names[i / 5 % 3])).collect();
    let windows: Vec<Vec<u32>> = tokenizer.encode(&text).unwrap().chunks_exact(32).map(<[u32]>::to_vec).collect();
    let encoding = plan::encoding("int4-g32").unwrap();
    let inner = model.weights.iter().filter(|(_, w)| w.place.layer.is_some() && w.shape.len() == 2);
    let jobs: Vec<Job> = inner.map(|(weight, _)| Job::round(weight, encoding)).collect();
    let round = |patch: Patch, job: &Job| patch.and(passes::quantize::round::apply(model, job.weight, encoding, None));
    let mut rounded = model.clone();
    rounded.apply(jobs.iter().fold(Patch::default(), round)).unwrap();
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let models = (model, &rounded, model.graph().unwrap());
        pool.install(|| refine(models, &jobs, &windows, 8, &mut || ()).unwrap())
    };
    let one = with(1);
    assert!(one.divergence.1 < one.divergence.0, "{:?}", one.divergence);
    assert_eq!(one.parts.len(), jobs.len());
    let four = with(4);
    assert!(one.parts.iter().zip(&four.parts).all(|(a, b)| a.1 == b.1), "four threads give other bytes than one");
}
