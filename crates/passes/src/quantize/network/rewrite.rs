//! Nodes that onnxruntime runs in float, written as others that it runs on codes. What the network computes stays the same.
//!
//! | found | becomes |
//! |---|---|
//! | mean over the whole plane that loses its axes (ReduceMean) | GlobalAveragePool and Reshape |
//! | BatchNormalization that could not be folded | depthwise Conv of size 1 |
//! | zeros put around the plane (Pad) before a Conv | padding of the Conv |
//! | zeros put beside the channels (Pad) | Conv of size 1 whose kernel is the identity |
//! | Sub of a constant | Add of its negative |
//! | Div by a constant | Mul by its inverse |

use super::QuantizeError;
use graph::ops::{Add, BatchNorm, Binary, Constant, Conv, Mul, Pad, PadKind, Reduce, ReduceKind, Reshape, Span};
use graph::{Dim, Graph, Model, Node, Op, Patch, Place, Role, SourceError, Weight, WeightId};

/// A rewrite: its patch, and what it did.
type Rewrite = fn(&Model, &Graph, &Node) -> Result<Option<(Patch, String)>, SourceError>;

/// Does every rewrite wherever it fits; says what was done.
pub fn rewrite(model: &mut Model) -> Result<Vec<String>, QuantizeError> {
    let mut notes = Vec::new();
    let rules: [Rewrite; 5] = [plane_mean, lone_norm, pad_before_conv, pad_of_channels, constant_side];
    for rule in rules {
        let names: Vec<String> = model.graph().map_or(vec![], |g| g.nodes().iter().map(|n| n.name.clone()).collect());
        for name in names {
            let Some(graph) = model.graph() else { continue };
            let Some(node) = graph.find(&name).map(|at| &graph.nodes()[at]) else { continue };
            if let Some((patch, note)) = rule(model, graph, node)? {
                model.apply(patch)?;
                notes.push(note);
            }
        }
    }
    Ok(notes)
}

fn new_weight(
    patch: &mut Patch,
    model: &Model,
    name: &str,
    shape: Vec<usize>,
    numbers: &[f32],
) -> Result<WeightId, SourceError> {
    let weight = Weight::from_f32(&unused(model, name), Place::outer(Role::Other), shape, numbers)?;
    Ok(patch.add(model, weight))
}

/// A name that no weight has.
pub(super) fn unused(model: &Model, name: &str) -> String {
    let numbered = (2..).map(|n| format!("{name}_{n}"));
    let free = |name: &String| model.weights.find(name).is_none();
    std::iter::once(name.to_owned()).chain(numbered).find(free).unwrap_or_default()
}

fn plane_mean(_: &Model, graph: &Graph, node: &Node) -> Result<Option<(Patch, String)>, SourceError> {
    let (Op::Reduce(op), [input], [output]) = (&node.op, &node.inputs[..], &node.outputs[..]) else { return Ok(None) };
    let rank = graph.values()[input.0].shape.len();
    if op.kind != ReduceKind::Mean || op.keep || rank < 3 || !op.axes.iter().copied().eq(2..rank) {
        return Ok(None);
    }
    let shape = graph.values()[output.0].shape.clone();
    let patch = Patch::default().set_op(&node.name, Reduce { keep: true, ..op.clone() }).insert(
        *output,
        &format!("{}_flat", node.name),
        Reshape { shape },
        None,
    );
    Ok(Some((patch, format!("`{}`: ReduceMean became GlobalAveragePool and Reshape", node.name))))
}

fn lone_norm(model: &Model, graph: &Graph, node: &Node) -> Result<Option<(Patch, String)>, SourceError> {
    let Op::BatchNorm(norm) = &node.op else { return Ok(None) };
    let space = graph.values()[node.inputs[0].0].shape.len().saturating_sub(2);
    if !(1..=2).contains(&space) {
        return Ok(None);
    }
    let (scale, shift) = affine(model, norm)?;
    let (channels, mut patch) = (scale.len(), Patch::default());
    let shape = [vec![channels, 1], vec![1; space]].concat();
    let weight = new_weight(&mut patch, model, &format!("{}_scale", node.name), shape, &scale)?;
    let bias = Some(new_weight(&mut patch, model, &format!("{}_shift", node.name), vec![channels], &shift)?);
    let window = vec![Span { size: 1, stride: 1, dilation: 1, pad: [0, 0] }; space];
    let conv = Conv { weight, bias, outputs: channels, window, groups: channels };
    let note = format!("`{}`: BatchNormalization became a depthwise Conv of size 1", node.name);
    Ok(Some((patch.set_op(&node.name, conv), note)))
}

