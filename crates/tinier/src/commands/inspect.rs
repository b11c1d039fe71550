//! `tinier inspect`: what a model is.

use crate::cli::{Common, Inspect};
use crate::{output, source};
use anyhow::Result;
use graph::{DecoderConfig, Graph, Size, Weight};
use import::Imported;
use plan::{Bytes, Counters};
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub fn run(args: Inspect, common: &Common) -> Result<()> {
    let imported = source::open(&args.source, common)?;
    if common.json {
        return output::json(&document(&imported, args.tensors)?);
    }
    output::text(&summary(&imported)?)?;
    if args.tensors {
        output::text(&format!("\n{}", tensors(&imported)?))?;
    }
    if args.graph {
        output::text(&format!("\n{}", imported.model))?;
    }
    Ok(())
}

fn document(imported: &Imported, tensors: bool) -> Result<Value> {
    let tensor = |w: &Weight| -> Result<Value> {
        Ok(json!({"name": w.name, "role": w.place.role.name(), "layer": w.place.layer, "shape": w.shape,
            "encoding": w.encoding.to_string(), "bytes": w.bytes()?}))
    };
    let all = imported.model.weights.iter().map(|(_, w)| w);
    let listed = if tensors { Some(all.map(|w| tensor(w)).collect::<Result<Vec<_>>>()?) } else { None };
    let counters = imported.network.as_ref().map(|_| Counters::of(&imported.model)).transpose()?;
    Ok(json!({
        "path": imported.path, "architecture": imported.model.decoder().map(|c| &c.family),
        "parameters": imported.model.parameters(), "bytes": bytes(imported)?, "encodings": encodings(imported),
        "counters": counters, "config": imported.config, "notes": imported.notes, "tensors": listed,
    }))
}

fn bytes(imported: &Imported) -> Result<u64> {
    Ok(imported.model.weights.iter().map(|(_, w)| w.bytes()).sum::<Result<usize, _>>()? as u64)
}

fn encodings(imported: &Imported) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for (_, weight) in imported.model.weights.iter() {
        *counts.entry(weight.encoding.to_string()).or_default() += 1;
    }
    counts
}

fn summary(imported: &Imported) -> Result<String> {
    let model = &imported.model;
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let counts: Vec<_> = encodings(imported).into_iter().map(|(name, n)| format!("{n}× {name}")).collect();
    let mut rows = vec![
        row("model", imported.path.display().to_string()),
        row("parameters", millions(model.parameters())),
        row(
            "weights",
            format!("{} in {} tensors: {}", Bytes(bytes(imported)?), model.weights.len(), counts.join(", ")),
        ),
    ];
    match (model.decoder(), model.graph(), &model.body) {
        (Some(config), Some(graph), _) => {
            rows.extend(decoder(config));
            let cost = graph.cost(&model.weights, Size { batch: 1, tokens: config.context.min(512) });
            let each = cost.macs as f64 / config.context.min(512) as f64;
            rows.push(row("arithmetic", format!("{:.1} M multiply-adds per token", each / 1e6)));
        }
        (None, Some(graph), _) => rows.extend(network(imported, graph)?),
        (_, _, graph::Body::Unknown { reason }) => {
            rows.push(row("architecture", format!("unknown: {reason}; compressed by name and shape only")));
        }
        _ => {}
    }
    rows.extend(imported.notes.iter().map(|note| row("note", note.clone())));
    Ok(output::table(&rows, &[]))
}

fn decoder(c: &DecoderConfig) -> Vec<Vec<String>> {
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let windows = c.layers.iter().filter(|l| l.window.is_some()).count();
    let sliding = if windows > 0 { format!(", {windows} with a sliding window") } else { String::new() };
    let mut rows = vec![
        row("architecture", c.family.clone()),
        row("layers", format!("{}{sliding}", c.layers.len())),
        row("width", format!("{}, feed-forward {}", c.hidden, c.ffn)),
        row("attention", format!("{} heads of {}, {} key/value heads", c.heads, c.head_dim, c.kv_heads)),
        row("vocabulary", format!("{}{}", c.vocab, if c.tied { ", head tied to the embedding" } else { "" })),
        row("context", format!("{} tokens", c.context)),
    ];
    if let Some(e) = &c.experts {
        rows.push(row("experts", format!("{} of {} per token, {} wide", e.used, e.count, e.ffn)));
    }
    rows
}

/// A network: its operators, its inputs and outputs, what one sample costs.
fn network(imported: &Imported, graph: &Graph) -> Result<Vec<Vec<String>>> {
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let mut rows = Vec::new();
    if let Some(opset) = imported.network.as_ref().and_then(|n| n.file.opset("")) {
        rows.push(row("operators", format!("ONNX, version {opset}")));
    }
    let mut ops = BTreeMap::<_, usize>::new();
    graph.nodes().iter().for_each(|node| *ops.entry(node.op.name()).or_default() += 1);
    let ops: Vec<_> = ops.into_iter().map(|(name, n)| format!("{n}× {name}")).collect();
    rows.push(row("nodes", ops.join(", ")));
    let value = |id: &graph::ValueId| {
        let value = &graph.values()[id.0];
        let shape: Vec<_> = value.shape.iter().map(ToString::to_string).collect();
        format!("{} [{}]", value.name, shape.join(", "))
    };
    for (name, ids) in [("input", graph.inputs()), ("output", graph.outputs())] {
        rows.extend(ids.iter().map(|id| row(name, value(id))));
    }
    let counted = Counters::of(&imported.model)?;
    let kinds: Vec<_> = counted.macs.iter().map(|(kind, n)| format!("{kind} {:.2} M", *n as f64 / 1e6)).collect();
    let total = counted.total_macs() as f64 / 1e6;
    rows.push(row("arithmetic", format!("{total:.2} M multiply-adds per sample: {}", kinds.join(", "))));
    let memory = &counted.memory;
    let (planned, live) = (Bytes(memory.planned), Bytes(memory.live));
    rows.push(row("activations", format!("an arena of {planned}; {live} at once at `{}`", memory.at)));
    Ok(rows)
}

fn tensors(imported: &Imported) -> Result<String> {
    let mut rows = Vec::new();
    for (_, w) in imported.model.weights.iter() {
        let shape = w.shape.iter().map(ToString::to_string).collect::<Vec<_>>().join("×");
        let (encoding, bytes) = (w.encoding.to_string(), Bytes(w.bytes()? as u64).to_string());
        rows.push(vec![w.name.clone(), w.place.role.name().into(), shape, encoding, bytes]);
    }
    Ok(output::table(&rows, &[4]))
}

fn millions(n: usize) -> String {
    match n {
        n if n >= 1_000_000_000 => format!("{:.2} B", n as f64 / 1e9),
        n => format!("{:.2} M", n as f64 / 1e6),
    }
}
