//! A file that is still to be written: the inputs and outputs of a network built here, and nothing between them.

use super::Network;
use formats::onnx::proto::{
    Dimension, DimensionValue, GraphProto, ModelProto, OperatorSetIdProto, StringStringEntryProto, TensorShapeProto,
    TensorType, TypeProto, TypeValue, ValueInfoProto,
};
use formats::onnx::{DataType, Error, Onnx};
use graph::{Dim, Graph, Value, ValueId, WeightStore};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// Operators and file version that networks built here are written in: what runtimes have read since 2022.
const OPSET: i64 = 17;
const IR: i64 = 8;

impl Network {
    /// The envelope of a network that came from no file; writing puts all of its nodes and weights into it.
    ///
    /// # Errors
    /// None for a graph that has been checked.
    pub fn blank(graph: &Graph, name: &str, metadata: &[(&str, String)]) -> Result<Network, Error> {
        let infos = |ids: &[ValueId]| ids.iter().map(|v| info(&graph.values()[v.0])).collect();
        let proto = GraphProto {
            name: Some(name.to_owned()),
            input: infos(graph.inputs()),
            output: infos(graph.outputs()),
            ..GraphProto::default()
        };
        let entry = |(key, value): &(&str, String)| StringStringEntryProto {
            key: Some((*key).to_owned()),
            value: Some(value.clone()),
        };
        let model = ModelProto {
            ir_version: Some(IR),
            opset_import: vec![OperatorSetIdProto { domain: Some(String::new()), version: Some(OPSET) }],
            producer_name: Some("tinier".to_owned()),
            producer_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            graph: Some(proto),
            metadata_props: metadata.iter().map(entry).collect(),
            ..ModelProto::default()
        };
        let mut ends = Graph::default();
        let mut values = HashMap::new();
        for id in graph.inputs() {
            let value = &graph.values()[id.0];
            values.insert(value.name.clone(), ends.input(&value.name, value.kind, value.shape.clone()));
        }
        Ok(Network {
            file: Arc::new(Onnx::new(Path::new(name), model)?),
            graph: ends,
            weights: WeightStore::default(),
            stored: HashMap::new(),
            nodes: HashMap::new(),
            values,
        })
    }
}

fn info(value: &Value) -> ValueInfoProto {
    let dim = |dim: &Dim| Dimension {
        value: Some(match dim.fixed() {
            Some(length) => DimensionValue::Value(length as i64),
            None => DimensionValue::Param("N".to_owned()),
        }),
        ..Dimension::default()
    };
    let tensor = TensorType {
        elem_type: Some(DataType::Float as i32),
        shape: Some(TensorShapeProto { dim: value.shape.iter().map(dim).collect() }),
    };
    ValueInfoProto {
        name: Some(value.name.clone()),
        r#type: Some(TypeProto { value: Some(TypeValue::Tensor(tensor)), ..TypeProto::default() }),
        ..ValueInfoProto::default()
    }
}
