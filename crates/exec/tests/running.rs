//! All ways to run a graph agree; threads change nothing; bad input is named.

mod common;

use common::Decoder;
use exec::{
    Compute, Error, Executor, Grads, KvCache, Options, Recompute, Residency, Sampling, Tap, Tensor, generate, sample,
};
use graph::{NodeId, Op, Place, Role, Weight};

const RICH: Decoder = Decoder { rich: true, moe: true, tied: false, ..Decoder::TINY };

fn executor(decoder: Decoder, options: Options) -> Executor {
    let (graph, weights) = decoder.build();
    Executor::new(&graph, &weights, options).expect("one input, one output")
}

/// Logits in chunks, put together.
fn chunked(executor: &mut Executor, batches: &[Tensor<u32>]) -> Vec<Vec<f32>> {
    let mut all = vec![Vec::new(); batches.len()];
    let see = &mut |batch: usize, rows: std::ops::Range<usize>, logits: &[f32]| {
        assert_eq!(all[batch].len(), rows.start * (logits.len() / rows.len()), "rows come in order");
        all[batch].extend_from_slice(logits);
    };
    executor.forward_many(batches, see).expect("runs");
    all
}

#[test]
fn every_way_to_run_gives_the_same_logits() {
    for decoder in [RICH, Decoder { fused: true, ..Decoder::TINY }] {
        let batches = [common::ids(23, 2, 90), common::ids(23, 1, 7)];
        let mut resident = executor(decoder, Options::default());
        let whole = batches.each_ref().map(|ids| resident.forward(ids).expect("runs").into_data());
        assert_eq!(chunked(&mut resident, &batches), whole);
        for residency in [Residency::Block, Residency::Bytes(9000)] {
            let mut streamed = executor(decoder, Options { residency, ..Options::default() });
            assert_eq!(chunked(&mut streamed, &batches), whole);
            let budget = if residency == Residency::Block { 0 } else { 9000 };
            assert!(streamed.weights().held_bytes() <= budget, "weights beyond the budget stay");
        }
        let mut tapped = Vec::new();
        let logits = resident.forward_with_taps(&batches[0], &mut |tap| {
            if let Tap::Inputs { node, .. } = tap {
                tapped.push(node);
            }
        });
        assert_eq!(logits.expect("runs").data(), whole[0]);
        assert_eq!(tapped, (0..resident.graph().nodes().len()).map(NodeId).collect::<Vec<_>>());
    }
}

#[test]
fn blocks_run_one_by_one() {
    let ids = common::ids(23, 2, 5);
    let mut executor = executor(RICH, Options { residency: Residency::Block, ..Options::default() });
    let whole = executor.forward(&ids).expect("runs");
    let mut values = executor.start(&ids).expect("ids");
    for range in executor.segments().to_vec() {
        assert_eq!(executor.inputs_of(&range).len(), 1);
        values = executor.run_range(range, values).expect("runs");
        assert_eq!(values.len(), 1, "only what is read later is kept");
    }
    values = executor.run_range(executor.head(), values).expect("runs");
    let logits = values.into_values().next().and_then(|data| data.float().cloned()).expect("logits");
    assert_eq!(*logits, whole);

    let mut all = [executor.start(&ids).expect("ids"), executor.start(&ids).expect("ids")];
    let mut seen = [0; 2];
    for range in executor.segments().to_vec() {
        let tap = &mut |batch: usize, tap: Tap<'_>| seen[batch] += usize::from(matches!(tap, Tap::Inputs { .. }));
        executor.run_range_many(range, &mut all, Some(tap)).expect("runs");
    }
    assert_eq!(seen, [executor.head().start; 2]);
    let hidden = executor.forward_hidden(&ids).expect("runs");
    let rows = executor.logits(&hidden, 3..9).expect("runs");
    testkit::assert_close(rows.data(), &whole.data()[3 * 23..9 * 23], 1e-5);
    assert!(matches!(executor.logits(&hidden, 3..11), Err(Error::Rows { rows: 10, .. })));
}

#[test]
fn taps_see_what_experts_multiply() {
    let mut executor = executor(RICH, Options::default());
    let mut rows = std::collections::BTreeMap::new();
    let tap = &mut |tap: Tap<'_>| {
        if let Tap::Expert { weight, width, rows: seen, .. } = tap {
            *rows.entry(weight).or_insert(0) += seen.len() / width;
        }
    };
    executor.forward_with_taps(&common::ids(23, 2, 30), tap).expect("runs");
    assert_eq!(rows.values().sum::<usize>(), 3 * 2 * 60, "two experts for each token, three matrices each");
}

