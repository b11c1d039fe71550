//! What one row of logits says of the token that came: negative log-likelihood, divergence, agreement. All in f64.

/// One token under one model.
pub(crate) fn nll(logits: &[f32], target: u32) -> Option<f64> {
    let chosen = f64::from(*logits.get(target as usize)?);
    let nll = log_sum_exp(logits) - chosen;
    nll.is_finite().then_some(nll)
}

/// One token under a reference and a model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Pair {
    pub reference: f64,
    pub model: f64,
    pub kld: f64,
    pub same_top: bool,
}

/// Scores both models. With `r`, `m` the logits and `p` the reference's distribution, the divergence is
/// `Σ p (r − m) − lse(r) + lse(m)`: one pass and no logarithm of a small probability.
pub(crate) fn pair(reference: &[f32], model: &[f32], target: u32) -> Option<Pair> {
    let top = max(reference);
    let (mut sum, mut weighted) = (0.0, 0.0);
    for (r, m) in reference.iter().zip(model) {
        let (r, m) = (f64::from(*r), f64::from(*m));
        let e = (r - top).exp();
        sum += e;
        weighted += e * (r - m);
    }
    let (lse_reference, lse_model) = (top + sum.ln(), log_sum_exp(model));
    let kld = (weighted / sum - lse_reference + lse_model).max(0.0);
    let at = |logits: &[f32]| logits.get(target as usize).map(|l| f64::from(*l));
    let (of_reference, of_model) = (lse_reference - at(reference)?, lse_model - at(model)?);
    let finite = kld.is_finite() && of_reference.is_finite() && of_model.is_finite();
    let same_top = argmax(reference) == argmax(model);
    finite.then_some(Pair { reference: of_reference, model: of_model, kld, same_top })
}

fn log_sum_exp(logits: &[f32]) -> f64 {
    let top = max(logits);
    top + logits.iter().map(|l| (f64::from(*l) - top).exp()).sum::<f64>().ln()
}

/// NaN where any logit is: `max` alone would pass over it.
fn max(logits: &[f32]) -> f64 {
    f64::from(logits.iter().fold(f32::NEG_INFINITY, |a, b| if b.is_nan() { f32::NAN } else { a.max(*b) }))
}

/// The first of the largest.
fn argmax(logits: &[f32]) -> usize {
    logits.iter().enumerate().fold(0, |best, (i, l)| if *l > logits[best] { i } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_follow_the_definitions() {
        let (r, m) = ([1.0f32, 2.0, 0.5, -3.0], [0.5f32, 1.0, 2.5, -2.0]);
        let softmax = |l: &[f32]| {
            let sum: f64 = l.iter().map(|v| f64::from(*v).exp()).sum();
            l.iter().map(|v| f64::from(*v).exp() / sum).collect::<Vec<_>>()
        };
        let (p, q) = (softmax(&r), softmax(&m));
        let kld: f64 = p.iter().zip(&q).map(|(p, q)| p * (p / q).ln()).sum();
        let pair = pair(&r, &m, 2).unwrap();
        assert!((pair.kld - kld).abs() < 1e-12, "{} {kld}", pair.kld);
        assert!((pair.reference + p[2].ln()).abs() < 1e-12);
        assert!((pair.model + q[2].ln()).abs() < 1e-12);
        assert!((nll(&m, 2).unwrap() - pair.model).abs() < 1e-12);
        assert!(!pair.same_top);
    }

    #[test]
    fn a_model_does_not_diverge_from_itself() {
        let logits = [12.0f32, -80.0, 3.25, 11.9];
        let pair = pair(&logits, &logits, 0).unwrap();
        assert_eq!((pair.kld, pair.same_top), (0.0, true));
    }

    #[test]
    fn what_is_not_a_number_has_no_score() {
        assert_eq!(nll(&[1.0, f32::NAN], 0), None);
        assert_eq!(nll(&[f32::NAN, 1.0], 1), None);
        assert_eq!(pair(&[1.0, 2.0], &[f32::INFINITY, 0.0], 0), None);
        assert_eq!(nll(&[1.0], 1), None);
    }
}
