//! The walk over a file's nodes: what every name stands for, and what each node becomes.

use super::cx::Cx;
use super::fold::{Elem, Known, MOST, fold};
use super::shapes::{self, BatchName};
use super::stored::{Dequantized, Home, Raw, Stored, Transposed, encoding};
use super::{MIN_OPSET, Network, ops};
use crate::error::Problem;
use codec::{Dtype, Encoding};
use formats::onnx::proto::{NodeProto, TensorProto, ValueInfoProto};
use formats::onnx::{DataType, Onnx, captured, node_label};
use graph::ops::{Constant, Opaque};
use graph::{Dim, Graph, GraphError, Grid, Kind, Place, Role, ShapeError, ValueId, Weight, WeightId, WeightStore};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Why a node stays opaque.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal(pub String);

impl From<&str> for Refusal {
    fn from(why: &str) -> Refusal {
        Refusal(why.to_owned())
    }
}

impl From<GraphError> for Refusal {
    fn from(error: GraphError) -> Refusal {
        Refusal(match error {
            GraphError::Shape { why, .. } => why,
            other => other.to_string(),
        })
    }
}

impl From<ShapeError> for Refusal {
    fn from(error: ShapeError) -> Refusal {
        Refusal(error.0)
    }
}

/// A tensor that is the same in every run.
#[derive(Clone)]
pub(super) struct Fixed {
    /// What its weight is called, whatever other names pass it on.
    pub name: String,
    /// Holds its numbers or codes; cheap to clone.
    pub tensor: TensorProto,
    pub home: Home,
    /// What its codes stand for, behind a DequantizeLinear.
    pub grid: Option<Grid>,
}

/// A value between a QuantizeLinear and the DequantizeLinear behind it.
#[derive(Clone)]
pub(super) struct Quantized {
    pub value: ValueId,
    pub scale: String,
    pub zero: String,
    pub dtype: DataType,
}

/// What a name stands for.
#[derive(Clone)]
pub(super) enum Item {
    Value(ValueId),
    Fixed(Box<Fixed>),
    Known(Known),
    Quantized(Quantized),
}

/// A translated file; `reason` says why there is no graph.
pub(super) struct Translated {
    pub network: Network,
    pub reason: Option<String>,
}

/// The state of the walk.
pub(super) struct Translator<'a> {
    pub file: &'a Onnx,
    pub graph: Graph,
    pub weights: WeightStore,
    pub items: HashMap<String, Item>,
    pub stored: HashMap<WeightId, Stored>,
    pub nodes: HashMap<String, usize>,
    pub opset: i64,
    /// Names that anything reads.
    pub read: HashSet<&'a str>,
    declared: HashMap<&'a str, &'a ValueInfoProto>,
    batch: BatchName,
    names: HashSet<String>,
}

/// Translates a file, whatever is in it.
pub(super) fn translate(file: Arc<Onnx>) -> Result<Translated, Problem> {
    let mut t = Translator::new(&file);
    let reason = t.run()?;
    let values = t.items.iter().filter_map(|(name, item)| match item {
        Item::Value(value) => Some((name.clone(), *value)),
        _ => None,
    });
    let values = values.collect();
    let Translator { graph, weights, stored, nodes, .. } = t;
    Ok(Translated { network: Network { graph, weights, stored, nodes, values, file: file.clone() }, reason })
}

