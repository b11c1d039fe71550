//! Which nodes of a network run on codes, and which of its values therefore lie on grids.
//!
//! Products, pools, and what joins their outputs run on codes; what has no kernel, and what stands only between such, stays
//! in float. A value next to any node on codes gets one grid; values that an op only moves share one.

use super::kernels::{Kernel, is_product, kernel};
use calib::ranges::Seen;
use graph::ops::Activation;
use graph::{Graph, Kind, Node, Op, ValueId};
use std::collections::BTreeMap;

/// See the module.
pub struct Placement {
    /// By node: whether it runs on codes.
    pub on_codes: Vec<bool>,
    /// Nodes that only clamp and go, because the grid behind them does.
    pub clamps: Vec<usize>,
    /// Values that share a grid; each is on one.
    pub groups: Vec<Vec<ValueId>>,
}

/// Chooses for a graph without grids; `keep`: nodes that stay in float.
pub fn place(graph: &Graph, seen: &BTreeMap<ValueId, Seen>, keep: &dyn Fn(&Node) -> bool) -> Placement {
    let kernels: Vec<Kernel> = graph.nodes().iter().map(|node| kernel(graph, node)).collect();
    let mut place = Placer { graph, kernels, on_codes: vec![false; graph.nodes().len()], makers: makers(graph) };
    for (at, node) in graph.nodes().iter().enumerate() {
        place.on_codes[at] = !keep(node) && place.forward(at, node);
    }
    for (at, node) in graph.nodes().iter().enumerate().rev() {
        place.on_codes[at] |= !keep(node) && place.backward(at, node);
    }
    let clamps: Vec<usize> = (0..graph.nodes().len()).filter(|at| place.absorbed(*at)).collect();
    let groups = place.groups(&clamps, seen);
    Placement { on_codes: place.on_codes, clamps, groups }
}

/// The node that makes each value.
fn makers(graph: &Graph) -> BTreeMap<ValueId, usize> {
    let outputs = |(at, node): (usize, &Node)| node.outputs.iter().map(move |v| (*v, at)).collect::<Vec<_>>();
    graph.nodes().iter().enumerate().flat_map(outputs).collect()
}

struct Placer<'a> {
    graph: &'a Graph,
    kernels: Vec<Kernel>,
    on_codes: Vec<bool>,
    makers: BTreeMap<ValueId, usize>,
}

