//! More indices around each axis. Each axis is a table of which input an output reads, if any; backward, gradients go back there.

use super::Rule;
use crate::backward::Backward;
use crate::forward::Forward;
use crate::{Data, Error, Scalar};
use graph::ops::{Pad, PadKind};
use kernels::{Walk, Write, strides};

/// The runs of an axis: `count` outputs from `to` on read inputs from `from` on, in steps.
struct Run {
    to: usize,
    from: usize,
    step: isize,
    count: usize,
}

/// What the outputs of an axis of `length` read.
fn runs(kind: PadKind, length: usize, [before, after]: [usize; 2]) -> Vec<Run> {
    let inside = Run { to: before, from: 0, step: 1, count: length };
    let last = length.saturating_sub(1);
    match kind {
        PadKind::Constant(_) => vec![inside],
        PadKind::Edge => vec![
            Run { to: 0, from: 0, step: 0, count: before },
            inside,
            Run { to: before + length, from: last, step: 0, count: after },
        ],
        PadKind::Reflect => vec![
            Run { to: 0, from: before, step: -1, count: before },
            inside,
            Run { to: before + length, from: last.saturating_sub(1), step: -1, count: after },
        ],
    }
}

/// Every combination of runs, as walks from input to output.
fn walks(op: &Pad, input: &[usize], output: &[usize]) -> Vec<Walk> {
    let (from, to) = (strides(input), strides(output));
    let start = Walk { shape: vec![], from: vec![], to: vec![], from_start: 0, to_start: 0 };
    input.iter().zip(&op.pads).enumerate().fold(vec![start], |walks, (axis, (length, pads))| {
        let extend = |walk: &Walk| {
            let runs = runs(op.kind, *length, *pads).into_iter().filter(|run| run.count > 0);
            let one = |run: Run| Walk {
                shape: [&walk.shape[..], &[run.count]].concat(),
                from: [&walk.from[..], &[from[axis] * run.step]].concat(),
                to: [&walk.to[..], &[to[axis]]].concat(),
                from_start: walk.from_start + run.from * from[axis].unsigned_abs(),
                to_start: walk.to_start + run.to * to[axis].unsigned_abs(),
            };
            runs.map(one).collect::<Vec<_>>()
        };
        walks.iter().flat_map(extend).collect()
    })
}

fn output(op: &Pad, input: &[usize]) -> Vec<usize> {
    input.iter().zip(&op.pads).map(|(length, [before, after])| before + length + after).collect()
}

/// A mirror shows no more than there is.
fn check(op: &Pad, node: &str, input: &[usize]) -> Result<(), Error> {
    let beyond = |(length, pads): (&usize, &[usize; 2])| pads.iter().any(|pad| pad >= length && *pad > 0);
    match op.kind == PadKind::Reflect && input.iter().zip(&op.pads).any(beyond) {
        true => Err(Error::Unrunnable {
            node: node.into(),
            reason: format!("{:?} mirrors more than {input:?} holds", op.pads),
        }),
        false => Ok(()),
    }
}

impl<R: Scalar> Rule<R> for Pad {
    fn forward(&self, cx: &mut Forward<'_, R>) -> Result<Vec<Data<R>>, Error> {
        let x = cx.float(0)?;
        check(self, &cx.node.name, x.shape())?;
        let mut y = cx.pool.tensor(output(self, x.shape()));
        if let PadKind::Constant(value) = self.kind {
            y.data_mut().fill(R::from_f32(value));
        }
        for walk in walks(self, x.shape(), &output(self, x.shape())) {
            kernels::walk(&walk, x.data(), y.data_mut(), Write::Set);
        }
        Ok(vec![y.into()])
    }

    fn backward(&self, cx: &mut Backward<'_, R>) -> Result<(), Error> {
        let (dy, shape) = (cx.grad(0)?, cx.shape(0)?.to_vec());
        cx.input_grad(0, &shape, |dx, write| {
            if write == Write::Set {
                dx.fill(R::ZERO);
            }
            for walk in walks(self, &shape, dy.shape()) {
                kernels::walk(&walk.reversed(), dy.data(), dx, Write::Add);
            }
        });
        cx.recycle(dy);
        Ok(())
    }
}
