//! What an operator's translation sees of its node: inputs, attributes, and the graph it adds to.

use super::fold::Known;
use super::translate::{Item, Refusal, Translator};
use formats::onnx::proto::{AttributeProto, NodeProto};
use graph::{Dim, Kind, Op, Shape, ValueId, WeightId};

/// A node being translated.
pub(super) struct Cx<'t, 'a> {
    pub t: &'t mut Translator<'a>,
    pub node: &'a NodeProto,
    pub index: usize,
    pub name: String,
    pub pushed: usize,
}

/// What translations return.
pub(super) type Done = Result<(), Refusal>;

impl<'a> Cx<'_, 'a> {
    /// The version of ONNX's own operators.
    pub fn opset(&self) -> i64 {
        self.t.opset
    }

    /// An input's name, unless it is left out.
    pub fn name_of(&self, input: usize) -> Option<&'a str> {
        self.node.input.get(input).map(String::as_str).filter(|name| !name.is_empty())
    }

    /// Whether an input is given.
    pub fn has(&self, input: usize) -> bool {
        self.name_of(input).is_some()
    }

    fn need(&self, input: usize) -> Result<&'a str, Refusal> {
        self.name_of(input).ok_or_else(|| Refusal(format!("input {input} is missing")))
    }

    /// An input as a value.
    pub fn value(&mut self, input: usize) -> Result<ValueId, Refusal> {
        let name = self.need(input)?;
        self.t.value(name)
    }

    /// All inputs as values.
    pub fn values(&mut self) -> Result<Vec<ValueId>, Refusal> {
        (0..self.node.input.len()).map(|n| self.value(n)).collect()
    }

    /// What an input stands for.
    pub fn item(&self, input: usize) -> Option<&Item> {
        self.t.items.get(self.name_of(input)?)
    }

    /// Whether an input is a fixed tensor.
    pub fn is_fixed(&self, input: usize) -> bool {
        matches!(self.item(input), Some(Item::Fixed(_)))
    }

    /// The shape of a fixed tensor.
    pub fn fixed_shape(&self, input: usize) -> Result<Vec<usize>, Refusal> {
        match self.item(input) {
            Some(Item::Fixed(fixed)) => fixed.tensor.shape().map_err(|e| Refusal(e.to_string())),
            _ => Err(Refusal(format!("input {input} is no constant"))),
        }
    }

    /// An input as a weight of whatever shape it has.
    pub fn weight(&mut self, input: usize) -> Result<WeightId, Refusal> {
        let name = self.need(input)?;
        self.t.weight(name, None, false)
    }

    /// An input as a weight of this shape; leading ones may be missing.
    pub fn weight_of(&mut self, input: usize, shape: &[usize]) -> Result<WeightId, Refusal> {
        let name = self.need(input)?;
        self.t.weight(name, Some(shape), false)
    }

    /// An `[in, out]` matrix as a weight `[out, in]`.
    pub fn weight_transposed(&mut self, input: usize) -> Result<WeightId, Refusal> {
        let name = self.need(input)?;
        self.t.weight(name, None, true)
    }

    /// An input whose numbers are known now.
    pub fn known(&self, input: usize) -> Result<Known, Refusal> {
        let name = self.need(input)?;
        self.t.small(name).ok_or_else(|| Refusal(format!("`{name}` is not known before the model runs")))
    }

    /// Whole numbers that are known now.
    pub fn ints(&self, input: usize) -> Result<Vec<i64>, Refusal> {
        self.known(input)?.ints()
    }

    /// One number that is known now.
    pub fn real(&self, input: usize) -> Result<f64, Refusal> {
        self.known(input)?.reals()?.first().copied().ok_or_else(|| Refusal(format!("input {input} is empty")))
    }

    /// An attribute.
    pub fn attribute(&self, name: &str) -> Option<&'a AttributeProto> {
        self.node.attribute.iter().find(|a| a.name.as_deref() == Some(name))
    }

    /// A whole number, or its default.
    pub fn int(&self, name: &str, default: i64) -> i64 {
        self.attribute(name).and_then(|a| a.i).unwrap_or(default)
    }

    /// A number, or its default.
    pub fn float(&self, name: &str, default: f32) -> f32 {
        self.attribute(name).and_then(|a| a.f).unwrap_or(default)
    }

    /// Whole numbers, if given.
    pub fn list(&self, name: &str) -> Option<&'a [i64]> {
        self.attribute(name).map(|a| &a.ints[..])
    }

    /// Text, or its default.
    pub fn text(&self, name: &str, default: &'static str) -> &'a str {
        self.attribute(name).and_then(|a| std::str::from_utf8(a.s.as_deref()?).ok()).unwrap_or(default)
    }

    /// Lengths, if given: whole numbers that are not negative.
    pub fn lengths(&self, name: &str) -> Result<Option<Vec<usize>>, Refusal> {
        let Some(list) = self.list(name) else { return Ok(None) };
        let all = list.iter().map(|n| usize::try_from(*n)).collect::<Result<_, _>>();
        all.map(Some).map_err(|_| Refusal(format!("`{name}` is {list:?}")))
    }

    /// A value's shape.
    pub fn shape(&self, value: ValueId) -> Result<Shape, Refusal> {
        let value = &self.t.graph.values()[value.0];
        match value.kind {
            Kind::Unknown => Err(Refusal(format!("the shape of `{}` is not known", value.name))),
            _ => Ok(value.shape.clone()),
        }
    }

    /// Channels of a value `[batch, channels, space…]`.
    pub fn channels(&self, value: ValueId) -> Result<usize, Refusal> {
        match self.shape(value)?[..] {
            [_, Dim::Fixed(channels), ..] => Ok(channels),
            _ => Err("its input has no fixed channels".into()),
        }
    }

    /// An axis counted from the end where it is negative.
    pub fn axis(&self, axis: i64, rank: usize) -> Result<usize, Refusal> {
        let found = super::fold::index(axis, rank).filter(|axis| *axis < rank);
        found.ok_or_else(|| Refusal(format!("axis {axis} of a value of rank {rank}")))
    }

    /// Whether anything reads an output.
    pub fn is_read(&self, output: usize) -> bool {
        self.node.output.get(output).is_some_and(|name| self.t.read.contains(name.as_str()))
    }

    /// Adds a node; a second one gets a number.
    pub fn push_all(&mut self, op: impl Into<Op>, inputs: &[ValueId]) -> Result<Vec<ValueId>, Refusal> {
        let name = if self.pushed == 0 { self.name.clone() } else { format!("{}/{}", self.name, self.pushed) };
        let outputs = self.t.graph.push(&name, op, inputs, &self.t.weights)?;
        self.pushed += 1;
        self.t.nodes.insert(name, self.index);
        Ok(outputs)
    }

    /// Adds a node with one output.
    pub fn push(&mut self, op: impl Into<Op>, inputs: &[ValueId]) -> Result<ValueId, Refusal> {
        let outputs = self.push_all(op, inputs)?;
        outputs.first().copied().ok_or_else(|| "it makes nothing".into())
    }

    /// Says what the node's outputs are.
    pub fn done(&mut self, values: &[ValueId]) -> Done {
        self.t.bind(self.node, values);
        Ok(())
    }

    /// Adds the node's only graph node, and is done.
    pub fn only(&mut self, op: impl Into<Op>, inputs: &[ValueId]) -> Done {
        let value = self.push(op, inputs)?;
        self.done(&[value])
    }

    /// The node passes something on as it is.
    pub fn alias(&mut self, item: Item) -> Done {
        if let Some(name) = self.node.output.first() {
            self.t.items.insert(name.clone(), item);
        }
        Ok(())
    }
}
