//! The graph as text, for people and for snapshot tests.

use crate::{Graph, Model, Node, ValueId, WeightStore};
use std::fmt;

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(graph) = self.graph() else {
            return writeln!(f, "no graph, {} weights", self.weights.len());
        };
        for (i, node) in graph.nodes().iter().enumerate() {
            if let Some(block) = graph.blocks().iter().find(|b| b.nodes.start == i) {
                writeln!(f, "# {}", block.name)?;
            }
            write_node(f, graph, node, &self.weights)?;
        }
        Ok(())
    }
}

fn write_node(f: &mut fmt::Formatter<'_>, graph: &Graph, node: &Node, weights: &WeightStore) -> fmt::Result {
    let names = |ids: &[ValueId]| ids.iter().map(|v| graph.values()[v.0].name.as_str()).collect::<Vec<_>>().join(", ");
    let shapes: Vec<_> = node
        .outputs
        .iter()
        .map(|v| graph.values()[v.0].shape.iter().map(ToString::to_string).collect::<Vec<_>>().join("×"))
        .collect();
    write!(f, "{} [{}] = {}({})", node.name, shapes.join("; "), node.op.name(), names(&node.inputs))?;
    for id in node.op.spec().weights() {
        let weight = weights.get(id);
        write!(f, " {}:{}", weight.name, weight.encoding)?;
    }
    writeln!(f)
}