impl Placer<'_> {
    fn maker(&self, value: ValueId) -> Option<usize> {
        self.makers.get(&value).copied()
    }

    fn is_constant(&self, value: ValueId) -> bool {
        self.maker(value).is_some_and(|at| matches!(self.graph.nodes()[at].op, Op::Constant(_)))
    }

    fn is_output(&self, value: ValueId) -> bool {
        self.graph.outputs().contains(&value)
    }

    /// Whether a value is an output of the network, or is only moved into one.
    fn ends(&self, value: ValueId) -> bool {
        let moved = |at: usize| {
            self.kernels[at] == Kernel::Moves && self.graph.nodes()[at].outputs.iter().all(|v| self.ends(*v))
        };
        let mut readers = self.graph.readers(value).peekable();
        self.is_output(value) || (readers.peek().is_some() && readers.all(moved))
    }

    /// Whether a node runs on codes because of what it is, or of what comes before it.
    fn forward(&self, at: usize, node: &Node) -> bool {
        let from_codes = |value: &ValueId| self.maker(*value).is_some_and(|at| self.on_codes[at]);
        match self.kernels[at] {
            // A function that only makes an output of the network is as well off in float.
            Kernel::Codes(_) if matches!(node.op, Op::Softmax(_) | Op::Activation(_)) => {
                node.inputs.iter().all(from_codes) && !node.outputs.iter().any(|v| self.ends(*v))
            }
            Kernel::Codes(_) if is_product(&node.op) || matches!(node.op, Op::Pool(_) | Op::Reduce(_)) => true,
            Kernel::Codes(_) | Kernel::Moves | Kernel::Clamps => node.inputs.iter().any(from_codes),
            Kernel::None { .. } => false,
        }
    }

    /// Whether a node that moves an input of the network brings it to nodes on codes alone.
    fn backward(&self, at: usize, node: &Node) -> bool {
        let to_codes = |value: &ValueId| {
            let mut readers = self.graph.readers(*value).peekable();
            readers.peek().is_some() && readers.all(|at| self.on_codes[at]) && !self.is_output(*value)
        };
        self.kernels[at] == Kernel::Moves && node.outputs.iter().all(to_codes)
    }

    /// Whether a clamp goes: it alone reads what a kernel on codes makes.
    fn absorbed(&self, at: usize) -> bool {
        let node = &self.graph.nodes()[at];
        let Some(input) = node.inputs.first().filter(|_| self.on_codes[at] && self.kernels[at] == Kernel::Clamps)
        else {
            return false;
        };
        let by_kernel = |maker: usize| self.on_codes[maker] && matches!(self.kernels[maker], Kernel::Codes(_));
        self.maker(*input).is_some_and(by_kernel) && self.graph.readers(*input).count() == 1 && !self.is_output(*input)
    }

    /// Whether a value lies on a grid: something on codes reads or makes it, and it is not handed on unrounded.
    fn on_grid(&self, value: ValueId, clamps: &[usize]) -> bool {
        if self.graph.values()[value.0].kind != Kind::Float || self.is_constant(value) {
            return false;
        }
        let mut readers = self.graph.readers(value);
        if readers.any(|at| clamps.contains(&at)) {
            return false;
        }
        let read = self.graph.readers(value).any(|at| self.on_codes[at]);
        let made = self.maker(value).filter(|at| self.on_codes[*at]);
        // Products can give their sums out as they are.
        read || made.is_some_and(|at| !matches!(self.graph.nodes()[at].op, Op::Linear(_)))
    }

    /// Values on grids, joined where an op moves them.
    fn groups(&self, clamps: &[usize], seen: &BTreeMap<ValueId, Seen>) -> Vec<Vec<ValueId>> {
        let count = self.graph.values().len();
        let mut sets = Sets::new(count);
        let on_grid: Vec<bool> = (0..count).map(|v| self.on_grid(ValueId(v), clamps)).collect();
        let moving = |at: &usize| self.on_codes[*at] && self.kernels[*at] == Kernel::Moves;
        for at in (0..self.graph.nodes().len()).filter(moving) {
            let node = &self.graph.nodes()[at];
            let ends: Vec<ValueId> =
                node.inputs.iter().chain(&node.outputs).copied().filter(|v| on_grid[v.0]).collect();
            ends.windows(2).for_each(|pair| sets.join(pair[0].0, pair[1].0));
        }
        self.join_concats(&mut sets, &on_grid, seen);
        let mut groups: BTreeMap<usize, Vec<ValueId>> = BTreeMap::new();
        for value in (0..count).filter(|v| on_grid[*v]) {
            groups.entry(sets.root(value)).or_default().push(ValueId(value));
        }
        groups.into_values().collect()
    }

    /// Values side by side share a grid where that costs none of them more than a bit: their codes are then copied.
    fn join_concats(&self, sets: &mut Sets, on_grid: &[bool], seen: &BTreeMap<ValueId, Seen>) {
        let width = |values: &[ValueId]| {
            let range = values.iter().filter_map(|v| Some(seen.get(v)?.histogram().range()));
            let [low, high] = range.fold([0.0f32; 2], |[a, b], [low, high]| [a.min(low), b.max(high)]);
            high - low
        };
        for (at, node) in self.graph.nodes().iter().enumerate() {
            let ends: Vec<ValueId> = node.inputs.iter().chain(&node.outputs).copied().collect();
            if !matches!(node.op, Op::Concat(_)) || !self.on_codes[at] || !ends.iter().all(|v| on_grid[v.0]) {
                continue;
            }
            let members = |root: usize, sets: &mut Sets| -> Vec<ValueId> {
                (0..on_grid.len()).filter(|v| on_grid[*v] && sets.root(*v) == root).map(ValueId).collect()
            };
            let all: Vec<Vec<ValueId>> = ends
                .iter()
                .map(|v| {
                    let root = sets.root(v.0);
                    members(root, sets)
                })
                .collect();
            if all.iter().all(|group| width(&all.concat()) <= 2.0 * width(group)) {
                ends.windows(2).for_each(|pair| sets.join(pair[0].0, pair[1].0));
            }
        }
    }
}

/// The range that a clamp leaves.
pub fn clamped(op: &Op, [low, high]: [f32; 2]) -> [f32; 2] {
    match op {
        Op::Activation(Activation::Relu) => [0.0, high.max(0.0)],
        Op::Activation(Activation::Clip(least, most)) => [low.max(*least).min(0.0), high.min(*most).max(0.0)],
        _ => [low, high],
    }
}

/// Disjoint sets of numbers.
struct Sets(Vec<usize>);

impl Sets {
    fn new(count: usize) -> Sets {
        Sets((0..count).collect())
    }

    fn root(&mut self, at: usize) -> usize {
        let mut root = at;
        while self.0[root] != root {
            self.0[root] = self.0[self.0[root]];
            root = self.0[root];
        }
        root
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        self.0[a.max(b)] = a.min(b);
    }
}
