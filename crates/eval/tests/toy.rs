//! Perplexity and divergence of models whose answers are known.

use eval::{EvalError, LanguageModel, Setup, compare, perplexity};
use plan::Protocol;
use std::ops::Range;

/// Likes the id after the one that it read last by `sharpness`, and knows nothing else.
struct Counting {
    vocab: usize,
    sharpness: f32,
}

impl LanguageModel for Counting {
    type Hidden = Vec<u32>;

    fn vocab(&self) -> usize {
        self.vocab
    }

    fn read(&mut self, windows: &[&[u32]]) -> Result<Vec<Vec<u32>>, EvalError> {
        Ok(windows.iter().map(|w| w.to_vec()).collect())
    }

    fn logits(&mut self, hidden: &Vec<u32>, rows: Range<usize>) -> Result<Vec<f32>, EvalError> {
        let (vocab, sharpness) = (self.vocab, self.sharpness);
        let liked = |row: usize| (hidden[row] + 1) as usize % vocab;
        Ok(rows.flat_map(|r| (0..vocab).map(move |i| if i == liked(r) { sharpness } else { 0.0 })).collect())
    }
}

fn text() -> Vec<u32> {
    (0..4000u32).map(|i| (i + i / 7) % 50).collect()
}

fn at_threads<T: Send>(threads: usize, f: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(f)
}

#[test]
fn a_model_that_knows_nothing_has_the_perplexity_of_its_vocabulary() {
    let mut model = Counting { vocab: 50, sharpness: 0.0 };
    for protocol in [Protocol::Llama { context: 64 }, Protocol::Strided { context: 64, stride: 16 }] {
        let result = perplexity(&mut model, &text(), &Setup::new("count", protocol), &mut |_| {}).unwrap();
        assert!((result.perplexity.value - 50.0).abs() < 1e-9, "{protocol}: {}", result.perplexity);
        assert!(result.nll.error < 1e-9);
    }
}

#[test]
fn results_are_the_same_bits_at_any_number_of_threads_and_any_grouping() {
    let run = |threads: usize, together: usize| {
        at_threads(threads, || {
            let (mut r, mut m) = (Counting { vocab: 50, sharpness: 3.0 }, Counting { vocab: 50, sharpness: 2.5 });
            let setup =
                Setup { threads: 0, together, ..Setup::new("count", Protocol::Strided { context: 64, stride: 32 }) };
            compare(&mut r, &mut m, &text(), &setup, &mut |_| {}).unwrap()
        })
    };
    let one = run(1, 1);
    assert_eq!(one, run(2, 5));
    assert_eq!(one, run(4, 1000));
    // Both like the same id; the divergence of every token is that of the two known distributions.
    let p = |s: f64| (s.exp() / (s.exp() + 49.0), 1.0 / (s.exp() + 49.0));
    let ((a, b), (c, d)) = (p(3.0), p(2.5));
    let kld = a * (a / c).ln() + 49.0 * b * (b / d).ln();
    assert!((one.kld.mean.value - kld).abs() < 1e-12 && (one.kld.p999 - kld).abs() < 1e-12);
    assert_eq!((one.top1.value, one.conditions.scored), (1.0, 3999));
    assert!((one.model.value / one.reference.value - 1.0 - one.ppl_increase.value).abs() < 1e-12);
}

#[test]
fn models_that_cannot_be_compared_are_refused() {
    let (mut a, mut b) = (Counting { vocab: 50, sharpness: 1.0 }, Counting { vocab: 40, sharpness: 1.0 });
    let setup = Setup::new("count", Protocol::Llama { context: 64 });
    let error = compare(&mut a, &mut b, &text(), &setup, &mut |_| {}).unwrap_err();
    assert!(matches!(error, EvalError::Vocabulary { reference: 50, model: 40 }));
    let error = perplexity(&mut b, &text(), &setup, &mut |_| {}).unwrap_err();
    assert!(matches!(error, EvalError::Id { vocab: 40, .. }), "{error}");
    let mut broken = Counting { vocab: 50, sharpness: f32::NAN };
    let error = perplexity(&mut broken, &text(), &setup, &mut |_| {}).unwrap_err();
    assert!(matches!(error, EvalError::NotANumber { token: 0 }), "{error}");
}