#[test]
fn the_cache_gives_the_logits_of_the_whole() {
    // In f64, so that only a wrong cache differs: products of few rows and of many round differently in f32.
    let close = |got: &[f64], expected: &[f64]| {
        assert_eq!(got.len(), expected.len());
        let worst = got.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(worst < 1e-12, "differ by {worst}");
    };
    let ids = common::ids(23, 2, 20);
    let (graph, weights) = RICH.build();
    let mut executor = Executor::<f64>::new(&graph, &weights, Options::default()).expect("one input, one output");
    let whole = executor.forward(&ids).expect("runs");
    let mut cache = KvCache::new(executor.graph(), 2, 20);
    let part = |range: std::ops::Range<usize>| {
        let rows = (0..2).flat_map(|sample| &ids.data()[20 * sample..][range.clone()]).copied().collect();
        Tensor::ids(2, rows).expect("the count fits")
    };
    let mut cached = vec![Vec::new(); 2];
    for range in [0..9, 9..10, 10..11, 11..20] {
        let logits = executor.forward_cached(&part(range), &mut cache).expect("runs");
        let half = logits.data().len() / 2;
        cached[0].extend_from_slice(&logits.data()[..half]);
        cached[1].extend_from_slice(&logits.data()[half..]);
    }
    close(&cached.concat(), whole.data());
    cache.truncate(19);
    let last = executor.prefill(&part(19..20), &mut cache).expect("runs");
    close(last.data(), &[&cached[0][19 * 23..], &cached[1][19 * 23..]].concat());
    assert!(matches!(executor.prefill(&part(0..1), &mut cache), Err(Error::CacheFull { past: 20, new: 1, .. })));
    let one = common::ids(23, 1, 1);
    assert!(matches!(executor.prefill(&one, &mut cache), Err(Error::CacheBatch { batch: 2, got: 1 })));
}

#[test]
fn threads_change_nothing() {
    let decoder = Decoder { hidden: 64, ffn: 160, vocab: 300, head_dim: 16, ..RICH };
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        pool.install(|| {
            let ids = common::ids(300, 3, 150);
            let mut executor = executor(decoder, Options::default());
            let logits = executor.forward(&ids).expect("runs").into_data();
            let mut grads = Grads::default();
            executor.loss_and_grads(&ids, ids.data(), 0.01, Recompute::Nothing, &mut grads).expect("trains");
            let mut half = executor_bf16(decoder);
            (logits, grads.iter().map(|(_, g)| g.to_vec()).collect::<Vec<_>>(), half.forward(&ids).expect("runs"))
        })
    };
    let one = run(1);
    assert!(run(2) == one && run(4) == one);
}

fn executor_bf16(decoder: Decoder) -> Executor {
    executor(decoder, Options { compute: Compute::Bf16, residency: Residency::All })
}

#[test]
fn bf16_products_are_close() {
    let ids = common::ids(23, 2, 20);
    let exact = executor(Decoder::TINY, Options::default()).forward(&ids).expect("runs");
    let mut half = executor_bf16(Decoder::TINY);
    let near = half.forward(&ids).expect("runs");
    let square = |xs: &mut dyn Iterator<Item = f32>| xs.map(|x| x * x).sum::<f32>();
    let error = square(&mut near.data().iter().zip(exact.data()).map(|(a, b)| a - b));
    assert!(error > 0.0 && error < 1e-3 * square(&mut exact.data().iter().copied()), "off by {error}");
    let refused = half.loss_and_grads(&ids, ids.data(), 1.0, Recompute::Nothing, &mut Grads::default());
    assert!(matches!(refused, Err(Error::Half { .. })));
}

#[test]
fn text_is_generated() {
    let mut executor = executor(Decoder::TINY, Options::default());
    let mut text = |sampling| {
        let mut tokens = Vec::new();
        generate(&mut executor, &[1, 2, 3], 12, sampling, &mut |token| {
            tokens.push(token);
            tokens.len() < 10
        })
        .expect("runs");
        tokens
    };
    let greedy = text(Sampling::Greedy);
    let random = |temperature, top_k, seed| Sampling::Random { temperature, top_k, top_p: 0.95, seed };
    assert_eq!(greedy.len(), 10);
    assert_eq!(text(random(0.7, Some(1), 3)), greedy, "the best of one is the best");
    assert_eq!(text(random(1.5, None, 3)), text(random(1.5, None, 3)));
    assert_ne!(text(random(1.5, None, 3)), text(random(1.5, None, 4)));
}

