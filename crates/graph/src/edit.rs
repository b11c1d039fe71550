//! Changes to a graph that exists: other ops, nodes taken out, nodes put in. Values keep their ids; nodes are found by name,
//! because their positions move.

use crate::{Graph, GraphError, Node, Op, ValueId, WeightStore};

impl Graph {
    /// The position of a node.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.nodes().iter().position(|n| n.name == name)
    }

    /// The nodes that read a value, by position.
    pub fn readers(&self, value: ValueId) -> impl Iterator<Item = usize> {
        self.nodes().iter().enumerate().filter(move |(_, n)| n.inputs.contains(&value)).map(|(i, _)| i)
    }

    /// The node that makes a value, by position; inputs of the graph have none.
    pub fn maker(&self, value: ValueId) -> Option<usize> {
        self.nodes().iter().position(|n| n.outputs.contains(&value))
    }

    /// Gives a node another op; [`Graph::refresh`] then follows the shapes.
    pub fn set_op(&mut self, node: &str, op: Op) -> Result<(), GraphError> {
        let at = self.need(node)?;
        self.nodes_mut()[at].op = op;
        Ok(())
    }

    /// Takes a node out: what read its only output reads its first input. Where nothing else read that input, it takes the
    /// output's name, so that everything behind stays as it was.
    pub fn bypass(&mut self, node: &str) -> Result<(), GraphError> {
        let at = self.need(node)?;
        let Node { inputs, outputs, .. } = &self.nodes()[at];
        let ([input, ..], [output]) = (&inputs[..], &outputs[..]) else {
            return Err(GraphError::Edit { node: node.into(), why: "it has no input, or several outputs".into() });
        };
        let (input, output) = (*input, *output);
        let alone = self.readers(input).count() == 1 && !self.outputs().contains(&input);
        if alone && !self.inputs().contains(&input) {
            let name = self.values()[output.0].name.clone();
            self.name_value(output, &format!("{name} (taken out)"));
            self.name_value(input, &name);
        }
        self.remove(at);
        self.reread(output, input);
        Ok(())
    }

    /// Puts a node with one input and one output behind a value: the named readers read its output instead, or all readers
    /// and the graph's outputs where none are named. An output of the graph then hands its name on.
    pub fn insert_behind(
        &mut self,
        value: ValueId,
        name: &str,
        op: impl Into<Op>,
        readers: Option<&[&str]>,
        weights: &WeightStore,
    ) -> Result<ValueId, GraphError> {
        let mark = self.nodes().len();
        let chosen: Vec<usize> = match readers {
            Some(names) => names.iter().map(|n| self.need(n)).collect::<Result<_, _>>()?,
            None => self.readers(value).collect(),
        };
        let made = self.push1(name, op, &[value], weights)?;
        for at in chosen {
            self.nodes_mut()[at].inputs.iter_mut().filter(|v| **v == value).for_each(|v| *v = made);
        }
        if readers.is_none() {
            if self.outputs().contains(&value) && !self.inputs().contains(&value) {
                let shown = self.values()[value.0].name.clone();
                self.name_value(value, &format!("{shown} (before {name})"));
                self.name_value(made, &shown);
            }
            self.outputs_mut().iter_mut().filter(|v| **v == value).for_each(|v| *v = made);
        }
        let behind = self.nodes().iter().position(|n| n.outputs.contains(&value)).map_or(0, |maker| maker + 1);
        self.move_node(mark, behind);
        Ok(made)
    }

    /// Works out all shapes again, from the inputs on.
    pub fn refresh(&mut self, weights: &WeightStore) -> Result<(), GraphError> {
        for at in 0..self.nodes().len() {
            let node = self.nodes()[at].clone();
            let error = |why| GraphError::Shape { node: node.name.clone(), op: node.op.name(), why };
            let made = node.op.spec().outputs(&self.input_types(&node), weights).map_err(|e| error(e.0))?;
            for (value, (kind, shape)) in node.outputs.iter().zip(made) {
                self.retype(*value, kind, shape);
            }
        }
        Ok(())
    }

    fn need(&self, node: &str) -> Result<usize, GraphError> {
        self.find(node).ok_or_else(|| GraphError::Edit { node: node.into(), why: "there is no such node".into() })
    }

    fn reread(&mut self, from: ValueId, to: ValueId) {
        for node in self.nodes_mut() {
            node.inputs.iter_mut().filter(|v| **v == from).for_each(|v| *v = to);
        }
        self.outputs_mut().iter_mut().filter(|v| **v == from).for_each(|v| *v = to);
    }
}
