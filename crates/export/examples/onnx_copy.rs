//! `onnx_copy FROM TO [anew]`: reads an ONNX file and writes it again; `anew` keeps no node word for word.

use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, from, to, anew @ ..] = &arguments[..] else { return Err("onnx_copy FROM TO [anew]".into()) };
    let opened = import::open(Path::new(from))?;
    let network = opened.network.as_deref().ok_or("not an ONNX file")?;
    let mut network = network.clone();
    if !anew.is_empty() {
        let opaque = |node: &graph::Node| matches!(node.op, graph::Op::Opaque(_));
        let kept: Vec<_> = network.graph.nodes().iter().filter(|n| opaque(n)).map(|n| n.name.clone()).collect();
        network.nodes.retain(|name, _| kept.contains(name));
    }
    export::onnx::write(&opened.model, &network, Path::new(to))?;
    Ok(())
}
