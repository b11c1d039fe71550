//! The fusion report: what onnxruntime will make of a file, node by node, said before it runs.
//!
//! A model of onnxruntime's rules ([`super::kernels`]) looks at the network as it was read back from the file, and says for
//! every node on what it runs, for every conversion that stays between which, why, and what would fix it. `bench/int8` holds
//! it against the optimized models that onnxruntime saves.

use super::kernels::{Kernel, kernel};
use graph::ops::{Activation, FakeQuant};
use graph::{Graph, Levels, Model, Node, Op, ValueId, WeightId};
use plan::{Conversion, FusedNode, Fusion, Runs, To};

/// What onnxruntime makes of a network; nothing for a model that is none.
pub fn fusion(model: &Model) -> Fusion {
    let Some(graph) = model.graph() else { return Fusion::default() };
    let rules = Rules { model, graph };
    let runs: Vec<Runs> = graph.nodes().iter().map(|node| rules.runs(node)).collect();
    let real = |node: &Node| !matches!(node.op, Op::FakeQuant(_) | Op::Constant(_));
    let nodes = graph.nodes().iter().zip(&runs).filter(|(node, _)| real(node));
    let nodes =
        nodes.map(|(node, runs)| FusedNode { node: node.name.clone(), op: node.op.name().into(), runs: runs.clone() });
    Fusion { nodes: nodes.collect(), conversions: rules.conversions(&runs) }
}

struct Rules<'a> {
    model: &'a Model,
    graph: &'a Graph,
}

