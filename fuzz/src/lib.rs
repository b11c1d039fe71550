//! What is fuzzed: each target takes any bytes, must not panic, and what a reader accepts must hold together.

use formats::hf::{Json, QuantizationConfig, Rope};
use formats::{gguf, onnx, safetensors};
use std::path::Path;

/// A target by name.
pub type Target = (&'static str, fn(&[u8]));

/// Every target, the planted one last.
pub const TARGETS: [Target; 5] =
    [("safetensors", safetensors), ("gguf", gguf), ("config", config), ("onnx", onnx), ("planted", planted)];

/// The safetensors header: every tensor lies in the file, is as long as its shape says, and shares no byte.
pub fn safetensors(data: &[u8]) {
    let Ok(header) = safetensors::parse(data) else { return };
    let mut end = 0;
    for t in &header.tensors {
        assert!(t.range.start >= end && t.range.end <= data.len(), "{t:?}");
        assert_eq!(t.range.len(), t.shape.iter().product::<usize>() * t.dtype.bytes(), "{t:?}");
        end = t.range.end;
    }
}

/// The GGUF header: as above, and every getter takes every value.
pub fn gguf(data: &[u8]) {
    let Ok(header) = gguf::parse(data) else { return };
    let mut ranges: Vec<_> = header.tensors.iter().map(|t| t.range.clone()).filter(|r| !r.is_empty()).collect();
    ranges.sort_by_key(|r| r.start);
    assert!(ranges.iter().all(|r| r.end <= data.len()));
    assert!(ranges.windows(2).all(|w| w[0].end <= w[1].start));
    for t in &header.tensors {
        let bytes = t.ty.block().map_or(0, |(len, bytes)| t.elements() / len * bytes);
        assert_eq!(t.range.len(), bytes, "{t:?}");
        let _ = t.encoding();
    }
    for (key, _) in header.metadata.iter() {
        let _ = header.metadata.need::<u32>(key);
        let _ = header.metadata.need::<&str>(key);
        let _ = header.metadata.need::<&[String]>(key);
    }
}

/// `config.json`: every accessor takes every object.
pub fn config(data: &[u8]) {
    let Ok(json) = Json::parse(Path::new("config.json"), data) else { return };
    let Ok(node) = json.root().text() else { return };
    let _ = (node.dtype(), node.token_ids("eos_token_id"), node.need::<usize>("hidden_size"));
    if let Ok(Rope::ByLayerType { full, sliding }) = node.rope() {
        let _ = full.options.map(|o| o.need::<f64>("factor"));
        let _ = sliding.options.map(|o| o.need::<f64>("factor"));
    }
    if let Ok(Some(quantization)) = QuantizationConfig::of(&json.root()) {
        let text = format!("{{\"quantization_config\": {}}}", quantization.to_json());
        let again = Json::parse(Path::new("config.json"), text.as_bytes()).expect("what we write is JSON");
        let again = QuantizationConfig::of(&again.root()).expect("what we write, we read");
        // A strategy that was inferred is spelled out from then on.
        assert_eq!(again.map(|a| a.to_json()), Some(quantization.to_json()));
    }
}

/// The ONNX message: nodes are ordered, every tensor of numbers is as long as its shape says.
pub fn onnx(data: &[u8]) {
    let Ok((model, order)) = onnx::parse(onnx::Bytes::copy_from_slice(data)) else { return };
    let nodes = model.graph.as_ref().map_or(0, |g| g.node.len());
    assert_eq!(order.len(), nodes);
    for tensor in onnx::tensors(&model).into_iter().filter(|t| !t.is_external()) {
        let Ok(bytes) = tensor.inline_bytes() else { continue };
        let elements = tensor.shape().expect("it was checked").iter().product();
        let _ = onnx::integers(tensor.dtype().expect("it was checked"), &bytes, elements);
    }
}

/// A bug to be found, so that a run shows that the fuzzer finds any.
pub fn planted(data: &[u8]) {
    if let [b'F', b'U', b'Z', rest @ ..] = data
        && let [b'Z', rest @ ..] = rest
        && let [b'!', ..] = rest
    {
        panic!("the planted bug");
    }
}
