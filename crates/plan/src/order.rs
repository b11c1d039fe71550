//! Two orders of the same steps, measured on held-out samples.

use crate::{Accuracy, Estimate};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What was found of both orders.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ordering {
    /// Each step alone, beside the source; recovery goes with the step before it.
    pub alone: Vec<Ordered>,
    /// The order that was asked for, and the other way round.
    pub orders: [Ordered; 2],
    /// Share of samples that the first order has right, less that of the second; the error is that of paired samples. None
    /// where one of them cannot be carried out.
    pub advantage: Option<Estimate>,
}

/// Steps in an order, and what they left.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ordered {
    /// Names, in order: `prune-recover-quantize`.
    pub steps: String,
    /// Beside the source.
    pub accuracy: Option<Accuracy>,
    /// Why they cannot be carried out so.
    pub refused: Option<String>,
}

impl Ordered {
    /// Share of samples that were lost.
    fn lost(&self) -> Option<f64> {
        Some(self.accuracy.as_ref()?.against?.lost?.value)
    }
}

/// What can be said.
impl fmt::Display for Ordering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second] = &self.orders;
        match self.advantage {
            Some(Estimate { value, error }) => {
                let [value, low, high] = [value, value - 1.96 * error, value + 1.96 * error].map(|x| 100.0 * x);
                let interval = format!(
                    "{first} over {second}: {value:+.2} points, 95 % of the time {low:+.2} to {high:+.2}",
                    first = first.steps,
                    second = second.steps
                );
                let better = match (low > 0.0, high < 0.0) {
                    (true, _) => format!("{} is better", first.steps),
                    (_, true) => format!("{} is better", second.steps),
                    _ => "these samples cannot tell them apart".to_owned(),
                };
                write!(f, "{better} ({interval}){}", self.prior())
            }
            None => {
                let refused = self.orders.iter().find_map(|o| Some(format!("{}: {}", o.steps, o.refused.as_ref()?)));
                write!(f, "only one order can be carried out; {}", refused.unwrap_or_default())
            }
        }
    }
}

impl Ordering {
    /// What is to be expected: the step that loses less alone goes first (the progressive intensity hypothesis).
    fn prior(&self) -> String {
        match &self.alone[..] {
            [a, b] => match (a.lost(), b.lost()) {
                (Some(x), Some(y)) if x != y => {
                    format!("; expected, since it loses less alone: {} first", if x < y { &a.steps } else { &b.steps })
                }
                _ => String::new(),
            },
            _ => String::new(),
        }
    }
}
