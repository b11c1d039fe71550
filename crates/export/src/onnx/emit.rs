//! Ops as ONNX nodes, in the version of the operators that the file has.

use super::build::{f32s, float, floats, int, int64s, ints, node, text};
use super::weights::zeros;
use crate::ExportError;
use formats::onnx::proto::{AttributeProto, NodeProto, TensorProto};
use graph::ops::{
    Activation, Binary, Coordinates, FakeQuant, Interpolation, NormKind, Pad, PadKind, Pool, PoolKind, Reduce,
    ReduceKind, Resize, Rounding, Select, Span,
};
use graph::{Dim, Op};

/// A node to be written: its op, and the names that it reads and makes.
pub(super) struct Emit<'a> {
    pub name: &'a str,
    pub op: &'a Op,
    pub inputs: Vec<String>,
    pub outputs: Vec<String>,
    /// Names of its weights, in the order of the op's.
    pub weights: Vec<String>,
    /// Whether its first weight is stored `[in, out]`.
    pub transposed: bool,
    /// Axes of its first input.
    pub rank: usize,
    pub opset: i64,
    /// The value whose codes it reads, where its product is one of integers: then its weights are codes, their scales and, where
    /// there is one, the bias, both as they are spread over the output.
    pub integers: Option<String>,
    /// Constants that its nodes need, under names made of its own.
    pub constants: Vec<TensorProto>,
}

