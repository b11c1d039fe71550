//! Gradients of a whole model: forward by segments, the head in chunks of rows fused with the loss, backward by segments.
//!
//! With [`Recompute::Blocks`] only what goes into each segment is kept, and its forward runs again before its backward
//! (Chen et al. 2016): a third more arithmetic for the memory of one block.

use crate::backward::{self, Grads, Sink, Tape};
use crate::forward::Along;
use crate::{Error, Executor, Scalar, Tensor, Values};
use graph::ValueId;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

pub use kernels::IGNORE;

/// What is kept of the forward for the backward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Recompute {
    /// All that the backward reads.
    #[default]
    Nothing,
    /// What goes into each block; the rest is computed again.
    Blocks,
}

/// What was kept of one segment.
enum Kept<R> {
    Tape(Tape<R>),
    Inputs(Values<R>),
}

impl<R: Scalar> Executor<R> {
    /// The summed cross-entropy, in nats, of `targets` (one for each token; [`IGNORE`] counts for nothing). Adds the
    /// gradients of `weight · loss` to `grads`.
    pub fn loss_and_grads(
        &mut self,
        ids: &Tensor<u32>,
        targets: &[u32],
        weight: R,
        recompute: Recompute,
        grads: &mut Grads<R>,
    ) -> Result<f64, Error> {
        let tokens = ids.data().len();
        if targets.len() != tokens {
            return Err(Error::Targets { targets: targets.len(), tokens });
        }
        let vocab = self.vocabulary();
        if let Some(id) = targets.iter().find(|t| **t != IGNORE && **t as usize >= vocab) {
            return Err(Error::Token { node: "targets".into(), id: *id, vocab });
        }
        let mut total = 0.0;
        let mut losses = Vec::new();
        let loss = &mut |rows: Range<usize>, logits: &mut [R]| {
            losses.resize(rows.len(), 0.0);
            kernels::cross_entropy_grad(logits, &targets[rows], vocab, weight, &mut losses);
            total += losses.iter().sum::<f64>();
        };
        self.backprop(ids, recompute, loss, grads)?;
        Ok(total)
    }

    /// Gradients of any loss of the logits: `loss(rows, logits)` replaces the logits of these rows, counted over
    /// `[batch · tokens]`, by the gradient of the loss with respect to them. Adds to `grads`.
    pub fn backprop(
        &mut self,
        ids: &Tensor<u32>,
        recompute: Recompute,
        loss: &mut dyn FnMut(Range<usize>, &mut [R]),
        grads: &mut Grads<R>,
    ) -> Result<(), Error> {
        let trains = self.trains.clone();
        let wanted = backward::wanted(&self.graph, 0..self.graph.nodes().len(), &[], &trains);
        let mut values = self.start(ids)?;
        let mut kept = Vec::new();
        for range in self.schedule.segments.clone() {
            kept.push((range.clone(), self.forward_kept(range, &mut values, recompute)?));
        }
        let hidden = self.hidden(&values)?;
        drop(values);
        let mut of_values = BTreeMap::new();
        let mut sink = Sink { of_values: &mut of_values, of_weights: grads, wanted: &wanted, trains: &trains };
        let dhidden = self.head_backward(hidden, loss, &mut sink)?;
        sink.of_values.insert(self.head_input(), dhidden);
        for (range, kept) in kept.into_iter().rev() {
            let tape = self.tape_of(range.clone(), kept)?;
            self.machine().run_back(range, tape, &mut sink)?;
        }
        Ok(())
    }

    fn forward_kept(
        &mut self,
        range: Range<usize>,
        values: &mut Values<R>,
        recompute: Recompute,
    ) -> Result<Kept<R>, Error> {
        match recompute {
            Recompute::Nothing => {
                let mut tape = Tape::default();
                self.machine().run(range, values, &mut Along { tape: Some(&mut tape), ..Along::nothing() })?;
                Ok(Kept::Tape(tape))
            }
            Recompute::Blocks => {
                let inputs = self.inputs_of(&range);
                let inputs = values.iter().filter(|(id, _)| inputs.contains(id)).map(|(id, d)| (*id, d.clone()));
                let inputs = inputs.collect();
                self.machine().run(range, values, &mut Along::nothing())?;
                Ok(Kept::Inputs(inputs))
            }
        }
    }

    fn tape_of(&mut self, range: Range<usize>, kept: Kept<R>) -> Result<Tape<R>, Error> {
        match kept {
            Kept::Tape(tape) => Ok(tape),
            Kept::Inputs(mut values) => {
                let mut tape = Tape::default();
                let mut machine = self.machine();
                machine.hold = true;
                machine.run(range, &mut values, &mut Along { tape: Some(&mut tape), ..Along::nothing() })?;
                Ok(tape)
            }
        }
    }

    /// The head and the loss, chunk by chunk; returns the gradient of what goes into the head.
    fn head_backward(
        &mut self,
        hidden: Arc<Tensor<R>>,
        loss: &mut dyn FnMut(Range<usize>, &mut [R]),
        sink: &mut Sink<'_, R>,
    ) -> Result<Tensor<R>, Error> {
        let (input, head) = (self.head_input(), self.head());
        let width = hidden.width();
        let mut dhidden = self.pool.tensor(hidden.shape().to_vec());
        let wanted: BTreeSet<ValueId> = sink.wanted.iter().copied().chain([input]).collect();
        for rows in self.chunks(hidden.rows()) {
            let mut tape = Tape::default();
            let mut logits = self.head_of(&hidden, rows.clone(), Some(&mut tape))?;
            loss(rows.clone(), logits.data_mut());
            sink.of_values.insert(self.output, logits);
            let mut part = Sink { of_values: sink.of_values, of_weights: sink.of_weights, wanted: &wanted, ..*sink };
            let mut machine = self.machine();
            machine.hold = true;
            machine.run_back(head.clone(), tape, &mut part)?;
            let Some(grad) = sink.of_values.remove(&input) else {
                return Err(Error::Missing { value: self.graph.values()[input.0].name.clone() });
            };
            dhidden.data_mut()[rows.start * width..rows.end * width].copy_from_slice(grad.data());
            self.pool.give(grad.into_data());
        }
        self.weights_mut().end_block();
        self.pool.recycle_float(hidden);
        Ok(dhidden)
    }

    /// Length of a row of logits.
    pub fn vocabulary(&self) -> usize {
        match self.graph.values()[self.output.0].shape.last() {
            Some(graph::Dim::Fixed(vocab)) => *vocab,
            _ => 0,
        }
    }
}
