//! Small random decoders, built by hand.

#![allow(dead_code)]

use graph::ops::{
    Activation, Add, Attention, Embedding, Expert, Linear, MoeExperts, MoeRoute, Mul, Norm, NormKind, Rope, Scale,
    Split,
};
use graph::{Dim, Graph, Kind, Op, Place, Role, ValueId, Weight, WeightId, WeightStore};

/// A graph under construction, with random weights.
pub struct Builder {
    pub graph: Graph,
    pub weights: WeightStore,
}

impl Builder {
    /// A graph with one input of ids.
    pub fn new() -> (Builder, ValueId) {
        let mut graph = Graph::default();
        let ids = graph.input("ids", Kind::Index, vec![Dim::Batch, Dim::Tokens]);
        (Builder { graph, weights: WeightStore::default() }, ids)
    }

    /// A weight around `center`, of a spread that keeps values near one.
    pub fn weight(&mut self, name: &str, shape: &[usize], center: f32) -> WeightId {
        let inputs = if shape.len() > 1 { shape[shape.len() - 1] } else { 16 };
        let spread = (1.0 / (inputs as f32).sqrt()) / 64.0;
        let mut data = testkit::values(name, shape.iter().product(), spread);
        data.iter_mut().for_each(|x| *x += center);
        let place = Place::outer(Role::Other);
        self.weights.insert(Weight::from_f32(name, place, shape.to_vec(), &data).expect("f32 holds any number"))
    }

    /// Appends a node with one output.
    pub fn push(&mut self, name: &str, op: impl Into<Op>, inputs: &[ValueId]) -> ValueId {
        self.graph.push1(name, op, inputs, &self.weights).expect("the op fits")
    }

    /// A random embedding of the ids, scaled to values near one.
    pub fn embed(&mut self, name: &str, ids: ValueId, vocab: usize, width: usize) -> ValueId {
        let weight = self.weight(&format!("{name}.weight"), &[vocab, width], 0.0);
        let x = self.push(name, Embedding { weight }, &[ids]);
        self.push(&format!("{name}.scale"), Scale { factor: 2.0 }, &[x])
    }

    pub fn linear(&mut self, name: &str, x: ValueId, input: usize, output: usize, bias: bool) -> ValueId {
        let weight = self.weight(&format!("{name}.weight"), &[output, input], 0.0);
        let bias = bias.then(|| self.weight(&format!("{name}.bias"), &[output], 0.0));
        self.push(name, Linear { weight, bias }, &[x])
    }

    pub fn norm(&mut self, name: &str, x: ValueId, size: usize, kind: NormKind, offset: f64) -> ValueId {
        let weight = self.weight(&format!("{name}.weight"), &[size], 1.0 - offset as f32);
        let bias = (kind == NormKind::Layer).then(|| self.weight(&format!("{name}.bias"), &[size], 0.0));
        self.push(name, Norm { kind, size, weight, bias, eps: 1e-5, offset }, &[x])
    }

    pub fn rope(&mut self, name: &str, x: ValueId, head_dim: usize, pairs: usize) -> ValueId {
        let frequencies = (0..pairs).map(|i| 1e4f32.powf(-(i as f32) / pairs as f32)).collect();
        self.push(name, Rope { head_dim, frequencies, scale: 1.0 }, &[x])
    }

    pub fn experts(
        &mut self,
        name: &str,
        x: ValueId,
        width: usize,
        hidden: usize,
        count: usize,
        top_k: usize,
    ) -> ValueId {
        let weight = self.weight(&format!("{name}.router"), &[count, width], 0.0);
        let route = MoeRoute { weight, experts: count, top_k, normalize: true };
        let routed = self.graph.push(&format!("{name}.route"), route, &[x], &self.weights).expect("the op fits");
        let expert = |n: usize, b: &mut Builder| Expert {
            gate: b.weight(&format!("{name}.{n}.gate"), &[hidden, width], 0.0),
            up: b.weight(&format!("{name}.{n}.up"), &[hidden, width], 0.0),
            down: b.weight(&format!("{name}.{n}.down"), &[width, hidden], 0.0),
        };
        let experts = (0..count).map(|n| expert(n, self)).collect();
        self.push(name, MoeExperts { experts, activation: Activation::Silu }, &[x, routed[0], routed[1]])
    }

    pub fn split(&mut self, name: &str, x: ValueId, widths: &[usize]) -> Vec<ValueId> {
        self.graph.push(name, Split { axis: 2, widths: widths.to_vec() }, &[x], &self.weights).expect("the op fits")
    }

    /// Ends the graph.
    pub fn finish(mut self, output: ValueId) -> (Graph, WeightStore) {
        self.graph.output(output);
        (self.graph, self.weights)
    }
}

/// The sizes of a decoder, and what it does beyond Llama.
#[derive(Clone, Copy)]
pub struct Decoder {
    pub vocab: usize,
    pub hidden: usize,
    pub layers: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub ffn: usize,
    /// Output matrix is the embedding table.
    pub tied: bool,
    /// Norms of heads, biases, a window, soft caps, GeGLU, norms after (Gemma and Qwen features).
    pub rich: bool,
    /// Four experts, two used, in every second layer.
    pub moe: bool,
    /// Fused projections (Phi-3).
    pub fused: bool,
}

