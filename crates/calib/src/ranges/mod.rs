//! Ranges of values that flow through a network, for the grids that they are to be rounded to.
//!
//! [`observe`] runs a network over samples and keeps a [`Seen`] of every value: its memory depends on how many values are
//! watched, not on how many samples there are. A [`Calibrator`] then chooses a range.
//!
//! | calibrator | range |
//! |---|---|
//! | min-max | all that was seen |
//! | moving average | exponential average of the batches' least and greatest numbers |
//! | percentile | without the outermost numbers of each side |
//! | MSE | the range with the least mean squared error of rounding and clipping together (Banner et al. 2019) |
//! | entropy | the clipping threshold whose rounded distribution is nearest to the original (Migacz, *8-bit Inference with TensorRT*, 2017) |

mod entropy;
mod histogram;
mod observe;
mod squared;

pub use histogram::{HALF, Histogram};
pub use observe::{ObserveError, batches, observe};

/// How fast a moving average forgets: the weight of a new batch.
const NEW: f64 = 0.1;

/// What was seen of a value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    histogram: Histogram,
    /// Averages of least and greatest, as sums of weighted batches, and the sum of the weights.
    average: [f64; 2],
    weight: f64,
}

impl Seen {
    /// Takes a batch of numbers in.
    pub fn see(&mut self, numbers: &[f32]) {
        self.histogram.see(numbers);
        let ends = numbers.iter().fold([0.0f32; 2], |[low, high], x| [low.min(*x), high.max(*x)]);
        for (sum, end) in self.average.iter_mut().zip(ends) {
            *sum = *sum * (1.0 - NEW) + f64::from(end) * NEW;
        }
        self.weight = self.weight * (1.0 - NEW) + NEW;
    }

    /// All numbers.
    pub fn histogram(&self) -> &Histogram {
        &self.histogram
    }
}

/// A way to choose a range.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Calibrator {
    /// All that was seen.
    #[default]
    MinMax,
    /// The average of the batches' extremes, later ones counting more.
    MovingAverage,
    /// So many percent of the numbers, the same share cut off at each end.
    Percentile(f64),
    /// Least mean squared error.
    Mse,
    /// Least relative entropy.
    Entropy,
}

impl Calibrator {
    /// The least and the greatest number of a grid of so many levels; zero lies between them.
    pub fn range(self, seen: &Seen, levels: usize) -> [f32; 2] {
        let histogram = &seen.histogram;
        match self {
            Calibrator::MinMax => histogram.range(),
            Calibrator::MovingAverage if seen.weight > 0.0 => seen.average.map(|sum| (sum / seen.weight) as f32),
            Calibrator::MovingAverage => [0.0; 2],
            Calibrator::Percentile(percent) => percentile(histogram, percent),
            Calibrator::Mse => squared::range(histogram, levels),
            Calibrator::Entropy => entropy::range(histogram),
        }
    }
}

/// Cuts the same share off at each end.
fn percentile(histogram: &Histogram, percent: f64) -> [f32; 2] {
    let cut = histogram.count() as f64 * (1.0 - percent.clamp(0.0, 100.0) / 100.0) / 2.0;
    let [low, high] = histogram.range();
    let sides = histogram.sides();
    let end = |side: &[u64], most: f32| {
        let mut left = cut;
        for (bin, count) in side.iter().enumerate().rev() {
            if (*count as f64) > left {
                // As far into the bin as its numbers are cut off.
                return most.min(histogram.width() * (bin as f32 + 1.0 - (left / *count as f64) as f32));
            }
            left -= *count as f64;
        }
        0.0
    };
    [-end(&sides[1], -low), end(&sides[0], high)]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Laplace-distributed numbers of scale 1, and one in ten thousand that is anything up to 40.
    fn laplace_with_outliers(count: usize) -> Vec<f32> {
        let uniform = |i: usize| ((i as f64 + 0.5) * 0.618_033_988_749_894_9).fract();
        let laplace = |i: usize| {
            let u = uniform(i) - 0.5;
            (-u.signum() * (1.0 - 2.0 * u.abs()).ln()) as f32
        };
        let outlier = |i: usize| (80.0 * uniform(i * 7 + 3) - 40.0) as f32;
        (0..count).map(laplace).chain((0..count / 10_000).map(outlier)).chain([40.0]).collect()
    }

    fn seen(numbers: &[f32]) -> Seen {
        let mut seen = Seen::default();
        numbers.chunks(1000).for_each(|part| seen.see(part));
        seen
    }

    #[test]
    fn entropy_searches() {
        for count in [100_000, 1_000_000] {
            let seen = seen(&laplace_with_outliers(count));
            assert_eq!(Calibrator::MinMax.range(&seen, 256)[1], 40.0);
            let [low, high] = Calibrator::Entropy.range(&seen, 256);
            assert!((8.7..=10.0).contains(&high) && low == -high, "{count}: {low} … {high}");
        }
    }

    #[test]
    fn one_sided_values_stay_one_sided() {
        let numbers: Vec<f32> = laplace_with_outliers(100_000).into_iter().map(|x| x.max(0.0)).collect();
        let seen = seen(&numbers);
        for calibrator in [Calibrator::Entropy, Calibrator::Mse, Calibrator::Percentile(99.99)] {
            let [low, high] = calibrator.range(&seen, 256);
            assert!(low == 0.0 && high > 4.0 && high < 39.0, "{calibrator:?}: {low} … {high}");
        }
    }

    #[test]
    fn percentiles_are_those_of_the_sorted_numbers() {
        let mut numbers = laplace_with_outliers(100_000);
        let seen = seen(&numbers);
        numbers.sort_by(f32::total_cmp);
        for percent in [99.0, 99.9, 100.0] {
            let [low, high] = Calibrator::Percentile(percent).range(&seen, 256);
            let cut = (numbers.len() as f64 * (1.0 - percent / 100.0) / 2.0) as usize;
            let near = |a: f32, b: f32| (a - b).abs() <= seen.histogram().width();
            assert!(near(low, numbers[cut]) && near(high, numbers[numbers.len() - 1 - cut]), "{percent}");
        }
    }

    #[test]
    fn mse_beats_min_max_and_neighbours() {
        let numbers = laplace_with_outliers(20_000);
        let seen = seen(&numbers);
        let error = |[low, high]: [f32; 2]| {
            let scale = (high - low) / 15.0;
            let zero = (-low / scale).round();
            let round = |x: f32| ((x / scale).round() + zero).clamp(0.0, 15.0) - zero;
            numbers.iter().map(|x| f64::from(x - round(*x) * scale).powi(2)).sum::<f64>()
        };
        let best = Calibrator::Mse.range(&seen, 16);
        let found = error(best);
        assert!(found < 0.5 * error(Calibrator::MinMax.range(&seen, 16)));
        for factor in [0.8, 0.9, 1.1, 1.2] {
            assert!(found <= 1.02 * error(best.map(|end| end * factor)), "{factor}");
        }
    }

    #[test]
    fn values_that_are_always_zero_have_an_empty_range() {
        let seen = seen(&[0.0; 10]);
        for calibrator in [Calibrator::MinMax, Calibrator::MovingAverage, Calibrator::Entropy, Calibrator::Mse] {
            assert_eq!(calibrator.range(&seen, 256), [0.0; 2], "{calibrator:?}");
        }
    }
}