impl<'a> Translator<'a> {
    fn new(file: &'a Onnx) -> Translator<'a> {
        let graph = file.graph();
        let infos = graph.value_info.iter().chain(&graph.output);
        let read = graph.node.iter().flat_map(|n| n.input.iter().map(String::as_str).chain(captured(n)));
        let read = read.chain(graph.output.iter().filter_map(|v| v.name.as_deref())).collect();
        Translator {
            file,
            graph: Graph::default(),
            weights: WeightStore::default(),
            items: HashMap::new(),
            stored: HashMap::new(),
            nodes: HashMap::new(),
            opset: file.opset("").unwrap_or_default(),
            read,
            declared: infos.filter_map(|v| Some((v.name.as_deref()?, v))).collect(),
            batch: BatchName::default(),
            names: HashSet::new(),
        }
    }

    /// Walks the file. Where it cannot be a graph, its tensors still are weights, and the reason comes back.
    fn run(&mut self) -> Result<Option<String>, Problem> {
        for tensor in &self.file.graph().initializer {
            let home = Home::Initializer(tensor.label().to_owned());
            let fixed = Fixed { name: tensor.label().to_owned(), tensor: tensor.clone(), home, grid: None };
            self.items.insert(tensor.label().to_owned(), Item::Fixed(Box::new(fixed)));
        }
        for tensor in self.file.graph().sparse_initializer.iter().filter_map(|s| super::sparse::whole(self.file, s)) {
            let (name, home) = (tensor.label().to_owned(), Home::Initializer(tensor.label().to_owned()));
            let fixed = Fixed { name: name.clone(), tensor, home, grid: None };
            self.items.insert(name, Item::Fixed(Box::new(fixed)));
        }
        if let Some(reason) = self.obstacle() {
            self.take_all();
            return Ok(Some(reason));
        }
        for index in self.file.order() {
            self.node(*index);
        }
        for output in &self.file.graph().output {
            let name = output.name.as_deref().unwrap_or_default();
            let value = self.output(name);
            self.graph.output(value);
        }
        Ok(None)
    }

    /// Takes the inputs in; says why the file cannot be a graph.
    fn obstacle(&mut self) -> Option<String> {
        if self.opset < MIN_OPSET {
            return Some(format!(
                "its operators are of version {}, older than {MIN_OPSET}; convert it to a newer one",
                self.opset
            ));
        }
        for input in &self.file.graph().input {
            let name = input.name.clone().unwrap_or_default();
            if self.items.contains_key(&name) {
                continue;
            }
            match shapes::input(input, &mut self.batch) {
                Ok((kind, shape)) => {
                    let value = self.graph.input(&name, kind, shape);
                    self.items.insert(name, Item::Value(value));
                }
                Err(reason) => {
                    self.graph = Graph::default();
                    return Some(reason);
                }
            }
        }
        None
    }

    /// Every tensor of numbers as a weight, for a file without a graph.
    fn take_all(&mut self) {
        for tensor in &self.file.graph().initializer {
            if tensor.dtype().is_ok_and(DataType::is_float) {
                // What cannot be a weight is left to the file.
                let _ = self.weight(tensor.label(), None, false);
            }
        }
    }

    fn node(&mut self, index: usize) {
        let file = self.file;
        let Some(node) = file.graph().node.get(index) else { return };
        let mark = self.graph.mark();
        if self.constant(node, index) || self.known(node) {
            return;
        }
        let name = self.unique(node);
        let mut cx = Cx { t: self, node, index, name: name.clone(), pushed: 0 };
        let refusal = match ops::find(node) {
            Some(translate) => translate(&mut cx).err(),
            None => Some("the operator is not known here".into()),
        };
        if let Some(Refusal(reason)) = refusal {
            self.graph.rollback(mark);
            let graph = &self.graph;
            self.nodes.retain(|name, at| *at != index || graph.nodes().iter().any(|n| n.name == *name));
            self.items.retain(|_, item| !matches!(item, Item::Value(v) if v.0 >= mark.1));
            self.opaque(node, index, name, reason);
        }
    }

    /// A name for a node that no other has.
    fn unique(&mut self, node: &NodeProto) -> String {
        let base = node_label(node).to_owned();
        let numbered = (2..).map(|n| format!("{base}~{n}"));
        let name = std::iter::once(base.clone()).chain(numbered).find(|n| !self.names.contains(n));
        let name = name.unwrap_or(base);
        self.names.insert(name.clone());
        name
    }

    /// A Constant node's tensor.
    fn constant(&mut self, node: &NodeProto, index: usize) -> bool {
        if node.op_type.as_deref() != Some("Constant") || !node.domain.as_deref().unwrap_or("").is_empty() {
            return false;
        }
        let (Some(name), [attribute, ..]) = (node.output.first(), &node.attribute[..]) else { return false };
        let number = |e: Elem| Known { shape: vec![], data: vec![e] };
        let item = match attribute.name.as_deref() {
            Some("value") => attribute.t.as_deref().map(|tensor| {
                let (name, tensor) = (name.clone(), tensor.clone());
                Item::Fixed(Box::new(Fixed { name, tensor, home: Home::Node(index), grid: None }))
            }),
            Some("value_int") => attribute.i.map(|n| Item::Known(number(Elem::Int(n)))),
            Some("value_float") => attribute.f.map(|x| Item::Known(number(Elem::Real(f64::from(x))))),
            Some("value_ints") => {
                Some(Item::Known(Known::list(attribute.ints.iter().map(|n| Elem::Int(*n)).collect())))
            }
            _ => None,
        };
        item.map(|item| self.items.insert(name.clone(), item)).is_some()
    }

    /// What can be computed now: shapes, and what follows from small constants.
    fn known(&mut self, node: &NodeProto) -> bool {
        let (op, [output]) = (node.op_type.as_deref().unwrap_or(""), &node.output[..]) else { return false };
        if !node.domain.as_deref().unwrap_or("").is_empty() {
            return false;
        }
        let attribute = |name: &str| node.attribute.iter().find(|a| a.name.as_deref() == Some(name)).and_then(|a| a.i);
        let result = if op == "Shape" {
            self.shape_of(node)
        } else if op == "ConstantOfShape" {
            self.constant_of_shape(node)
        } else {
            let inputs: Option<Vec<Known>> = node.input.iter().map(|name| self.small(name)).collect();
            let to = attribute("to").and_then(|n| DataType::of(i32::try_from(n).ok()?));
            inputs.and_then(|inputs| fold(op, &inputs.iter().collect::<Vec<_>>(), attribute("axis"), to))
        };
        result.map(|known| self.items.insert(output.clone(), Item::Known(known))).is_some()
    }

    fn shape_of(&self, node: &NodeProto) -> Option<Known> {
        let dim = |dim: &Dim| match dim {
            Dim::Fixed(n) => Some(Elem::Int(i64::try_from(*n).ok()?)),
            Dim::Batch => Some(Elem::Batch),
            Dim::Tokens => None,
        };
        let shape: Vec<Elem> = match self.items.get(node.input.first()?)? {
            Item::Value(v) if self.graph.values()[v.0].kind == Kind::Unknown => return None,
            Item::Value(v) => self.graph.values()[v.0].shape.iter().map(dim).collect::<Option<_>>()?,
            Item::Fixed(fixed) => fixed.tensor.dims.iter().map(|n| Elem::Int(*n)).collect(),
            Item::Known(known) => known.shape.iter().map(|n| Elem::Int(*n as i64)).collect(),
            Item::Quantized(q) => self.graph.values()[q.value.0].shape.iter().map(dim).collect::<Option<_>>()?,
        };
        let attribute = |name: &str| node.attribute.iter().find(|a| a.name.as_deref() == Some(name)).and_then(|a| a.i);
        let (from, to) = (attribute("start").unwrap_or(0), attribute("end").unwrap_or(i64::MAX));
        let picked = super::fold::picked(shape.len(), from, to, 1)?;
        Some(Known::list(picked.into_iter().map(|i| shape[i]).collect()))
    }

    fn constant_of_shape(&self, node: &NodeProto) -> Option<Known> {
        let shape = self.small(node.input.first()?)?.ints().ok()?;
        let shape = shape.into_iter().map(|n| usize::try_from(n).ok()).collect::<Option<Vec<_>>>()?;
        let count = shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d)).filter(|n| *n <= MOST)?;
        let value = node.attribute.iter().find_map(|a| a.t.as_deref());
        let fill = match value {
            None => Elem::Real(0.0),
            Some(tensor) => {
                let bytes = tensor.inline_bytes().ok()?;
                *Known::decode(tensor.dtype().ok()?, vec![1], &bytes)?.data.first()?
            }
        };
        Some(Known { shape, data: vec![fill; count] })
    }

    /// A name's numbers, where they are known and few.
    pub fn small(&self, name: &str) -> Option<Known> {
        match self.items.get(name)? {
            Item::Known(known) => Some(known.clone()),
            Item::Fixed(fixed) if fixed.grid.is_none() => {
                let (tensor, shape) = (&fixed.tensor, fixed.tensor.shape().ok()?);
                if shape.iter().product::<usize>() > MOST {
                    return None;
                }
                Known::decode(tensor.dtype().ok()?, shape, &self.file.bytes(tensor).ok()?)
            }
            _ => None,
        }
    }

    /// A fixed tensor as a weight: of this shape, where it may lack leading ones; with its two axes swapped if asked.
    pub fn weight(&mut self, name: &str, shape: Option<&[usize]>, transposed: bool) -> Result<WeightId, Refusal> {
        let Some(Item::Fixed(fixed)) = self.items.get(name) else {
            return Err(Refusal(format!("`{name}` is no constant")));
        };
        let fixed = fixed.clone();
        let name = &fixed.name[..];
        let dims = fixed.tensor.shape().map_err(|e| Refusal(e.to_string()))?;
        let mut shape = match shape {
            Some(shape)
                if dims.ends_with(shape) && dims.iter().product::<usize>() == shape.iter().product::<usize>() =>
            {
                shape.to_vec()
            }
            Some(shape) => return Err(Refusal(format!("`{name}` has shape {dims:?}, expected {shape:?}"))),
            None => dims.clone(),
        };
        if shape.contains(&0) {
            return Err(Refusal(format!("`{name}` has a dimension of zero")));
        }
        let mut weight = self.plain(name, &fixed, &shape)?;
        if transposed {
            let [rows, cols] = shape[..] else { return Err(Refusal(format!("`{name}` is no matrix"))) };
            shape = vec![cols, rows];
            let (name, encoding, place) = (weight.name.clone(), weight.encoding, weight.place);
            let source = Arc::new(Transposed { inner: Arc::new(weight) });
            weight = Weight { name, place, shape: shape.clone(), encoding, source };
        }
        if let Some(id) = self.weights.find(name) {
            return match self.stored.get(&id) {
                Some(old) if old.transposed == transposed && self.weights.get(id).shape == shape => Ok(id),
                _ => Err(Refusal(format!("`{name}` is read in two layouts"))),
            };
        }
        let id = self.weights.insert(weight);
        let stored = Stored { name: name.to_owned(), home: fixed.home, dims, transposed };
        self.stored.insert(id, stored);
        if let Some(mut grid) = fixed.grid {
            grid.axis = grid.axis.map(|axis| if transposed { 1 - axis.min(1) } else { axis });
            self.weights.set_grid(id, grid);
        }
        Ok(id)
    }

    /// The weight as the file has it.
    fn plain(&self, name: &str, fixed: &Fixed, shape: &[usize]) -> Result<Weight, Refusal> {
        let fail = |e: &dyn std::fmt::Display| Refusal(e.to_string());
        let dtype = fixed.tensor.dtype().map_err(|e| fail(&e))?;
        let bytes = self.file.bytes(&fixed.tensor).map_err(|e| fail(&e))?;
        let (place, rows) =
            (Place::outer(Role::Other), shape.split_last().map_or(1, |(_, outer)| outer.iter().product()));
        let (name, shape) = (name.to_owned(), shape.to_vec());
        if let Some(grid) = fixed.grid.clone() {
            let source = Arc::new(Dequantized { name: name.clone(), bytes, dtype, shape: shape.clone(), grid });
            return Ok(Weight { name, place, shape, encoding: Encoding::Plain(Dtype::F32), source });
        }
        let Some(encoding) = encoding(dtype) else {
            return Err(Refusal(format!("`{name}` holds {dtype:?}, not fractions")));
        };
        let source = Arc::new(Raw { name: name.clone(), bytes, rows });
        Ok(Weight { name, place, shape, encoding, source })
    }

    /// A name as a value of the graph; a fixed tensor becomes a constant.
    pub fn value(&mut self, name: &str) -> Result<ValueId, Refusal> {
        match self.items.get(name) {
            Some(Item::Value(value)) => Ok(*value),
            Some(Item::Fixed(_)) => self.push_constant(name),
            Some(Item::Known(known)) => {
                let known = known.clone();
                self.push_known(name, &known)
            }
            Some(Item::Quantized(_)) => Err(Refusal(format!("`{name}` is read as codes"))),
            None => Err(Refusal(format!("`{name}` is made by nothing"))),
        }
    }

    fn push_constant(&mut self, name: &str) -> Result<ValueId, Refusal> {
        let weight = self.weight(name, None, false)?;
        let name = &self.weights.get(weight).name.clone();
        if let Some(at) = self.graph.nodes().iter().find(|n| n.name == format!("constant {name}")) {
            return Ok(at.outputs[0]);
        }
        let rank = self.weights.get(weight).shape.len();
        let value = self.graph.push1(&format!("constant {name}"), Constant { weight, rank }, &[], &self.weights)?;
        self.graph.name_value(value, name);
        Ok(value)
    }

    /// Numbers that were computed while translating, as a constant of their own.
    fn push_known(&mut self, name: &str, known: &Known) -> Result<ValueId, Refusal> {
        if !known.data.iter().all(|e| matches!(e, Elem::Real(_))) {
            return Err(Refusal(format!("`{name}` holds indices, expected numbers")));
        }
        let numbers: Vec<f32> = known.reals()?.into_iter().map(|x| x as f32).collect();
        let weight = Weight::from_f32(name, Place::outer(Role::Other), known.shape.clone(), &numbers);
        let weight = self.weights.insert(weight.map_err(|e| Refusal(e.to_string()))?);
        let constant = Constant { weight, rank: known.shape.len() };
        let value = self.graph.push1(&format!("constant {name}"), constant, &[], &self.weights)?;
        self.graph.name_value(value, name);
        self.items.insert(name.to_owned(), Item::Value(value));
        Ok(value)
    }

    /// Carries a node along: its values and weights are frozen.
    fn opaque(&mut self, node: &NodeProto, index: usize, name: String, reason: String) {
        let names: Vec<&str> = node.input.iter().map(String::as_str).chain(captured(node)).collect();
        let (mut inputs, mut weights, mut ranks) = (Vec::new(), Vec::new(), Vec::new());
        for name in names.into_iter().filter(|n| !n.is_empty()) {
            match self.items.get(name) {
                Some(Item::Value(value) | Item::Quantized(Quantized { value, .. })) => inputs.push(*value),
                Some(Item::Fixed(_)) => {
                    if let Ok(weight) = self.weight(name, None, false) {
                        ranks.push(self.weights.get(weight).shape.len());
                        weights.push(weight);
                    }
                }
                Some(Item::Known(_)) | None => {}
            }
        }
        let outputs: Vec<_> =
            node.output.iter().map(|o| shapes::declared(self.declared.get(o.as_str()).copied(), &self.batch)).collect();
        let domain = node.domain.as_deref().filter(|d| !d.is_empty()).map(|d| format!("{d}.")).unwrap_or_default();
        let called = format!("{domain}{}", node.op_type.as_deref().unwrap_or("?"));
        let op = Opaque { name: called, reason, outputs, weights, ranks };
        if let Ok(values) = self.graph.push(&name, op, &inputs, &self.weights) {
            self.bind(node, &values);
            self.nodes.insert(name, index);
        }
    }

    /// Names a node's outputs.
    pub fn bind(&mut self, node: &NodeProto, values: &[ValueId]) {
        for (name, value) in node.output.iter().zip(values).filter(|(name, _)| !name.is_empty()) {
            self.graph.name_value(*value, name);
            self.items.insert(name.clone(), Item::Value(*value));
        }
    }

    /// A graph output as a value, whatever it is.
    fn output(&mut self, name: &str) -> ValueId {
        if let Ok(value) = self.value(name) {
            return value;
        }
        let outputs = vec![shapes::declared(self.declared.get(name).copied(), &self.batch)];
        let inputs = match self.items.get(name) {
            Some(Item::Quantized(q)) => vec![q.value],
            _ => vec![],
        };
        let (called, reason) = ("constant".to_owned(), "an output that is no number".to_owned());
        let op = Opaque { name: called, reason, outputs, weights: vec![], ranks: vec![] };
        // An opaque op accepts everything.
        let made = self.graph.push(&format!("output {name}"), op, &inputs, &self.weights);
        made.ok().and_then(|values| values.first().copied()).unwrap_or(ValueId(0))
    }
}