impl Decoder {
    /// A tiny Llama.
    pub const TINY: Decoder = Decoder {
        vocab: 23,
        hidden: 12,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head_dim: 4,
        ffn: 20,
        tied: true,
        rich: false,
        moe: false,
        fused: false,
    };

    /// The graph and random weights.
    pub fn build(self) -> (Graph, WeightStore) {
        let (mut b, ids) = Builder::new();
        let table = b.weight("embed.weight", &[self.vocab, self.hidden], 0.0);
        let x = b.push("embed", Embedding { weight: table }, &[ids]);
        let mut x = b.push("embed.scale", Scale { factor: 2.0 }, &[x]);
        for layer in 0..self.layers {
            let first = b.graph.nodes().len();
            x = self.layer(&mut b, layer, x);
            b.graph.close_block(format!("layer {layer}"), first);
        }
        let x = b.norm("norm", x, self.hidden, NormKind::Rms, 0.0);
        let weight = if self.tied { table } else { b.weight("head.weight", &[self.vocab, self.hidden], 0.0) };
        let mut logits = b.push("logits", Linear { weight, bias: None }, &[x]);
        if self.rich {
            logits = b.push("capped", Activation::SoftCap(3.0), &[logits]);
        }
        b.finish(logits)
    }

    fn layer(self, b: &mut Builder, n: usize, x: ValueId) -> ValueId {
        let name = |part: &str| format!("{n}.{part}");
        let offset = if self.rich { 1.0 } else { 0.0 };
        let normed = b.norm(&name("attn_norm"), x, self.hidden, NormKind::Rms, offset);
        let mixed = self.attention(b, n, normed);
        let mut mixed = b.linear(&name("o"), mixed, self.heads * self.head_dim, self.hidden, false);
        if self.rich {
            mixed = b.norm(&name("post_norm"), mixed, self.hidden, NormKind::Rms, offset);
        }
        let x = b.push(&name("attn_add"), Add, &[x, mixed]);
        let normed = b.norm(&name("ffn_norm"), x, self.hidden, NormKind::Rms, offset);
        let made = match self.moe && n % 2 == 1 {
            true => b.experts(&name("moe"), normed, self.hidden, self.ffn, 4, 2),
            false => self.feed_forward(b, n, normed),
        };
        b.push(&name("ffn_add"), Add, &[x, made])
    }

    fn attention(self, b: &mut Builder, n: usize, x: ValueId) -> ValueId {
        let name = |part: &str| format!("{n}.{part}");
        let (q_width, kv_width) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let [mut q, mut k, v] = if self.fused {
            let fused = b.linear(&name("qkv"), x, self.hidden, q_width + 2 * kv_width, false);
            let parts = b.split(&name("qkv_split"), fused, &[q_width, kv_width, kv_width]);
            [parts[0], parts[1], parts[2]]
        } else {
            [("q", q_width), ("k", kv_width), ("v", kv_width)]
                .map(|(part, width)| b.linear(&name(part), x, self.hidden, width, self.rich))
        };
        if self.rich {
            q = b.norm(&name("q_norm"), q, self.head_dim, NormKind::Rms, 0.0);
            k = b.norm(&name("k_norm"), k, self.head_dim, NormKind::Rms, 0.0);
        }
        let q = b.rope(&name("q_rope"), q, self.head_dim, self.head_dim / 2);
        let k = b.rope(&name("k_rope"), k, self.head_dim, self.head_dim / 2);
        let attention = Attention {
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            scale: 1.0 / (self.head_dim as f32).sqrt(),
            window: (self.rich && n.is_multiple_of(2)).then_some(5),
            softcap: self.rich.then_some(2.0),
            slot: n,
        };
        b.push(&name("attention"), attention, &[q, k, v])
    }

    fn feed_forward(self, b: &mut Builder, n: usize, x: ValueId) -> ValueId {
        let name = |part: &str| format!("{n}.{part}");
        let [gate, up] = if self.fused {
            let fused = b.linear(&name("gate_up"), x, self.hidden, 2 * self.ffn, false);
            let parts = b.split(&name("gate_up_split"), fused, &[self.ffn; 2]);
            [parts[0], parts[1]]
        } else {
            ["gate", "up"].map(|part| b.linear(&name(part), x, self.hidden, self.ffn, false))
        };
        let activation = if self.rich { Activation::GeluTanh } else { Activation::Silu };
        let gate = b.push(&name("act"), activation, &[gate]);
        let product = b.push(&name("mul"), Mul, &[gate, up]);
        b.linear(&name("down"), product, self.ffn, self.hidden, false)
    }
}

/// `batch · tokens` ids below `vocab`, always the same.
pub fn ids(vocab: usize, batch: usize, tokens: usize) -> exec::Tensor<u32> {
    let numbers = testkit::values("ids", batch * tokens, 1.0).into_iter().map(|x| (x + 128.0) as u32 % vocab as u32);
    exec::Tensor::ids(batch, numbers.collect()).expect("the count fits")
}
