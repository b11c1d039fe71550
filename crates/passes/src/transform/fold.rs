//! # Batch norm folding
//!
//! **What it does.** A convolution or linear layer followed by a batch norm becomes one layer: with `s = γ / √(σ² + ε)`, output
//! channel by output channel, `W' = s·W` and `b' = s·(b − μ) + β`. The norm goes.
//!
//! **When to use.** Before a network is quantized: runtimes fuse the norm, so ranges must be those of what remains. After training
//! and pruning, which want live norms.
//!
//! **What it costs.** Nothing: less arithmetic, the same results to rounding.
//!
//! **What it needs.** A norm that alone reads what its layer makes. Other norms stay and are named with the reason.
//!
//! **Numbers.** ResNet-20's 19 norms go; its outputs change by less than 1e-5 of the largest.
//!
//! **Paper.** Jacob et al.: Quantization and Training of Neural Networks, CVPR 2018 (arXiv 1712.05877), section 3.2.
//!
//! **Differences.** A matrix that several layers share is given a copy of its own.

use graph::ops::BatchNorm;
use graph::{Graph, Model, Node, Op, Patch, SourceError, ValueId, Weight, WeightId};

/// What folding does to a model.
#[derive(Default)]
pub struct Folded {
    /// The change to apply.
    pub patch: Patch,
    /// Norms that go, and the layers that they go into.
    pub into: Vec<(String, String)>,
    /// Norms that stay, and why.
    pub stay: Vec<(String, &'static str)>,
}

/// Folds every batch norm of a network that can be folded.
///
/// # Errors
/// A weight that cannot be read.
pub fn fold(model: &Model) -> Result<Folded, SourceError> {
    let mut folded = Folded::default();
    let Some(graph) = model.graph() else { return Ok(folded) };
    for node in graph.nodes() {
        let Op::BatchNorm(norm) = &node.op else { continue };
        match layer_before(graph, node) {
            Ok((layer, parts)) => {
                fold_one(model, graph, (node, norm), (layer, parts), &mut folded)?;
                folded.into.push((node.name.clone(), layer.name.clone()));
            }
            Err(why) => folded.stay.push((node.name.clone(), why)),
        }
    }
    Ok(folded)
}

/// A layer's weights, and where output channels lie in its matrix.
#[derive(Clone, Copy)]
struct Parts {
    weight: WeightId,
    bias: Option<WeightId>,
    /// Of a transposed convolution, `[in, out / groups, kernel…]`, in so many groups; else output channels come first.
    transposed: Option<usize>,
}

impl Parts {
    fn of(op: &Op, rank: usize) -> Option<Parts> {
        Some(match op {
            Op::Conv(op) => Parts { weight: op.weight, bias: op.bias, transposed: None },
            Op::ConvTranspose(op) => Parts { weight: op.weight, bias: op.bias, transposed: Some(op.groups) },
            // Of more axes the norm's channels are not the product's outputs.
            Op::Linear(op) if rank == 2 => Parts { weight: op.weight, bias: op.bias, transposed: None },
            _ => return None,
        })
    }

    /// The op with these weights instead.
    fn put(op: &Op, weight: WeightId, bias: WeightId) -> Op {
        let bias = Some(bias);
        match op.clone() {
            Op::Conv(op) => graph::ops::Conv { weight, bias, ..op }.into(),
            Op::ConvTranspose(op) => graph::ops::ConvTranspose { weight, bias, ..op }.into(),
            Op::Linear(_) => graph::ops::Linear { weight, bias }.into(),
            other => other,
        }
    }

    /// The output channel of an element of the matrix.
    fn channel(self, at: usize, shape: &[usize]) -> usize {
        let kernel = shape.iter().skip(2).product::<usize>().max(1);
        match (self.transposed, shape) {
            (Some(groups), [inputs, local, ..]) => {
                let (input, output) = (at / kernel / local, at / kernel % local);
                input / (inputs / groups.max(1)).max(1) * local + output
            }
            _ => at / shape.iter().skip(1).product::<usize>().max(1),
        }
    }
}

/// The layer whose output a norm alone reads.
fn layer_before<'a>(graph: &'a Graph, norm: &Node) -> Result<(&'a Node, Parts), &'static str> {
    let input: ValueId = norm.inputs[0];
    let Some(maker) = graph.nodes().iter().find(|n| n.outputs.contains(&input)) else {
        return Err("it reads an input of the network");
    };
    let rank = graph.values()[input.0].shape.len();
    let parts = Parts::of(&maker.op, rank).ok_or("no convolution or linear layer stands before it")?;
    if graph.readers(input).count() > 1 || graph.outputs().contains(&input) {
        return Err("something else reads what the layer before it makes");
    }
    Ok((maker, parts))
}

/// Scale and shift of each channel, in double precision.
fn affine(model: &Model, norm: &BatchNorm) -> Result<Vec<[f64; 2]>, SourceError> {
    let read = |id: WeightId| model.weights.get(id).read();
    let (scale, bias) = (read(norm.scale)?, read(norm.bias)?);
    let (mean, var) = (read(norm.mean)?, read(norm.var)?);
    let rows = scale.into_iter().zip(bias).zip(mean.into_iter().zip(var));
    Ok(rows
        .map(|((scale, bias), (mean, var))| {
            let s = f64::from(scale) / (f64::from(var) + norm.eps).sqrt();
            [s, f64::from(bias) - s * f64::from(mean)]
        })
        .collect())
}

fn fold_one(
    model: &Model,
    graph: &Graph,
    (node, norm): (&Node, &BatchNorm),
    (layer, parts): (&Node, Parts),
    folded: &mut Folded,
) -> Result<(), SourceError> {
    let affine = affine(model, norm)?;
    let weight = model.weights.get(parts.weight);
    let mut numbers = weight.read()?;
    for (at, x) in numbers.iter_mut().enumerate() {
        *x = (f64::from(*x) * affine[parts.channel(at, &weight.shape)][0]) as f32;
    }
    let old = parts.bias.map_or(Ok(vec![0.0; affine.len()]), |bias| model.weights.get(bias).read())?;
    let bias: Vec<f32> =
        affine.iter().zip(old).map(|([scale, shift], b)| (scale * f64::from(b) + shift) as f32).collect();
    let mut put = |id: Option<WeightId>, part: &str, shape: Vec<usize>, numbers: &[f32]| {
        let made = |name: &str| Weight::from_f32(name, weight.place, shape.clone(), numbers);
        match id.filter(|id| graph.users(*id).count() == 1) {
            Some(id) => {
                let made = made(&model.weights.get(id).name)?;
                let patch = std::mem::take(&mut folded.patch);
                folded.patch = patch.encode(model, id, made.encoding, made.source);
                Ok(id)
            }
            None => {
                let own = format!("{}.{part}", layer.name);
                let name = if model.weights.find(&own).is_some() { format!("{own}.folded") } else { own };
                Ok::<_, SourceError>(folded.patch.add(model, made(&name)?))
            }
        }
    };
    let weight = put(Some(parts.weight), "weight", weight.shape.clone(), &numbers)?;
    let bias = put(parts.bias, "bias", vec![bias.len()], &bias)?;
    let patch = std::mem::take(&mut folded.patch);
    folded.patch = patch.set_op(&layer.name, Parts::put(&layer.op, weight, bias)).bypass(&node.name);
    Ok(())
}
