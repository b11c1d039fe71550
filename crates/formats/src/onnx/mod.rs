//! ONNX: a network as a protobuf message, its large tensors in it or in files beside it.
//!
//! [`Onnx::open`] maps the file and decodes the message in place: tensors share the mapped bytes. Nothing is lost between
//! reading and writing: the message is kept field for field ([`proto`]).

mod check;
mod external;
mod problem;
pub mod proto;
mod tensor;
mod writer;

pub use check::{captured, node_label, order, tensors};
pub use external::Location;
pub use problem::{Error, Problem};
pub use prost::bytes::Bytes;
pub use tensor::{DataType, integers};
pub use writer::{Layout, write};

use crate::{InFile, Mapped};
use external::Externals;
use prost::Message;
use proto::{GraphProto, ModelProto, TensorProto};
use std::path::{Path, PathBuf};

/// An opened model.
#[derive(Clone, Debug)]
pub struct Onnx {
    path: PathBuf,
    model: ModelProto,
    graph: GraphProto,
    order: Vec<usize>,
    externals: Externals,
}

/// Decodes a model and checks what can be checked without its external data; also gives the order its nodes can run in.
pub fn parse(bytes: Bytes) -> Result<(ModelProto, Vec<usize>), Problem> {
    let model = ModelProto::decode(bytes).map_err(Problem::Protobuf)?;
    let order = check::check(&model)?;
    Ok((model, order))
}

impl Onnx {
    /// Opens a file; tensors in other files must be there, inside the same folder.
    pub fn open(path: &Path) -> Result<Onnx, Error> {
        let at = InFile::at(path);
        let mapped = Mapped::open(path).map_err(|e| at(Problem::Io(e)))?;
        let (mut model, order) = parse(Bytes::from_owner(mapped)).map_err(&at)?;
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut externals = Externals::default();
        for tensor in tensors(&model).into_iter().filter(|t| t.is_external()) {
            externals.add(folder, tensor).map_err(&at)?;
        }
        let graph = model.graph.take().ok_or_else(|| at(Problem::NoGraph))?;
        Ok(Onnx { path: path.to_owned(), model, graph, order, externals })
    }

    /// A model that is no file yet and has no external data. Its graph may still be empty.
    pub fn new(path: &Path, mut model: ModelProto) -> Result<Onnx, Error> {
        let at = InFile::at(path);
        let order = model
            .graph
            .as_ref()
            .map_or(Ok(vec![]), |graph| if graph.node.is_empty() { Ok(vec![]) } else { order(graph) });
        let order = order.map_err(&at)?;
        let graph = model.graph.take().ok_or_else(|| at(Problem::NoGraph))?;
        Ok(Onnx { path: path.to_owned(), model, graph, order, externals: Externals::default() })
    }

    /// What was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The main graph.
    pub fn graph(&self) -> &GraphProto {
        &self.graph
    }

    /// Everything but the main graph.
    pub fn envelope(&self) -> &ModelProto {
        &self.model
    }

    /// Positions of the graph's nodes in an order in which they can run.
    pub fn order(&self) -> &[usize] {
        &self.order
    }

    /// The version of a domain's operators; `""` is ONNX's own.
    pub fn opset(&self, domain: &str) -> Option<i64> {
        let own = |d: &str| if d == "ai.onnx" { String::new() } else { d.to_owned() };
        let found = self.model.opset_import.iter().find(|o| own(o.domain.as_deref().unwrap_or("")) == own(domain));
        found.map(|o| o.version.unwrap_or_default())
    }

    /// A tensor's numbers as little-endian bytes, without a copy where the file has them so.
    pub fn bytes(&self, tensor: &TensorProto) -> Result<Bytes, Error> {
        let found = if tensor.is_external() { self.externals.bytes(tensor) } else { tensor.inline_bytes() };
        found.map_err(InFile::at(&self.path))
    }

    /// Whether tensors lie in files beside the model, and so should a copy's.
    pub fn layout(&self) -> Layout {
        let beside = self.graph.initializer.iter().any(TensorProto::is_external);
        if beside { Layout::Beside } else { Layout::Inline }
    }

    /// The model around another graph, every external tensor of which is brought in. Clones share the mapped bytes.
    pub fn with_graph(&self, mut graph: GraphProto) -> Result<ModelProto, Error> {
        for tensor in graph.initializer.iter_mut().filter(|t| t.is_external()) {
            tensor.raw_data = Some(self.bytes(tensor)?);
            tensor.external_data.clear();
            tensor.data_location = None;
        }
        Ok(ModelProto { graph: Some(graph), ..self.model.clone() })
    }
}