#[test]
fn samples_follow_the_probabilities() {
    let logits = [0.0f32, 2.0, 1.0, f32::NEG_INFINITY];
    let counts = |top_k, top_p| {
        let mut counts = [0; 4];
        for position in 0..20_000 {
            let sampling = Sampling::Random { temperature: 1.0, top_k, top_p, seed: 7 };
            counts[sample(&logits, sampling, position).expect("numbers") as usize] += 1;
        }
        counts.map(|n| f64::from(n) / 20_000.0)
    };
    let close = |got: [f64; 4], expected: [f64; 4]| {
        assert!(got.iter().zip(expected).all(|(a, b)| (a - b).abs() < 0.015), "{got:?} is not {expected:?}");
    };
    close(counts(None, 1.0), [0.090, 0.665, 0.245, 0.0]);
    close(counts(Some(2), 1.0), [0.0, 0.731, 0.269, 0.0]);
    close(counts(None, 0.8), [0.0, 0.731, 0.269, 0.0]);
    close(counts(None, 0.5), [0.0, 1.0, 0.0, 0.0]);
    let cold = Sampling::Random { temperature: 0.0, top_k: None, top_p: 1.0, seed: 0 };
    assert!(matches!(sample(&logits, cold, 0), Err(Error::Temperature(_))));
    assert!(matches!(sample(&[0.0, f32::NAN], Sampling::Greedy, 0), Err(Error::Logits)));
}

#[test]
fn changed_weights_are_read_again() {
    let (graph, mut weights) = Decoder::TINY.build();
    let mut executor = Executor::<f32>::new(&graph, &weights, Options::default()).expect("one input, one output");
    let ids = common::ids(23, 1, 4);
    let before = executor.forward(&ids).expect("runs");
    let id = weights.find("1.down.weight").expect("a weight of the decoder");
    let old = weights.get(id).clone();
    let other = vec![0.0; old.elements()];
    weights.insert(Weight::from_f32(&old.name, old.place, old.shape.clone(), &other).expect("zeros"));
    executor.set_weights(&weights).expect("the same shapes");
    let after = executor.forward(&ids).expect("runs");
    assert_ne!(before, after);
    weights.replace(id, old.encoding, vec![1, 1], old.source.clone());
    assert!(matches!(executor.set_weights(&weights), Err(Error::Reshaped { .. })));
    weights.insert(Weight::from_f32(&old.name, old.place, old.shape.clone(), &other).expect("zeros"));
    let mut fresh = Executor::<f32>::new(&graph, &weights, Options::default()).expect("one input, one output");
    assert_eq!(after, fresh.forward(&ids).expect("runs"));
}

#[test]
fn bad_input_is_named() {
    let mut runs = executor(Decoder::TINY, Options::default());
    let bad = runs.forward(&Tensor::ids(1, vec![1, 5000]).expect("two ids")).expect_err("no such token");
    assert_eq!(bad.to_string(), "token id 5000 ≥ vocabulary 23 (node `embed`)");
    assert!(matches!(runs.forward(&Tensor::ids(0, vec![]).expect("no ids")), Err(Error::Value { .. })));
    assert!(matches!(Tensor::ids(2, vec![1, 2, 3]), Err(Error::Shape { .. })));
    let ids = common::ids(23, 1, 3);
    let mut grads = Grads::default();
    let short = runs.loss_and_grads(&ids, &[1], 1.0, Recompute::Nothing, &mut grads);
    assert!(matches!(short, Err(Error::Targets { targets: 1, tokens: 3 })));
    let range = runs.graph().blocks()[1].nodes.clone();
    assert!(matches!(runs.run_range(range.clone(), Default::default()), Err(Error::Missing { .. })));
    let input = *runs.inputs_of(&range).first().expect("a block reads something");
    let narrow = Tensor::new(vec![1, 3, 11], vec![0.0; 33]).expect("the count fits");
    assert!(matches!(runs.run_range(range, [(input, narrow.into())].into()), Err(Error::Value { .. })));

    let (graph, mut weights) = Decoder::TINY.build();
    let place = Place::outer(Role::Other);
    let nan = Weight::from_f32("0.q.weight", place, vec![16, 12], &[f32::NAN; 192]).expect("f32 holds any number");
    weights.insert(nan);
    let mut broken = Executor::<f32>::new(&graph, &weights, Options::default()).expect("one input, one output");
    let error = broken.forward(&ids).expect_err("not a number").to_string();
    assert!(error.starts_with("weight `0.q.weight`: element 0 is NaN"), "{error}");
    assert!(graph.nodes().iter().any(|n| matches!(n.op, Op::Rope(_))));
}
