//! Means with their standard errors, and quantiles; sums run in the order of the tokens.

use plan::{Divergence, Estimate};

/// Mean and its standard error.
pub(crate) fn mean(values: impl Iterator<Item = f64> + Clone) -> Estimate {
    let count = values.clone().count() as f64;
    let value = values.clone().sum::<f64>() / count;
    let variance = values.map(|v| (v - value) * (v - value)).sum::<f64>() / (count - 1.0).max(1.0);
    Estimate { value, error: (variance / count).sqrt() }
}

/// The estimate of `exp(x)`.
pub(crate) fn exp(x: Estimate) -> Estimate {
    Estimate { value: x.value.exp(), error: x.value.exp() * x.error }
}

/// A quantile of sorted values, between neighbours where it falls between them.
pub(crate) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let position = share * last as f64;
    let (below, above) = (position.floor() as usize, (position.ceil() as usize).min(last));
    sorted[below] + (position - below as f64) * (sorted[above] - sorted[below])
}

pub(crate) fn divergence(klds: &[f64]) -> Divergence {
    let mut sorted = klds.to_vec();
    sorted.sort_by(f64::total_cmp);
    Divergence {
        mean: mean(klds.iter().copied()),
        median: quantile(&sorted, 0.5),
        p99: quantile(&sorted, 0.99),
        p999: quantile(&sorted, 0.999),
        max: quantile(&sorted, 1.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_carry_their_standard_error() {
        let Estimate { value, error } = mean([1.0, 2.0, 3.0, 4.0].into_iter());
        assert_eq!(value, 2.5);
        assert!((error - (5.0f64 / 3.0 / 4.0).sqrt()).abs() < 1e-15);
    }

    #[test]
    fn quantiles_lie_between_neighbours() {
        let sorted = [0.0, 1.0, 2.0, 10.0];
        assert_eq!((quantile(&sorted, 0.5), quantile(&sorted, 1.0), quantile(&sorted, 0.0)), (1.5, 10.0, 0.0));
        assert!(quantile(&[], 0.5).is_nan());
    }
}
