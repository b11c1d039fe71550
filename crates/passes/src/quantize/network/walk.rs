//! Two runs side by side, the original and the network that is being rounded, from product to product: what each product
//! reads in both tells how to round its weights, and what its bias must make up for.
//!
//! Products read rows: a linear layer those of its input, a convolution a patch for each output position. Of all positions
//! of all samples so many are looked at, evenly spread, as the method needs; the same in both runs.

use super::QuantizeError;
use calib::ranges::batches;
use calib::{Depth, First, Inputs, Lane, Samples};
use exec::Tensor;
use graph::ops::{Conv, Span};
use graph::{Dim, Graph, Model, Node, Op, Size, ValueId, WeightStore};
use plan::{QuantizeSpec, Rounding};

/// Bytes of waiting values of both runs together, about.
const WAITING: usize = 512 << 20;
/// Rows that means are taken of, at least.
const ROWS: usize = 4096;
/// Rows for each column of a Hessian, and most of them.
const ROWS_PER_COLUMN: usize = 4;
const MOST_ROWS: usize = 16_384;

/// What a product reads, for each of its groups of outputs.
pub(super) struct Evidence {
    /// One for each group.
    pub groups: Vec<Columns>,
}

/// What the products of a group of outputs read.
pub(super) struct Columns {
    /// Squares, where they are asked for.
    pub inputs: Inputs,
    /// Mean of each column in the original.
    pub original: Vec<f32>,
    /// Mean of each column in the rounded network.
    pub rounded: Vec<f32>,
}

/// See the module.
pub(super) struct Walk {
    original: Side,
    rounded: Side,
    depth: Depth,
}

struct Side {
    graph: Graph,
    lane: Lane,
    /// The next node to run.
    at: usize,
}

impl Walk {
    /// Begins at the inputs; `original` is the network without grids, `rounded` the same with its values on theirs.
    pub fn new(
        original: &Model,
        rounded: &Model,
        samples: &dyn Samples,
        spec: &QuantizeSpec,
    ) -> Result<Walk, QuantizeError> {
        let depth = if spec.round != Rounding::Nearest { Depth::Drift } else { Depth::Columns };
        let side = |model: &Model| {
            let graph = model.graph().ok_or(QuantizeError::NoNetwork)?.clone();
            let samples = First { of: samples, count: affordable(&graph) };
            let lane = Lane::of_samples(&graph, &model.weights, &samples, batches(&graph, &samples)?)?;
            Ok::<_, QuantizeError>(Side { graph, lane, at: 0 })
        };
        Ok(Walk { original: side(original)?, rounded: side(rounded)?, depth })
    }

    /// Goes on to a product and looks at what it reads.
    pub fn evidence(&mut self, node: &str) -> Result<Evidence, QuantizeError> {
        let (before, after) = (self.original.advance(node)?, self.rounded.advance(node)?);
        let reading = Reading::of(&self.rounded.graph, self.rounded.node(node)?)?;
        let samples: usize = (0..self.rounded.lane.batches())
            .map(|batch| self.rounded.lane.value(batch, after).map(|x| x.shape().first().copied().unwrap_or(1)))
            .sum::<Result<_, _>>()?;
        let wanted = match self.depth {
            Depth::Columns => ROWS,
            _ => (ROWS_PER_COLUMN * reading.columns()).clamp(ROWS, MOST_ROWS),
        };
        let step = (samples * reading.positions() / wanted).max(1);
        let mut groups: Vec<Columns> =
            (0..reading.groups).map(|_| Columns::new(reading.columns(), self.depth)).collect();
        for batch in 0..self.rounded.lane.batches() {
            let (x, rounded) = (self.original.lane.value(batch, before)?, self.rounded.lane.value(batch, after)?);
            for (group, columns) in groups.iter_mut().enumerate() {
                columns.see(&reading.rows(&rounded, group, step), &reading.rows(&x, group, step));
            }
        }
        groups.iter_mut().for_each(Columns::finish);
        Ok(Evidence { groups })
    }

    /// Takes the weights of the rounded network over.
    pub fn set_weights(&mut self, weights: &WeightStore) -> Result<(), QuantizeError> {
        Ok(self.rounded.lane.set_weights(weights)?)
    }
}

/// How many samples may wait.
fn affordable(graph: &Graph) -> usize {
    let one = Size { batch: 1, tokens: 1 };
    let largest = graph.values().iter().map(|v| one.elements(&v.shape)).max().unwrap_or(1);
    let fixed = graph.inputs().first().and_then(|v| graph.values()[v.0].shape.first()?.fixed());
    // A value, what a shortcut keeps of one, and what comes out, in both runs.
    (WAITING / (2 * 3 * 4 * largest.max(1))).max(fixed.unwrap_or(1)).max(8)
}

impl Side {
    fn node(&self, name: &str) -> Result<&Node, QuantizeError> {
        let at = self.graph.find(name).ok_or(QuantizeError::NoNetwork)?;
        Ok(&self.graph.nodes()[at])
    }

