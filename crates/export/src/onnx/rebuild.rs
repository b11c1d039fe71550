//! The file's graph after passes changed the model.

use super::build::f32s;
use super::build::{int, node};
use super::emit::Emit;
use super::sparse::smaller;
use super::weights::{codes, plain};
use crate::ExportError;
use formats::onnx::proto::{
    DimensionValue, GraphProto, NodeProto, SparseTensorProto, TensorProto, TypeValue, ValueInfoProto,
};
use formats::onnx::{Layout, captured, order};
use graph::{Dim, Graph, Kind, Model, Node, Op, ValueId, WeightId};
use import::onnx::{Home, Network, Stored};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// The graph to write.
pub(super) fn rebuild(model: &Model, network: &Network, opset: i64) -> Result<GraphProto, ExportError> {
    let proto = network.file.graph();
    let Some(graph) = model.graph() else {
        let why = "a file that is no graph here is compressed by no pass, so there is nothing to write".into();
        return Err(ExportError::Onnx { why });
    };
    if unchanged(model, graph, network) {
        return Ok(proto.clone());
    }
    let mut work = Rebuild::new(model, graph, network, opset);
    for (at, node) in graph.nodes().iter().enumerate() {
        work.node(at, node)?;
    }
    work.outputs()?;
    work.pull()?;
    work.nodes.sort_by_key(|(place, _)| *place);
    let nodes = std::mem::take(&mut work.nodes).into_iter().map(|(_, node)| node).collect();
    let mut made = GraphProto { node: nodes, ..proto.clone() };
    made.initializer = work.initializers(&made);
    made.input.retain(|v| work.is_input(v) || made.initializer.iter().any(|t| Some(t.label()) == v.name.as_deref()));
    work.refresh(&mut made);
    work.sparse(&mut made);
    let order = order(&made).map_err(|e| ExportError::Onnx { why: e.to_string() })?;
    made.node = order.into_iter().filter_map(|i| made.node.get(i).cloned()).collect();
    Ok(made)
}

/// Whether no pass changed anything.
fn unchanged(model: &Model, graph: &Graph, network: &Network) -> bool {
    let same = |(id, weight): (WeightId, &Arc<graph::Weight>)| {
        Arc::ptr_eq(weight, network.weights.get(id)) && model.weights.grid(id) == network.weights.grid(id)
    };
    *graph == network.graph
        && model.weights.len() == network.weights.len()
        && model.weights.iter().all(same)
        && graph.nodes().iter().all(|n| matches!(n.op, Op::Constant(_)) || network.nodes.contains_key(&n.name))
}

struct Rebuild<'a> {
    model: &'a Model,
    graph: &'a Graph,
    network: &'a Network,
    /// Graph nodes of the translation, by name.
    old: HashMap<&'a str, &'a Node>,
    /// How many graph nodes each of the file's nodes became.
    parts: HashMap<usize, usize>,
    /// With the place of each in the file, or of what it stands for.
    nodes: Vec<(usize, NodeProto)>,
    /// The place of the last node.
    place: usize,
    /// Positions of the file's nodes that are in `nodes`.
    kept: HashSet<usize>,
    /// Tensors that are new or replace others of their name.
    tensors: HashMap<String, TensorProto>,
    /// In the order in which they came.
    fresh: Vec<String>,
    written: HashSet<WeightId>,
    /// The version of ONNX's own operators.
    opset: i64,
}