impl Emit<'_> {
    fn constant(&mut self, what: &str, make: impl FnOnce(&str) -> TensorProto) -> String {
        let name = format!("{}_{what}", self.name);
        self.constants.push(make(&name));
        name
    }

    fn list(&mut self, what: &str, list: &[i64]) -> String {
        self.constant(what, |name| int64s(name, &[list.len()], list))
    }

    fn real(&mut self, what: &str, x: f32) -> String {
        self.constant(what, |name| f32s(name, &[], &[x]))
    }

    /// One node that reads the inputs, then these names.
    fn one(&self, op: &str, more: &[String], attributes: Vec<AttributeProto>) -> Vec<NodeProto> {
        let inputs: Vec<_> = self.inputs.iter().chain(more).cloned().collect();
        vec![node(op, self.name, &inputs, &self.outputs, attributes)]
    }

    fn refuse(&self, why: &str) -> ExportError {
        ExportError::Onnx { why: format!("node `{}` ({}): {why}", self.name, self.op.name()) }
    }

    /// The nodes, one behind the other.
    pub fn nodes(&mut self) -> Result<Vec<NodeProto>, ExportError> {
        let weights = self.weights.clone();
        if let Some(value) = self.integers.clone() {
            return self.integer_product(&value);
        }
        Ok(match self.op {
            Op::Activation(op) => return self.activation(*op),
            Op::Add(_) => self.one("Add", &[], vec![]),
            Op::Mul(_) => self.one("Mul", &[], vec![]),
            Op::MatMul(_) => self.one("MatMul", &[], vec![]),
            Op::Binary(op) => {
                let name = match op {
                    Binary::Sub => "Sub",
                    Binary::Div => "Div",
                    Binary::Pow => "Pow",
                    Binary::Max => "Max",
                    Binary::Min => "Min",
                    Binary::Slope => "PRelu",
                };
                self.one(name, &[], vec![])
            }
            Op::BatchNorm(op) => {
                let attributes = vec![float("epsilon", op.eps as f32), float("momentum", op.momentum as f32)];
                self.one("BatchNormalization", &weights, attributes)
            }
            Op::GroupNorm(op) if self.opset >= 21 => {
                let attributes = vec![int("num_groups", op.groups as i64), float("epsilon", op.eps as f32)];
                self.one("GroupNormalization", &weights, attributes)
            }
            // Of older operators only instance norms come in.
            Op::GroupNorm(op) => self.one("InstanceNormalization", &weights, vec![float("epsilon", op.eps as f32)]),
            Op::Norm(op) => {
                let name = if op.kind == NormKind::Layer { "LayerNormalization" } else { "RMSNormalization" };
                self.one(name, &weights, vec![int("axis", -1), float("epsilon", op.eps as f32)])
            }
            Op::Lrn(op) => {
                let size = int("size", op.size as i64);
                self.one(
                    "LRN",
                    &[],
                    vec![size, float("alpha", op.alpha), float("beta", op.beta), float("bias", op.bias)],
                )
            }
            Op::Conv(op) => {
                let attributes = [window(&op.window), vec![int("group", op.groups as i64)]].concat();
                self.one("Conv", &weights, attributes)
            }
            Op::ConvTranspose(op) => {
                let more = vec![ints("output_padding", op.extra.clone()), int("group", op.groups as i64)];
                self.one("ConvTranspose", &weights, [window(&op.window), more].concat())
            }
            Op::Linear(_) => return self.linear(),
            Op::Embedding(_) => {
                vec![node(
                    "Gather",
                    self.name,
                    &[weights, self.inputs.clone()].concat(),
                    &self.outputs,
                    vec![int("axis", 0)],
                )]
            }
            Op::Concat(op) => self.one("Concat", &[], vec![int("axis", op.axis as i64)]),
            Op::Split(op) => {
                let axis = int("axis", op.axis as i64);
                let widths: Vec<i64> = op.widths.iter().map(|w| *w as i64).collect();
                if self.opset < 13 {
                    return Ok(self.one("Split", &[], vec![axis, ints("split", op.widths.clone())]));
                }
                let sizes = self.list("sizes", &widths);
                self.one("Split", &[sizes], vec![axis])
            }
            Op::Select(op) => return self.select(op),
            Op::Reshape(op) => {
                let shape = self.list("shape", &open(&op.shape, -1));
                self.one("Reshape", &[shape], vec![])
            }
            Op::Expand(op) => {
                let shape = self.list("shape", &open(&op.shape, 1));
                self.one("Expand", &[shape], vec![])
            }
            Op::Transpose(op) => self.one("Transpose", &[], vec![ints("perm", op.order.clone())]),
            Op::Softmax(op) => {
                self.one(if op.log { "LogSoftmax" } else { "Softmax" }, &[], vec![int("axis", op.axis as i64)])
            }
            Op::Reduce(op) => self.reduce(op),
            Op::Pool(op) => self.pool(op),
            Op::Pad(op) => self.pad(op),
            Op::Resize(op) => return self.resize(op),
            Op::FakeQuant(op) => return self.fake_quant(op),
            Op::DynamicQuant(_) => self.dynamic_quant(),
            Op::Constant(_) => self.identity(&weights),
            Op::Attention(_) | Op::MoeExperts(_) | Op::MoeRoute(_) | Op::Rope(_) | Op::Scale(_) | Op::Opaque(_) => {
                return Err(self.refuse("ONNX has no such operator"));
            }
        })
    }

    fn identity(&self, from: &[String]) -> Vec<NodeProto> {
        vec![node("Identity", self.name, from, &self.outputs, vec![])]
    }

    fn activation(&mut self, op: Activation) -> Result<Vec<NodeProto>, ExportError> {
        let (name, attributes) = match op {
            Activation::Relu => ("Relu", vec![]),
            Activation::Sigmoid => ("Sigmoid", vec![]),
            Activation::Tanh => ("Tanh", vec![]),
            Activation::HardSwish if self.opset >= 14 => ("HardSwish", vec![]),
            Activation::Mish if self.opset >= 18 => ("Mish", vec![]),
            Activation::Softplus => ("Softplus", vec![]),
            Activation::Softsign => ("Softsign", vec![]),
            Activation::Erf => ("Erf", vec![]),
            Activation::Exp => ("Exp", vec![]),
            Activation::Log => ("Log", vec![]),
            Activation::Sqrt => ("Sqrt", vec![]),
            Activation::Abs => ("Abs", vec![]),
            Activation::Neg => ("Neg", vec![]),
            Activation::Reciprocal => ("Reciprocal", vec![]),
            Activation::LeakyRelu(alpha) => ("LeakyRelu", vec![float("alpha", alpha)]),
            Activation::Elu(alpha) => ("Elu", vec![float("alpha", alpha)]),
            Activation::HardSigmoid(alpha, beta) => ("HardSigmoid", vec![float("alpha", alpha), float("beta", beta)]),
            Activation::Gelu if self.opset >= 20 => ("Gelu", vec![]),
            Activation::GeluTanh if self.opset >= 20 => ("Gelu", vec![text("approximate", "tanh")]),
            Activation::Silu => {
                let gate = vec![format!("{}_gate", self.name)];
                let first = node("Sigmoid", &gate[0], &self.inputs, &gate, vec![]);
                return Ok([vec![first], self.one("Mul", &gate, vec![])].concat());
            }
            Activation::Clip(low, high) if self.opset < 11 => ("Clip", vec![float("min", low), float("max", high)]),
            Activation::Clip(low, high) => {
                let bounds = [self.real("min", low), self.real("max", high)];
                return Ok(self.one("Clip", &bounds, vec![]));
            }
            _ => return Err(self.refuse("the file's version of the operators has no such function")),
        };
        Ok(self.one(name, &[], attributes))
    }

    /// Gemm for matrices; MatMul and Add for more axes, or where there is no bias.
    fn linear(&mut self) -> Result<Vec<NodeProto>, ExportError> {
        let weights = self.weights.clone();
        if self.rank == 2 {
            return Ok(self.one("Gemm", &weights, vec![int("transB", i64::from(!self.transposed))]));
        }
        let ([weight, bias @ ..], true) = (&weights[..], self.transposed) else {
            return Err(self.refuse("a product over more than two axes takes a matrix stored as [in, out]"));
        };
        let Some(bias) = bias.first() else { return Ok(self.one("MatMul", std::slice::from_ref(weight), vec![])) };
        let product = vec![format!("{}_product", self.name)];
        let first =
            node("MatMul", &product[0], &[&self.inputs[..], std::slice::from_ref(weight)].concat(), &product, vec![]);
        Ok(vec![first, node("Add", self.name, &[product[0].clone(), bias.clone()], &self.outputs, vec![])])
    }

    /// A Slice where every pick is a run of equal steps, else a Gather for each.
    fn select(&mut self, op: &Select) -> Result<Vec<NodeProto>, ExportError> {
        let (mut nodes, mut from) = (Vec::new(), self.inputs.first().cloned().ok_or_else(|| self.refuse("no input"))?);
        for (n, pick) in op.picks.iter().enumerate() {
            let last = n + 1 == op.picks.len();
            let to = if last { self.outputs[0].clone() } else { format!("{}_{n}", self.name) };
            let indices: Vec<i64> = pick.indices.iter().map(|i| *i as i64).collect();
            let axis = int("axis", pick.axis as i64);
            let run = indices.windows(2).all(|w| w[1] == w[0] + 1) && self.opset >= 10;
            let (what, more, attributes) = match (run, indices.first(), indices.last()) {
                (true, Some(first), Some(last)) => {
                    let starts = self.list(&format!("starts{n}"), &[*first]);
                    let ends = self.list(&format!("ends{n}"), &[last + 1]);
                    ("Slice", vec![starts, ends, self.list(&format!("axes{n}"), &[pick.axis as i64])], vec![])
                }
                _ => ("Gather", vec![self.list(&format!("indices{n}"), &indices)], vec![axis]),
            };
            let name = if last { self.name.to_owned() } else { to.clone() };
            nodes.push(node(what, &name, &[vec![from], more].concat(), std::slice::from_ref(&to), attributes));
            from = to;
        }
        if nodes.is_empty() { Ok(self.identity(&self.inputs)) } else { Ok(nodes) }
    }

    /// Over the whole plane this is a pool, which onnxruntime also runs on codes.
    fn reduce(&mut self, op: &Reduce) -> Vec<NodeProto> {
        let plane = op.keep && self.rank > 2 && op.axes.iter().copied().eq(2..self.rank);
        let name = match (op.kind, plane) {
            (ReduceKind::Mean, true) => return self.one("GlobalAveragePool", &[], vec![]),
            (ReduceKind::Max, true) => return self.one("GlobalMaxPool", &[], vec![]),
            (ReduceKind::Mean, _) => "ReduceMean",
            (ReduceKind::Sum, _) => "ReduceSum",
            (ReduceKind::Max, _) => "ReduceMax",
            (ReduceKind::Min, _) => "ReduceMin",
        };
        let keep = int("keepdims", i64::from(op.keep));
        if self.opset >= 18 || (op.kind == ReduceKind::Sum && self.opset >= 13) {
            let axes: Vec<i64> = op.axes.iter().map(|a| *a as i64).collect();
            let axes = self.list("axes", &axes);
            return self.one(name, &[axes], vec![keep]);
        }
        self.one(name, &[], vec![ints("axes", op.axes.clone()), keep])
    }

    fn pool(&self, op: &Pool) -> Vec<NodeProto> {
        let mut attributes = window(&op.window);
        if op.window.iter().all(|s| s.dilation == 1) {
            attributes.retain(|a| a.name.as_deref() != Some("dilations"));
        }
        if op.ceil {
            attributes.push(int("ceil_mode", 1));
        }
        match op.kind {
            PoolKind::Max => self.one("MaxPool", &[], attributes),
            PoolKind::Average { count_padding } => {
                attributes.push(int("count_include_pad", i64::from(count_padding)));
                self.one("AveragePool", &[], attributes)
            }
        }
    }

    fn pad(&mut self, op: &Pad) -> Vec<NodeProto> {
        let pads: Vec<usize> = (0..2).flat_map(|side| op.pads.iter().map(move |p| p[side])).collect();
        let (mode, value) = match op.kind {
            PadKind::Constant(value) => ("constant", value),
            PadKind::Reflect => ("reflect", 0.0),
            PadKind::Edge => ("edge", 0.0),
        };
        if self.opset < 11 {
            return self.one("Pad", &[], vec![text("mode", mode), ints("pads", pads), float("value", value)]);
        }
        let pads: Vec<i64> = pads.into_iter().map(|p| p as i64).collect();
        let more = [self.list("pads", &pads), self.real("value", value)];
        self.one("Pad", &more, vec![text("mode", mode)])
    }

    fn resize(&mut self, op: &Resize) -> Result<Vec<NodeProto>, ExportError> {
        let scales: Vec<f32> =
            (0..self.rank).map(|axis| op.axes.iter().find(|r| r.axis == axis).map_or(1.0, |r| r.scale)).collect();
        let (mode, nearest, cubic) = match op.interpolation {
            Interpolation::Nearest(rounding) => ("nearest", Some(rounding), None),
            Interpolation::Linear => ("linear", None, None),
            Interpolation::Cubic(a) => ("cubic", None, Some(a)),
        };
        if self.opset < 9 {
            return Ok(self.one("Upsample", &[], vec![text("mode", mode), floats("scales", scales)]));
        }
        let rank = self.rank;
        let scales = self.constant("scales", |name| f32s(name, &[rank], &scales));
        if self.opset < 11 {
            let name = if self.opset == 9 { "Upsample" } else { "Resize" };
            return Ok(self.one(name, &[scales], vec![text("mode", mode)]));
        }
        let coordinates = match op.coordinates {
            Coordinates::HalfPixel => "half_pixel",
            Coordinates::HalfPixelOrOrigin => "pytorch_half_pixel",
            Coordinates::Asymmetric => "asymmetric",
            Coordinates::AlignCorners => "align_corners",
        };
        let mut attributes = vec![text("mode", mode), text("coordinate_transformation_mode", coordinates)];
        attributes.extend(nearest.map(|rounding| {
            text(
                "nearest_mode",
                match rounding {
                    Rounding::HalfDown => "round_prefer_floor",
                    Rounding::HalfUp => "round_prefer_ceil",
                    Rounding::Floor => "floor",
                    Rounding::Ceil => "ceil",
                },
            )
        }));
        attributes.extend(cubic.map(|a| float("cubic_coeff_a", a)));
        Ok(self.one("Resize", &[String::new(), scales], attributes))
    }

    /// Codes, scale and zero point; products read these, never the rounded value itself.
    fn dynamic_quant(&self) -> Vec<NodeProto> {
        let made = self.outputs.first().map_or([const { String::new() }; 3], |value| dynamic_names(value));
        vec![node("DynamicQuantizeLinear", self.name, &self.inputs, &made, vec![])]
    }

    /// `(Σ (q_x − z_x) · q_w) · s_x · s_w + b`, as onnxruntime's dynamic quantizer writes it.
    fn integer_product(&mut self, value: &str) -> Result<Vec<NodeProto>, ExportError> {
        let ([codes, scales, bias @ ..], [output, ..]) = (&self.weights[..], &self.outputs[..]) else {
            return Err(self.refuse("it has no codes"));
        };
        let (product, attributes) = match self.op {
            Op::Conv(op) => ("ConvInteger", [window(&op.window), vec![int("group", op.groups as i64)]].concat()),
            Op::Linear(_) => ("MatMulInteger", vec![]),
            _ => return Err(self.refuse("ONNX has no such product of integers")),
        };
        let named = |what: &str| format!("{}_{what}", self.name);
        let [x, x_scale, x_zero] = dynamic_names(value);
        let (sum, number, scale) = (named("sum"), named("number"), named("scale"));
        let last = if bias.is_empty() { output.clone() } else { named("scaled") };
        let mut nodes = vec![
            node(product, &sum, &[x, codes.clone(), x_zero], std::slice::from_ref(&sum), attributes),
            node("Cast", &number, std::slice::from_ref(&sum), std::slice::from_ref(&number), vec![int("to", 1)]),
            node("Mul", &scale, &[x_scale, scales.clone()], std::slice::from_ref(&scale), vec![]),
            node("Mul", &last, &[number, scale], std::slice::from_ref(&last), vec![]),
        ];
        if let [bias, ..] = bias {
            nodes.push(node("Add", self.name, &[last, bias.clone()], std::slice::from_ref(output), vec![]));
        }
        Ok(nodes)
    }

    fn fake_quant(&mut self, op: &FakeQuant) -> Result<Vec<NodeProto>, ExportError> {
        let scale = self.weights.first().cloned().ok_or_else(|| self.refuse("it has no scale"))?;
        let dims = if op.axis.is_some() { vec![op.zero.len()] } else { vec![] };
        let own = format!("{}_zero_point", self.name);
        let zero = zeros(&own, op.levels, &op.zero, &dims).ok_or_else(|| self.refuse("values of 32 bits"))?;
        let name = zero.label().to_owned();
        self.constants.push(zero);
        if op.axis.is_some() && self.opset < 13 {
            return Err(self.refuse("scales along an axis need version 13 of the operators"));
        }
        let axis: Vec<_> = op.axis.iter().map(|axis| int("axis", *axis as i64)).collect();
        let codes = vec![format!("{}_q", self.name)];
        let quantize = [self.inputs.clone(), vec![scale.clone(), name.clone()]].concat();
        let first = node("QuantizeLinear", "", &quantize, &codes, axis.clone());
        let back = [codes, vec![scale, name]].concat();
        // Without a name of its own a node goes by that of what it makes.
        let name = if self.outputs.iter().any(|output| output == self.name) { "" } else { self.name };
        Ok(vec![first, node("DequantizeLinear", name, &back, &self.outputs, axis)])
    }
}

/// A shape with this number for the batch.
fn open(shape: &[Dim], batch: i64) -> Vec<i64> {
    shape.iter().map(|d| d.fixed().map_or(batch, |n| n as i64)).collect()
}

fn window(spans: &[Span]) -> Vec<AttributeProto> {
    let pads = (0..2).flat_map(|side| spans.iter().map(move |s| s.pad[side]));
    vec![
        ints("kernel_shape", spans.iter().map(|s| s.size)),
        ints("strides", spans.iter().map(|s| s.stride)),
        ints("dilations", spans.iter().map(|s| s.dilation)),
        ints("pads", pads),
    ]
}

/// What a value's codes, scale and zero point are called.
fn dynamic_names(value: &str) -> [String; 3] {
    ["codes", "scale", "zero_point"].map(|what| format!("{value}_{what}"))
}
