//! Divergence of a model that differs from the original in one unit: only what follows the unit is run again.

use super::windows;
use crate::quality::resident;
use crate::{Calibration, EngineError, Options};
use eval::EvalError;
use exec::{Executor, Residency, Tensor, Values};
use graph::Model;
use std::ops::Range;

/// Windows that are measured on.
const WINDOWS: usize = 8;
/// Tokens of each, at most.
const TOKENS: usize = 128;
/// Logits of the original that are kept: of so many tokens as they are enough for.
const LOGITS: usize = 1 << 23;

/// See the module.
pub(super) struct Bench {
    executor: Executor,
    original: Model,
    segments: Vec<Range<usize>>,
    /// What each segment starts from in the original, and what its head reads.
    waiting: Vec<Values>,
    logits: Tensor,
}

impl Bench {
    pub fn new(model: &Model, calibration: &Calibration, options: &Options<'_>) -> Result<Bench, EngineError> {
        let graph = model.graph().ok_or(EngineError::CannotGate { why: "the architecture is unknown".into() })?;
        let fits = 4 * model.parameters() as u64 <= resident(options.max_memory);
        let residency = if fits { Residency::All } else { Residency::Block };
        let settings = exec::Options { residency, ..exec::Options::default() };
        let mut executor = Executor::new(graph, &model.weights, settings).map_err(EvalError::from)?;
        let windows = windows(calibration, WINDOWS, TOKENS, 0.5);
        let ids = Tensor::ids(windows.len(), windows.concat()).map_err(EvalError::from)?;
        let segments = executor.segments().to_vec();
        let mut waiting = vec![executor.start(&ids).map_err(EvalError::from)?];
        for segment in &segments {
            let values = waiting.last().cloned().unwrap_or_default();
            waiting.push(executor.run_range(segment.clone(), values).map_err(EvalError::from)?);
        }
        let logits = logits(&mut executor, waiting.last())?;
        Ok(Bench { executor, original: model.clone(), segments, waiting, logits })
    }

    /// Mean divergence of a model in nats per token.
    pub fn loss(&mut self, changed: &Model) -> Result<f64, EvalError> {
        self.executor.set_weights(&changed.weights)?;
        let first = self.first(changed);
        let mut values = self.waiting[first].clone();
        for segment in &self.segments[first..] {
            values = self.executor.run_range(segment.clone(), values)?;
        }
        let after = logits(&mut self.executor, Some(&values))?;
        let mut losses = vec![0.0; after.rows()];
        kernels::kl_divergence(self.logits.data(), after.data(), after.width(), &mut losses);
        match losses.iter().position(|loss| !loss.is_finite()) {
            Some(token) => Err(EvalError::NotANumber { token }),
            None => Ok(losses.iter().sum::<f64>().max(0.0) / losses.len().max(1) as f64),
        }
    }

    /// The first segment that reads a weight that differs; the one behind the last where only the head does.
    fn first(&self, changed: &Model) -> usize {
        let differs =
            |id: &graph::WeightId| !std::sync::Arc::ptr_eq(self.original.weights.get(*id), changed.weights.get(*id));
        let nodes = self.executor.graph().nodes();
        let reads =
            |segment: &Range<usize>| nodes[segment.clone()].iter().any(|n| n.op.spec().weights().iter().any(differs));
        self.segments.iter().position(reads).unwrap_or(self.segments.len())
    }
}

/// Logits of tokens at even distances, of as many as may be kept.
fn logits(executor: &mut Executor, values: Option<&Values>) -> Result<Tensor, EvalError> {
    let hidden = executor.hidden(values.unwrap_or(&Values::new()))?;
    let (rows, width) = (hidden.rows(), hidden.width());
    let count = rows.min((LOGITS / executor.vocabulary().max(1)).max(1));
    let row = |i: usize| &hidden.data()[(2 * i + 1) * rows / (2 * count) * width..][..width];
    let some: Vec<f32> = (0..count).flat_map(|i| row(i).iter().copied()).collect();
    let some = Tensor::new(vec![1, count, width], some)?;
    Ok(executor.logits(&some, 0..count)?)
}