impl<'a> Rebuild<'a> {
    fn new(model: &'a Model, graph: &'a Graph, network: &'a Network, opset: i64) -> Rebuild<'a> {
        let mut parts = HashMap::new();
        network.nodes.values().for_each(|at| *parts.entry(*at).or_default() += 1);
        Rebuild {
            model,
            graph,
            network,
            old: network.graph.nodes().iter().map(|n| (n.name.as_str(), n)).collect(),
            parts,
            nodes: Vec::new(),
            place: 0,
            kept: HashSet::new(),
            tensors: HashMap::new(),
            fresh: Vec::new(),
            written: HashSet::new(),
            opset,
        }
    }

    fn names(&self, graph: &Graph, values: &[ValueId]) -> Vec<String> {
        values.iter().map(|v| graph.values()[v.0].name.clone()).collect()
    }

    /// A node word for word, renamed, or anew.
    fn node(&mut self, at: usize, node: &'a Node) -> Result<(), ExportError> {
        self.place = self.origin(node).unwrap_or(self.place);
        let integers = self.integers(node);
        if integers.is_none() {
            for weight in node.op.spec().weights() {
                self.weight(weight)?;
            }
        }
        if let Op::Constant(op) = &node.op
            && self.name_of(op.weight) == self.graph.values()[node.outputs[0].0].name
        {
            return Ok(());
        }
        match self.origin(node) {
            Some(index) if self.kept.contains(&index) => {}
            Some(index) if self.whole(index) => self.keep(index, self.network.file.graph().node[index].clone()),
            Some(index) if integers.is_none() && self.parts.get(&index) == Some(&1) && self.same_op(node) => {
                let renamed = self.renamed(index, node)?;
                self.keep(index, renamed);
            }
            _ => self.emit(at, node, integers)?,
        }
        Ok(())
    }

    /// The value that a product of integers reads rounded to its own range; none where a node is no such product.
    fn integers(&self, node: &Node) -> Option<String> {
        let maker = self.graph.maker(*node.inputs.first()?)?;
        let id = *node.op.spec().factors().first().or(node.op.spec().weights().first())?;
        let product = matches!(node.op, Op::Conv(_) | Op::Linear(_)) && self.model.weights.grid(id).is_some();
        let rounded = matches!(self.graph.nodes()[maker].op, Op::DynamicQuant(_));
        (product && rounded).then(|| self.graph.values()[node.inputs[0].0].name.clone())
    }

    /// Writes the weights of a product of integers: codes without their scales, scales and bias spread over the output.
    fn integer_weights(&mut self, node: &Node) -> Result<Vec<String>, ExportError> {
        let ids = node.op.spec().weights();
        let [id, bias @ ..] = &ids[..] else { return Ok(Vec::new()) };
        let (weight, linear) = (self.model.weights.get(*id), matches!(node.op, Op::Linear(_)));
        let Some(grid) = self.model.weights.grid(*id) else { return Ok(Vec::new()) };
        let name = format!("{}_integers", self.name_of(*id));
        let plane = if linear { 0 } else { weight.shape.len().saturating_sub(2) };
        let spread = |count: usize| [vec![count], vec![1; plane]].concat();
        if self.written.insert(*id) {
            let stored = Stored {
                name: name.clone(),
                home: Home::Initializer(name.clone()),
                dims: weight.shape.clone(),
                transposed: linear,
            };
            let made = codes(&name, weight, grid, Some(&stored))?;
            self.tensor(TensorProto { name: Some(name.clone()), ..made.codes });
        }
        let scales = format!("{}_weight_scale", node.name);
        self.tensor(f32s(&scales, &spread(grid.scale.len()), &grid.scale));
        let mut names = vec![name, scales];
        if let [bias, ..] = bias {
            let (numbers, name) = (self.model.weights.get(*bias).read()?, format!("{}_bias", node.name));
            self.tensor(f32s(&name, &spread(numbers.len()), &numbers));
            names.push(name);
        }
        Ok(names)
    }

    fn keep(&mut self, index: usize, node: NodeProto) {
        self.kept.insert(index);
        self.nodes.push((index, node));
    }

    fn origin(&self, node: &Node) -> Option<usize> {
        self.network.nodes.get(&node.name).copied()
    }

    fn same_op(&self, node: &Node) -> bool {
        let same =
            |old: &&&Node| old.op == node.op && old.inputs.len() == node.inputs.len() && self.same_shapes(old, node);
        self.old.get(node.name.as_str()).filter(same).is_some()
    }

    /// Whether a node whose parameters are tensors still reads the shapes that these may have been computed from: what
    /// was half of an axis when the file was read need not be half of what is left of it.
    fn same_shapes(&self, old: &Node, now: &Node) -> bool {
        let computed = matches!(
            now.op,
            Op::Select(_) | Op::Reshape(_) | Op::Expand(_) | Op::Split(_) | Op::Pad(_) | Op::Resize(_)
        );
        !computed || self.network.graph.input_types(old) == self.graph.input_types(now)
    }

    /// Whether every graph node of a file's node still is what it was.
    fn whole(&self, index: usize) -> bool {
        let parts = self.network.nodes.iter().filter(|(_, at)| **at == index).map(|(name, _)| name);
        parts.into_iter().all(|name| {
            let now = self.graph.find(name).map(|at| &self.graph.nodes()[at]);
            let (Some(now), Some(old)) = (now, self.old.get(name.as_str())) else { return false };
            let names = |graph, node: &Node| (self.names(graph, &node.inputs), self.names(graph, &node.outputs));
            now.op == old.op && names(self.graph, now) == names(&self.network.graph, old) && self.same_shapes(old, now)
        })
    }

    /// The file's node with other names of values.
    fn renamed(&self, index: usize, node: &Node) -> Result<NodeProto, ExportError> {
        let mut made = self.network.file.graph().node[index].clone();
        let old = self.old[node.name.as_str()];
        let mut pairs: Vec<_> = old.inputs.iter().zip(self.names(self.graph, &node.inputs)).collect();
        for name in &mut made.input {
            let value = self.network.values.get(name).copied().or_else(|| self.constant_value(name));
            if let Some(at) = value.and_then(|value| pairs.iter().position(|(v, _)| **v == value)) {
                let (value, new) = pairs.remove(at);
                if new != self.network.graph.values()[value.0].name {
                    *name = new;
                }
            }
        }
        for (name, new) in made.output.iter_mut().filter(|n| !n.is_empty()).zip(self.names(self.graph, &node.outputs)) {
            *name = new;
        }
        Ok(made)
    }

    /// The value of the constant that a name is read as.
    fn constant_value(&self, name: &str) -> Option<ValueId> {
        let node = self.old.get(format!("constant {name}").as_str())?;
        node.outputs.first().copied()
    }

    fn emit(&mut self, at: usize, node: &Node, integers: Option<String>) -> Result<(), ExportError> {
        let weights = node.op.spec().weights();
        let rank = node.inputs.first().map_or(0, |v| self.graph.values()[v.0].shape.len());
        let stored = weights.first().and_then(|w| self.network.stored.get(w));
        let mut emit = Emit {
            name: &self.graph.nodes()[at].name,
            op: &node.op,
            inputs: self.names(self.graph, &node.inputs),
            outputs: self.names(self.graph, &node.outputs),
            weights: match &integers {
                Some(_) => self.integer_weights(node)?,
                None => weights.iter().map(|w| self.name_of(*w)).collect(),
            },
            integers,
            transposed: stored.is_some_and(|s| s.transposed),
            rank,
            opset: self.opset,
            constants: Vec::new(),
        };
        let made = emit.nodes()?;
        let constants = emit.constants;
        self.nodes.extend(made.into_iter().map(|node| (self.place, node)));
        constants.into_iter().for_each(|tensor| self.tensor(tensor));
        Ok(())
    }

    fn tensor(&mut self, tensor: TensorProto) {
        let name = tensor.label().to_owned();
        if self.tensors.insert(name.clone(), tensor).is_none() {
            self.fresh.push(name);
        }
    }

    /// The name under which a weight is read.
    fn name_of(&self, weight: WeightId) -> String {
        match self.network.stored.get(&weight) {
            Some(stored) => stored.name.clone(),
            None => self.model.weights.get(weight).name.clone(),
        }
    }

    /// Writes a weight that is not the file's any more.
    fn weight(&mut self, id: WeightId) -> Result<(), ExportError> {
        if !self.written.insert(id) {
            return Ok(());
        }
        let (weights, old) = (&self.model.weights, &self.network.weights);
        let (weight, stored, name) = (weights.get(id), self.network.stored.get(&id), self.name_of(id));
        let known = stored.is_some() && id.0 < old.len();
        if known && Arc::ptr_eq(weight, old.get(id)) && weights.grid(id) == old.grid(id) {
            return Ok(());
        }
        match weights.grid(id) {
            None => {
                let tensor = plain(&name, weight, self.network, stored)?;
                self.tensor(tensor);
            }
            Some(grid) => {
                let made = codes(&name, weight, grid, stored)?;
                let zero = made.zero.as_ref().map(|t| t.label().to_owned());
                let inputs: Vec<String> =
                    [made.codes.label().to_owned(), made.scale.label().to_owned()].into_iter().chain(zero).collect();
                let axis = made.axis.iter().map(|axis| int("axis", *axis as i64)).collect();
                let back = node("DequantizeLinear", "", &inputs, &[name], axis);
                self.nodes.push((self.place, back));
                [Some(made.codes), Some(made.scale), made.zero].into_iter().flatten().for_each(|t| self.tensor(t));
            }
        }
        Ok(())
    }

    /// Outputs keep their names, whatever value they now show.
    fn outputs(&mut self) -> Result<(), ExportError> {
        let outputs = self.network.file.graph().output.iter().filter_map(|v| v.name.clone());
        for (name, value) in outputs.zip(self.graph.outputs()) {
            let now = &self.graph.values()[value.0].name;
            let was = self.network.values.get(&name).map(|v| &self.network.graph.values()[v.0].name);
            let stays = was == Some(now) || *now == name || self.graph.find(&format!("output {name}")).is_some();
            if !stays {
                let shown = node("Identity", &format!("{name}_identity"), std::slice::from_ref(now), &[name], vec![]);
                self.nodes.push((usize::MAX, shown));
            }
        }
        Ok(())
    }

    /// Adds the file's own nodes that make what is still read: shape arithmetic, Identity, constants.
    fn pull(&mut self) -> Result<(), ExportError> {
        let proto = self.network.file.graph();
        let makers: HashMap<&str, usize> =
            proto.node.iter().enumerate().flat_map(|(i, n)| n.output.iter().map(move |o| (o.as_str(), i))).collect();
        let bound: HashSet<usize> = self.network.nodes.values().copied().collect();
        let mut made: HashSet<String> = self.nodes.iter().flat_map(|(_, n)| n.output.clone()).collect();
        made.extend(self.tensors.keys().cloned());
        made.extend(proto.input.iter().filter_map(|v| v.name.clone()));
        made.extend(proto.initializer.iter().map(|t| t.label().to_owned()));
        let mut wanted: Vec<String> = proto.output.iter().filter_map(|v| v.name.clone()).collect();
        wanted.extend(self.nodes.iter().flat_map(|(_, n)| reads(n)));
        while let Some(name) = wanted.pop() {
            if name.is_empty() || !made.insert(name.clone()) {
                continue;
            }
            let gone = || ExportError::Onnx { why: format!("`{name}` is still read, but what made it was taken out") };
            let index = *makers.get(name.as_str()).filter(|i| !bound.contains(i)).ok_or_else(gone)?;
            let node = proto.node[index].clone();
            made.extend(node.output.iter().cloned());
            wanted.extend(reads(&node));
            self.keep(index, node);
        }
        Ok(())
    }

    /// The file's initialisers that are read, or never were; replaced ones in their places, new ones behind.
    fn initializers(&mut self, made: &GraphProto) -> Vec<TensorProto> {
        let proto = self.network.file.graph();
        let all = |graph: &GraphProto| -> HashSet<String> {
            let outputs = graph.output.iter().filter_map(|v| v.name.clone());
            graph.node.iter().flat_map(reads).chain(outputs).collect()
        };
        let (now, before) = (all(made), all(proto));
        let made_by_nodes: HashSet<&String> = made.node.iter().flat_map(|n| &n.output).collect();
        let mut tensors = Vec::new();
        for tensor in &proto.initializer {
            let name = tensor.label().to_owned();
            if (now.contains(&name) || !before.contains(&name)) && !made_by_nodes.contains(&name) {
                tensors.push(self.tensors.remove(&name).unwrap_or_else(|| tensor.clone()));
            }
        }
        tensors.extend(self.fresh.iter().filter(|n| now.contains(*n)).filter_map(|name| self.tensors.remove(name)));
        tensors
    }

    /// Stores new tensors that are mostly zeros sparse, where the file holds its numbers itself; drops sparse ones that were replaced, or
    /// that nothing reads any more.
    fn sparse(&self, made: &mut GraphProto) {
        let read: HashSet<String> = made.node.iter().flat_map(reads).collect();
        let name = |s: &SparseTensorProto| s.values.as_ref().map_or(String::new(), |v| v.label().to_owned());
        let replaced: HashSet<&str> = made.initializer.iter().map(TensorProto::label).collect();
        made.sparse_initializer.retain(|s| read.contains(&name(s)) && !replaced.contains(name(s).as_str()));
        if self.network.file.layout() != Layout::Inline {
            return;
        }
        let ours: HashSet<&String> = self.fresh.iter().collect();
        let inputs: HashSet<String> = made.input.iter().filter_map(|v| v.name.clone()).collect();
        for tensor in std::mem::take(&mut made.initializer) {
            let label = tensor.label().to_owned();
            match smaller(&tensor).filter(|_| ours.contains(&label) && !inputs.contains(&label)) {
                Some(sparse) => made.sparse_initializer.push(sparse),
                None => made.initializer.push(tensor),
            }
        }
    }

    fn is_input(&self, value: &ValueInfoProto) -> bool {
        let initializer = |t: &TensorProto| Some(t.label()) == value.name.as_deref();
        !self.network.file.graph().initializer.iter().any(initializer)
    }

    /// Declared types follow the graph; those of values that are gone go.
    fn refresh(&self, made: &mut GraphProto) {
        let names: HashSet<&str> = made.node.iter().flat_map(|n| &n.output).map(String::as_str).collect();
        let values: HashMap<&str, &graph::Value> = self.graph.values().iter().map(|v| (v.name.as_str(), v)).collect();
        made.value_info.retain(|v| v.name.as_deref().is_some_and(|n| names.contains(n)));
        for info in &mut made.value_info {
            let name = info.name.as_deref().unwrap_or_default();
            let alias = self.network.values.get(name).map(|v| self.network.graph.values()[v.0].name.as_str());
            let value = values.get(name).or_else(|| values.get(alias?));
            if let Some(value) = value.filter(|v| v.kind != Kind::Unknown) {
                set_shape(info, &value.shape);
            }
        }
        let tensors: HashMap<&str, &TensorProto> = made.initializer.iter().map(|t| (t.label(), t)).collect();
        for info in &mut made.input {
            if let Some(tensor) = info.name.as_deref().and_then(|n| tensors.get(n)) {
                let shape: Vec<Dim> =
                    tensor.dims.iter().map(|d| Dim::Fixed(usize::try_from(*d).unwrap_or(0))).collect();
                set_shape(info, &shape);
            }
        }
        made.quantization_annotation
            .retain(|a| a.tensor_name.as_deref().is_some_and(|n| names.contains(n) || tensors.contains_key(n)));
    }
}

/// Every name that a node reads, its sub-graphs' too.
fn reads(node: &NodeProto) -> Vec<String> {
    node.input.iter().map(String::as_str).chain(captured(node)).map(str::to_owned).collect()
}

/// Puts fixed lengths into a declared shape of the same rank; open ones stay as they are called.
fn set_shape(info: &mut ValueInfoProto, shape: &[Dim]) {
    let Some(TypeValue::Tensor(tensor)) = info.r#type.as_mut().and_then(|t| t.value.as_mut()) else { return };
    let Some(declared) = tensor.shape.as_mut().filter(|s| s.dim.len() == shape.len()) else {
        tensor.shape = None;
        return;
    };
    for (dim, now) in declared.dim.iter_mut().zip(shape) {
        if let Some(n) = now.fixed() {
            dim.value = Some(DimensionValue::Value(n as i64));
        }
    }
}