/// Why a node does not run on codes, and what would fix it.
type Obstacle = (String, &'static str);

impl<'a> Rules<'a> {
    fn name(&self, value: ValueId) -> &'a str {
        &self.graph.values()[value.0].name
    }

    /// The rounding that makes a value.
    fn rounding(&self, value: ValueId) -> Option<&'a FakeQuant> {
        match &self.graph.nodes()[self.graph.maker(value)?].op {
            Op::FakeQuant(op) => Some(op),
            _ => None,
        }
    }

    /// The node that alone reads a value.
    fn only_reader(&self, value: ValueId) -> Option<&'a Node> {
        let mut readers = self.graph.readers(value);
        let at = readers.next()?;
        let alone = readers.next().is_none() && !self.graph.outputs().contains(&value);
        alone.then(|| &self.graph.nodes()[at])
    }

    /// The rounding behind a value, through what it absorbs.
    fn rounded(&self, value: ValueId) -> Option<&'a FakeQuant> {
        let reader = self.only_reader(value)?;
        match &reader.op {
            Op::FakeQuant(op) => Some(op),
            Op::Activation(clamp) => {
                let behind = self.only_reader(reader.outputs[0])?;
                match &behind.op {
                    Op::FakeQuant(op) if self.covers(clamp, op) => Some(op),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// Whether rounding clamps at least as much as a function does.
    fn covers(&self, clamp: &Activation, op: &FakeQuant) -> bool {
        let (Some(zero), (low, high)) = (op.zero.first(), op.levels.range()) else { return false };
        let scale = self.scale(op.scale).unwrap_or(f32::INFINITY);
        let end = |code: i64| (code - i64::from(*zero)) as f32 * scale;
        match clamp {
            Activation::Relu => i64::from(*zero) == low,
            Activation::Clip(least, most) => end(low) >= least * 1.0001 - 1e-6 && end(high) <= most * 1.0001 + 1e-6,
            _ => false,
        }
    }

    fn scale(&self, id: WeightId) -> Option<f32> {
        self.model.weights.get(id).read().ok()?.first().copied()
    }

    fn runs(&self, node: &Node) -> Runs {
        let in_float = |(why, fix): Obstacle| Runs::InFloat { why, fix: fix.into() };
        match kernel(self.graph, node) {
            Kernel::None { why, fix } => in_float((why.into(), fix)),
            Kernel::Codes(name) => {
                self.on_codes(node).map_or_else(in_float, |()| Runs::OnCodes(name_of(name, self, node)))
            }
            Kernel::Moves => self.moves(node).map_or_else(in_float, |()| Runs::MovesCodes),
            Kernel::Clamps => match self.absorbed(node) {
                true => Runs::Absorbed,
                false => in_float((
                    "no rounding behind it ends where it does".into(),
                    "a range that ends at its bounds, behind a node that runs on codes",
                )),
            },
        }
    }

    fn absorbed(&self, node: &Node) -> bool {
        let behind = self.only_reader(node.outputs[0]).map(|n| &n.op);
        match (&node.op, behind) {
            (Op::Activation(clamp), Some(Op::FakeQuant(op))) => self.covers(clamp, op),
            _ => false,
        }
    }

    fn on_codes(&self, node: &Node) -> Result<(), Obstacle> {
        let levels = node.inputs.iter().map(|v| self.input(*v)).collect::<Result<Vec<_>, _>>()?;
        let out = self.rounded(node.outputs[0]);
        if out.is_none() && !matches!(node.op, Op::Linear(_)) {
            let name = self.name(node.outputs[0]);
            return Err((
                format!("`{name}` is not rounded to one grid alone before something reads it"),
                "one QuantizeLinear behind it, before its other readers and the network's output",
            ));
        }
        let all = levels.iter().copied().chain(out.map(|op| op.levels)).collect::<Vec<_>>();
        if all.windows(2).any(|pair| pair[0] != pair[1]) {
            return Err((format!("its inputs and outputs have codes of unlike types: {all:?}"), "one type for all"));
        }
        if all.iter().any(|levels| levels.bits() != 8) {
            return Err((format!("codes of values have {} bits", all[0].bits()), "8 bits"));
        }
        self.weights(node, levels.first().copied())
    }

    /// The codes of an input.
    fn input(&self, value: ValueId) -> Result<Levels, Obstacle> {
        let refuse = || {
            let why = format!("its input `{}` is not on a grid", self.name(value));
            (why, "QuantizeLinear and DequantizeLinear before it")
        };
        if let Some(op) = self.rounding(value) {
            let axis = (format!("its input `{}` has scales along an axis", self.name(value)), "one scale for all");
            return if op.axis.is_none() { Ok(op.levels) } else { Err(axis) };
        }
        let maker = self.graph.maker(value).map(|at| &self.graph.nodes()[at].op);
        let Some(Op::Constant(op)) = maker else { return Err(refuse()) };
        let grid = self.model.weights.grid(op.weight).filter(|grid| grid.axis.is_none());
        grid.map(|grid| grid.levels).ok_or_else(refuse)
    }

    fn weights(&self, node: &Node, input: Option<Levels>) -> Result<(), Obstacle> {
        let (weight, bias) = match &node.op {
            Op::Conv(op) => (op.weight, op.bias),
            Op::Linear(op) => (op.weight, op.bias),
            _ => return Ok(()),
        };
        let grid = |id: WeightId| self.model.weights.grid(id);
        let Some(on) = grid(weight) else {
            return Err(("its weight is not stored as codes".into(), "codes and a DequantizeLinear"));
        };
        if on.axis.is_some_and(|axis| axis != 0) {
            return Err(("its weight has scales along the wrong axis".into(), "scales of the output channels"));
        }
        if on.levels.bits() != 8 {
            let fix = "8 bits; 4-bit weights save bytes and run in float";
            return Err((format!("its weight has codes of {} bits", on.levels.bits()), fix));
        }
        if (input, on.levels) == (Some(Levels::I8), Levels::U8) {
            return Err(("signed values are multiplied by unsigned weights".into(), "signed weights"));
        }
        let Some(bias) = bias else { return Ok(()) };
        match grid(bias).filter(|grid| grid.levels == Levels::I32) {
            Some(of) => self.bias_fits(node, &on.scale, &of.scale),
            None => Err(("its bias is not stored as 32-bit codes".into(), "codes on the scale of input times weight")),
        }
    }

    /// The scale of a bias is the input's times the weight's.
    fn bias_fits(&self, node: &Node, weight: &[f32], bias: &[f32]) -> Result<(), Obstacle> {
        let input = self.rounding(node.inputs[0]).and_then(|op| self.scale(op.scale)).unwrap_or(1.0);
        let fits = bias.iter().enumerate().all(|(channel, scale)| {
            let of = weight.get(channel).or(weight.first()).copied().unwrap_or(1.0) * input;
            (scale - of).abs() <= 1e-3 * of
        });
        let why = "its bias has another scale than input times weight".to_owned();
        if fits { Ok(()) } else { Err((why, "codes on the scale of input times weight")) }
    }

    fn moves(&self, node: &Node) -> Result<(), Obstacle> {
        let Some(from) = self.rounding(node.inputs[0]) else { return self.input(node.inputs[0]).map(drop) };
        let same = |to: &FakeQuant| {
            let scales = to.scale == from.scale || self.scale(to.scale) == self.scale(from.scale);
            scales && to.zero == from.zero && (to.levels, to.axis) == (from.levels, from.axis)
        };
        for value in &node.outputs {
            let why = format!("`{}` is on another grid than its input, or on none", self.name(*value));
            if !self.rounded(*value).is_some_and(same) {
                return Err((why, "the scale and zero point of its input"));
            }
        }
        Ok(())
    }

    /// Conversions that no kernel takes in.
    fn conversions(&self, runs: &[Runs]) -> Vec<Conversion> {
        let fused = |at: usize| !matches!(runs[at], Runs::InFloat { .. });
        let nodes = self.graph.nodes();
        let mut left = Vec::new();
        for node in nodes.iter().filter(|n| matches!(n.op, Op::FakeQuant(_))) {
            let (from, to) = (node.inputs[0], node.outputs[0]);
            let mut add = |value: ValueId, to: To, beside: Option<String>| {
                left.push(Conversion { value: self.name(value).into(), to, beside });
            };
            match self.graph.maker(from) {
                None => add(from, To::Codes, None),
                Some(at) if !fused(at) => add(from, To::Codes, Some(nodes[at].name.clone())),
                Some(at) if matches!(nodes[at].op, Op::FakeQuant(_)) => {
                    add(from, To::Codes, Some(nodes[at].name.clone()))
                }
                Some(_) => {}
            }
            for at in self.graph.readers(to).filter(|at| !fused(*at)) {
                add(to, To::Numbers, Some(nodes[at].name.clone()));
            }
            if self.graph.outputs().contains(&to) {
                add(to, To::Numbers, None);
            }
        }
        left
    }
}

/// What the kernel is called where the output stays in numbers.
fn name_of(kernel: &str, rules: &Rules<'_>, node: &Node) -> String {
    let numbers = rules.rounded(node.outputs[0]).is_none();
    if kernel == "QLinearMatMul" && numbers { "MatMulIntegerToFloat".into() } else { kernel.into() }
}
