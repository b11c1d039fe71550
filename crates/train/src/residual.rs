//! Small residual networks for images (He et al. 2015, section 4.2): a stem, stages of blocks of two 3 × 3 convolutions, the mean over
//! the plane, one linear layer. Each stage after the first halves the plane; where a block changes the shape, a 1 × 1 convolution
//! and norm bridge it ("option B").
//!
//! First weights: convolutions normal with variance `2 / (outputs · 9)` (He et al. 2015, "Delving deep"), the linear layer normal with
//! variance `1 / inputs`, norms 1 and 0. Each weight has a stream of its own.

use crate::Rng;
use graph::ops::{Activation, Add, BatchNorm, Conv, Linear, Reduce, ReduceKind, Reshape, Span};
use graph::{
    Body, Dim, Graph, GraphError, Kind, Model, Op, Place, Role, SourceError, ValueId, Weight, WeightId, WeightStore,
};
use serde::{Deserialize, Serialize};

/// What the network looks like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Residual {
    /// Channels, height, width.
    pub input: [usize; 3],
    /// Classes that it tells apart.
    pub classes: usize,
    /// Channels of each stage.
    pub widths: Vec<usize>,
    /// Blocks of each stage.
    pub blocks: usize,
}

/// Why a network could not be built.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum BuildError {
    #[error("`{0}` must be at least 1")]
    Zero(&'static str),
    #[error(transparent)]
    Graph(#[from] GraphError),
    #[error(transparent)]
    Weight(#[from] SourceError),
}

impl Residual {
    /// The network with its first weights.
    ///
    /// # Errors
    /// Lengths of zero, and planes too small for their stages.
    pub fn build(&self, seed: u64) -> Result<Model, BuildError> {
        let [channels, height, width] = self.input;
        let widths = self.widths.iter().copied().min().unwrap_or(0);
        let lengths = [
            ("input", channels * height * width),
            ("classes", self.classes),
            ("widths", widths),
            ("blocks", self.blocks),
        ];
        if let Some((field, _)) = lengths.into_iter().find(|(_, n)| *n == 0) {
            return Err(BuildError::Zero(field));
        }
        let mut graph = Graph::default();
        let x = graph.input("image", Kind::Float, [Dim::Batch].into_iter().chain(self.input.map(Dim::Fixed)).collect());
        let mut b = Builder { graph, weights: WeightStore::default(), seed };
        let mut x = b.conv("stem", x, [channels, self.widths[0], 3, 1])?;
        x = b.push("stem.relu", Activation::Relu, &[x])?;
        let mut inputs = self.widths[0];
        for (stage, width) in self.widths.iter().enumerate() {
            for block in 0..self.blocks {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                x = b.block(&format!("stage{}.block{}", stage + 1, block + 1), x, [inputs, *width], stride)?;
                inputs = *width;
            }
        }
        x = b.push("pool", Reduce { kind: ReduceKind::Mean, axes: vec![2, 3], keep: true }, &[x])?;
        x = b.push("flat", Reshape { shape: vec![Dim::Batch, Dim::Fixed(inputs)] }, &[x])?;
        let weight = b.normal("head.weight", &[self.classes, inputs], 1.0 / inputs as f64)?;
        let bias = Some(b.filled("head.bias", self.classes, 0.0)?);
        let y = b.push("scores", Linear { weight, bias }, &[x])?;
        b.graph.output(y);
        Ok(Model { body: Body::Network { graph: b.graph }, weights: b.weights })
    }
}

struct Builder {
    graph: Graph,
    weights: WeightStore,
    seed: u64,
}

impl Builder {
    fn push(&mut self, name: &str, op: impl Into<Op>, inputs: &[ValueId]) -> Result<ValueId, BuildError> {
        Ok(self.graph.push1(name, op, inputs, &self.weights)?)
    }

    fn weight(&mut self, name: &str, shape: &[usize], numbers: &[f32]) -> Result<WeightId, BuildError> {
        Ok(self.weights.insert(Weight::from_f32(name, Place::outer(Role::Other), shape.to_vec(), numbers)?))
    }

    fn normal(&mut self, name: &str, shape: &[usize], variance: f64) -> Result<WeightId, BuildError> {
        let mut rng = Rng::new(self.seed, self.weights.len() as u64);
        let deviation = variance.sqrt() as f32;
        let numbers: Vec<f32> = (0..shape.iter().product()).map(|_| rng.normal() * deviation).collect();
        self.weight(name, shape, &numbers)
    }

    fn filled(&mut self, name: &str, length: usize, value: f32) -> Result<WeightId, BuildError> {
        self.weight(name, &[length], &vec![value; length])
    }

    /// A convolution and its norm.
    fn conv(
        &mut self,
        name: &str,
        x: ValueId,
        [inputs, outputs, size, stride]: [usize; 4],
    ) -> Result<ValueId, BuildError> {
        let variance = 2.0 / (outputs * size * size) as f64;
        let weight = self.normal(&format!("{name}.weight"), &[outputs, inputs, size, size], variance)?;
        let window = vec![Span { size, stride, dilation: 1, pad: [size / 2; 2] }; 2];
        let x = self.push(name, Conv { weight, bias: None, outputs, window, groups: 1 }, &[x])?;
        let scale = self.filled(&format!("{name}.norm.scale"), outputs, 1.0)?;
        let bias = self.filled(&format!("{name}.norm.bias"), outputs, 0.0)?;
        let mean = self.filled(&format!("{name}.norm.mean"), outputs, 0.0)?;
        let var = self.filled(&format!("{name}.norm.var"), outputs, 1.0)?;
        self.push(&format!("{name}.norm"), BatchNorm { scale, bias, mean, var, eps: 1e-5, momentum: 0.9 }, &[x])
    }

    fn block(
        &mut self,
        name: &str,
        x: ValueId,
        [inputs, outputs]: [usize; 2],
        stride: usize,
    ) -> Result<ValueId, BuildError> {
        let y = self.conv(&format!("{name}.conv1"), x, [inputs, outputs, 3, stride])?;
        let y = self.push(&format!("{name}.relu1"), Activation::Relu, &[y])?;
        let y = self.conv(&format!("{name}.conv2"), y, [outputs, outputs, 3, 1])?;
        let bridged = stride > 1 || inputs != outputs;
        let short = if bridged { self.conv(&format!("{name}.bridge"), x, [inputs, outputs, 1, stride])? } else { x };
        let y = self.push(&format!("{name}.add"), Add, &[y, short])?;
        self.push(&format!("{name}.relu2"), Activation::Relu, &[y])
    }
}