/// What a norm multiplies each channel by, and then adds.
fn affine(model: &Model, norm: &BatchNorm) -> Result<(Vec<f32>, Vec<f32>), SourceError> {
    let read = |id: WeightId| model.weights.get(id).read();
    let (scale, bias, mean, var) = (read(norm.scale)?, read(norm.bias)?, read(norm.mean)?, read(norm.var)?);
    let scale: Vec<f64> =
        scale.iter().zip(var).map(|(s, v)| f64::from(*s) / (f64::from(v) + norm.eps).sqrt()).collect();
    let shift = scale.iter().zip(bias.iter().zip(mean)).map(|(s, (b, m))| (f64::from(*b) - s * f64::from(m)) as f32);
    Ok((scale.iter().map(|s| *s as f32).collect(), shift.collect()))
}

/// The zeros that a Pad puts around the plane alone.
fn plane(op: &Pad) -> Option<&[[usize; 2]]> {
    match (op.kind, &op.pads[..]) {
        (PadKind::Constant(0.0), [[0, 0], [0, 0], plane @ ..]) => Some(plane),
        _ => None,
    }
}

fn pad_before_conv(_: &Model, graph: &Graph, node: &Node) -> Result<Option<(Patch, String)>, SourceError> {
    let Op::Pad(op) = &node.op else { return Ok(None) };
    let (Some(plane), [padded]) = (plane(op), &node.outputs[..]) else { return Ok(None) };
    let readers: Vec<&Node> = graph.readers(*padded).map(|at| &graph.nodes()[at]).collect();
    let ([Node { op: Op::Conv(conv), name, .. }], false) = (&readers[..], graph.outputs().contains(padded)) else {
        return Ok(None);
    };
    let wider = |(span, pad): (&Span, &[usize; 2])| Span { pad: [span.pad[0] + pad[0], span.pad[1] + pad[1]], ..*span };
    let window = conv.window.iter().zip(plane).map(wider).collect();
    let patch = Patch::default().bypass(&node.name).set_op(name, Conv { window, ..conv.clone() });
    Ok(Some((patch, format!("`{}`: Pad became padding of `{name}`", node.name))))
}

fn pad_of_channels(model: &Model, graph: &Graph, node: &Node) -> Result<Option<(Patch, String)>, SourceError> {
    let Op::Pad(op) = &node.op else { return Ok(None) };
    let shape = &graph.values()[node.inputs[0].0].shape;
    let (PadKind::Constant(0.0), [[0, 0], [before, after], plane @ ..]) = (op.kind, &op.pads[..]) else {
        return Ok(None);
    };
    let ([_, Dim::Fixed(inputs), ..], 1..=2) = (&shape[..], plane.len()) else { return Ok(None) };
    let (outputs, mut patch) = (before + inputs + after, Patch::default());
    let mut kernel = vec![0.0; outputs * inputs];
    (0..*inputs).for_each(|c| kernel[(before + c) * inputs + c] = 1.0);
    let shape = [vec![outputs, *inputs], vec![1; plane.len()]].concat();
    let weight = new_weight(&mut patch, model, &format!("{}_identity", node.name), shape, &kernel)?;
    let window = plane.iter().map(|pad| Span { size: 1, stride: 1, dilation: 1, pad: *pad }).collect();
    let conv = Conv { weight, bias: None, outputs, window, groups: 1 };
    let note = format!("`{}`: Pad of channels became a Conv whose kernel is the identity", node.name);
    Ok(Some((patch.set_op(&node.name, conv), note)))
}

fn constant_side(model: &Model, graph: &Graph, node: &Node) -> Result<Option<(Patch, String)>, SourceError> {
    let (turn, op, note): (fn(f32) -> f32, Op, _) = match &node.op {
        Op::Binary(Binary::Sub) => (|x| -x, Add.into(), "Sub became Add of the negative"),
        Op::Binary(Binary::Div) => (|x| 1.0 / x, Mul.into(), "Div became Mul by the inverse"),
        _ => return Ok(None),
    };
    let Some(at) = node.inputs.get(1).and_then(|v| graph.maker(*v)) else { return Ok(None) };
    let Node { op: Op::Constant(Constant { weight, .. }), outputs, .. } = &graph.nodes()[at] else { return Ok(None) };
    let numbers: Vec<f32> = model.weights.get(*weight).read()?.into_iter().map(turn).collect();
    let alone = graph.readers(outputs[0]).count() == 1 && graph.users(*weight).count() == 1;
    if !alone || numbers.iter().any(|x| !x.is_finite()) {
        return Ok(None);
    }
    let old = model.weights.get(*weight);
    let Weight { encoding, source, .. } = Weight::from_f32(&old.name, old.place, old.shape.clone(), &numbers)?;
    let patch = Patch::default().encode(model, *weight, encoding, source).set_op(&node.name, op);
    Ok(Some((patch, format!("`{}`: {note}", node.name))))
}