    /// Runs all that comes before a node; returns what it reads.
    fn advance(&mut self, name: &str) -> Result<ValueId, QuantizeError> {
        let to = self.graph.find(name).ok_or(QuantizeError::NoNetwork)?;
        if self.at < to {
            self.lane.advance(self.at..to)?;
            self.at = to;
        }
        Ok(self.graph.nodes()[to].inputs[0])
    }
}

impl Columns {
    fn new(width: usize, depth: Depth) -> Columns {
        Columns { inputs: Inputs::new(width, depth), original: vec![0.0; width], rounded: vec![0.0; width] }
    }

    fn see(&mut self, rounded: &[f32], original: &[f32]) {
        let width = self.inputs.width().max(1);
        for (sums, rows) in [(&mut self.original, original), (&mut self.rounded, rounded)] {
            rows.chunks_exact(width).for_each(|row| sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x));
        }
        self.inputs.see_pair(rounded, original);
    }

    /// Sums become means.
    fn finish(&mut self) {
        let rows = self.inputs.tokens().max(1) as f32;
        self.original.iter_mut().chain(&mut self.rounded).for_each(|sum| *sum /= rows);
    }
}

/// How a product reads its input: `[batch, channels, height, width]` through windows, or rows.
struct Reading {
    groups: usize,
    /// Channels of a group.
    channels: usize,
    spans: [Span; 2],
    /// Height and width of input and output.
    input: [usize; 2],
    output: [usize; 2],
}

const POINT: Span = Span { size: 1, stride: 1, dilation: 1, pad: [0, 0] };

impl Reading {
    fn of(graph: &Graph, node: &Node) -> Result<Reading, QuantizeError> {
        let (input, output) = (&graph.values()[node.inputs[0].0].shape, &graph.values()[node.outputs[0].0].shape);
        let Op::Conv(op) = &node.op else {
            let width = input.last().and_then(|d| d.fixed()).unwrap_or(1);
            let rows = input.iter().skip(1).rev().skip(1).filter_map(|d| d.fixed()).product();
            return Ok(Reading { groups: 1, channels: width, spans: [POINT; 2], input: [rows, 1], output: [rows, 1] });
        };
        let plane = |shape: &[Dim]| match shape.get(2..) {
            Some([Dim::Fixed(width)]) => Some([1, *width]),
            Some([Dim::Fixed(height), Dim::Fixed(width)]) => Some([*height, *width]),
            _ => None,
        };
        let open = || QuantizeError::Open { node: node.name.clone() };
        let channels = input.get(1).and_then(|d| d.fixed()).ok_or_else(open)? / op.groups.max(1);
        let (input, output) = (plane(input).ok_or_else(open)?, plane(output).ok_or_else(open)?);
        Ok(Reading { groups: op.groups.max(1), channels, spans: spans(op), input, output })
    }

    /// Numbers in a row.
    fn columns(&self) -> usize {
        self.channels * self.spans[0].size * self.spans[1].size
    }

    /// Rows of a sample.
    fn positions(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// Every so-manieth row that a group reads of a batch.
    fn rows(&self, x: &Tensor, group: usize, step: usize) -> Vec<f32> {
        let samples = x.shape().first().copied().unwrap_or(1);
        let plane = self.input[0] * self.input[1];
        let of_sample = x.data().len() / samples.max(1);
        let mut rows = Vec::new();
        for at in (0..samples * self.positions()).step_by(step) {
            let (sample, position) = (at / self.positions(), at % self.positions());
            let data = &x.data()[sample * of_sample..][..of_sample];
            if self.is_linear() {
                rows.extend_from_slice(&data[position * self.channels..][..self.channels]);
                continue;
            }
            let corner = [position / self.output[1], position % self.output[1]];
            for channel in group * self.channels..(group + 1) * self.channels {
                self.patch(&data[channel * plane..][..plane], corner, &mut rows);
            }
        }
        rows
    }

    /// Rows of a linear layer lie one behind the other, not channel by channel.
    fn is_linear(&self) -> bool {
        self.groups == 1 && self.spans == [POINT; 2] && self.input[1] == 1 && self.input == self.output
    }

    /// The window at an output position of one channel; zeros beyond its edges.
    fn patch(&self, plane: &[f32], corner: [usize; 2], out: &mut Vec<f32>) {
        let place = |axis: usize, k: usize| {
            let span = &self.spans[axis];
            (corner[axis] * span.stride + k * span.dilation).checked_sub(span.pad[0]).filter(|i| *i < self.input[axis])
        };
        for ky in 0..self.spans[0].size {
            let y = place(0, ky);
            for kx in 0..self.spans[1].size {
                let inside = y.zip(place(1, kx)).map(|(y, x)| plane[y * self.input[1] + x]);
                out.push(inside.unwrap_or(0.0));
            }
        }
    }
}

/// The windows of both axes; one of a single axis has no height.
fn spans(op: &Conv) -> [Span; 2] {
    match op.window[..] {
        [height, width] => [height, width],
        [width] => [POINT, width],
        _ => [POINT; 2],
    }
}
