//! The one builder of decoder graphs: a frozen config and the weights it names become nodes.
//!
//! ```text
//! ids ─ Embedding ─ (Scale) ─┬─ Norm ─ q, k, v ─ (norms) ─ Rope ─ Attention ─ out ─ (Norm) ─ Add ─┬─ … ─ Norm ─ head ─ (cap)
//!                            └───────────────────────────────────────────────────────────────────┘
//! …  feed-forward, the same way: Norm ─ down(act(gate) · up), or experts
//! ```

use crate::Problem;
use graph::ops::{
    Activation, Add, Attention, Embedding, Expert, Linear, MoeExperts, MoeRoute, Mul, Norm, NormKind, Rope, Scale,
    Split,
};
use graph::{
    DecoderConfig, Dim, Experts, Graph, Kind, Layer, Op, Place, QkNorm, Role, RopeConfig, ValueId, WeightId,
    WeightStore,
};
use std::path::Path;

/// Every weight that a decoder of this configuration has, and its shape, layer by layer.
pub fn places(config: &DecoderConfig) -> impl Iterator<Item = (Place, Vec<usize>)> + '_ {
    let outer = [
        (Role::TokenEmbed, Some(vec![config.vocab, config.hidden])),
        (Role::OutputNorm, Some(vec![config.hidden])),
        (Role::OutputHead, (!config.tied).then(|| vec![config.vocab, config.hidden])),
    ];
    let outer = outer.into_iter().filter_map(|(role, shape)| Some((Place::outer(role), shape?)));
    let layers = config.layers.iter().enumerate();
    outer.chain(layers.flat_map(|(n, layer)| layer_places(config, n, layer)))
}

fn layer_places<'a>(
    c: &'a DecoderConfig,
    n: usize,
    layer: &Layer,
) -> impl Iterator<Item = (Place, Vec<usize>)> + use<'a> {
    let mut all: Vec<(Role, Vec<usize>, bool)> = vec![(Role::AttnNorm, vec![c.hidden], false)];
    let (q, kv) = (c.heads * c.head_dim, c.kv_heads * c.head_dim);
    if c.fused_qkv {
        all.push((Role::AttnQkv, vec![q + 2 * kv, c.hidden], c.qkv_bias));
    } else {
        all.push((Role::AttnQ, vec![q, c.hidden], c.qkv_bias));
        all.push((Role::AttnK, vec![kv, c.hidden], c.qkv_bias));
        all.push((Role::AttnV, vec![kv, c.hidden], c.qkv_bias));
    }
    if let Some(norm) = c.qk_norm {
        let [q, kv] = qk_norm_sizes(c, norm);
        all.push((Role::AttnQNorm, vec![q], false));
        all.push((Role::AttnKNorm, vec![kv], false));
    }
    all.push((Role::AttnOut, vec![c.hidden, q], c.out_bias));
    if c.post_norms {
        all.push((Role::AttnPostNorm, vec![c.hidden], false));
        all.push((Role::FfnPostNorm, vec![c.hidden], false));
    }
    all.push((Role::FfnNorm, vec![c.hidden], false));
    let experts = c.experts.as_ref().filter(|_| layer.moe);
    match experts {
        Some(e) => all.push((Role::Router, vec![e.count, c.hidden], false)),
        None if c.fused_gate_up => all.push((Role::FfnGateUp, vec![2 * c.ffn, c.hidden], c.ffn_bias)),
        None => {
            all.push((Role::FfnGate, vec![c.ffn, c.hidden], c.ffn_bias));
            all.push((Role::FfnUp, vec![c.ffn, c.hidden], c.ffn_bias));
        }
    }
    if experts.is_none() {
        all.push((Role::FfnDown, vec![c.hidden, c.ffn], c.ffn_bias));
    }
    let plain = all.into_iter().flat_map(move |(role, shape, bias)| {
        let place = Place::layer(n, role);
        let bias = bias.then(|| (place.bias(), vec![shape.first().copied().unwrap_or_default()]));
        std::iter::once((place, shape)).chain(bias)
    });
    plain.chain(experts.into_iter().flat_map(move |e| expert_places(n, c.hidden, e)))
}

fn expert_places(n: usize, hidden: usize, e: &Experts) -> impl Iterator<Item = (Place, Vec<usize>)> + use<> {
    let ffn = e.ffn;
    (0..e.count).flat_map(move |number| {
        [
            (Place::expert(n, Role::ExpertGate, number), vec![ffn, hidden]),
            (Place::expert(n, Role::ExpertUp, number), vec![ffn, hidden]),
            (Place::expert(n, Role::ExpertDown, number), vec![hidden, ffn]),
        ]
    })
}

fn qk_norm_sizes(c: &DecoderConfig, norm: QkNorm) -> [usize; 2] {
    match norm {
        QkNorm::Head => [c.head_dim; 2],
        QkNorm::Full => [c.heads * c.head_dim, c.kv_heads * c.head_dim],
    }
}

/// Builds the graph over weights that have their [`Place`]s. Fails where a weight is missing or does not fit; `file` is
/// named then.
pub fn build(config: &DecoderConfig, weights: &WeightStore, file: &Path) -> Result<Graph, Problem> {
    let mut builder = Builder { config, weights, file, graph: Graph::default() };
    let ids = builder.graph.input("ids", Kind::Index, vec![Dim::Batch, Dim::Tokens]);
    let mut x = builder.push("embed", Embedding { weight: builder.at(Place::outer(Role::TokenEmbed))? }, &[ids])?;
    if let Some(factor) = config.embed_scale {
        x = builder.push("embed_scale", Scale { factor }, &[x])?;
    }
    for (n, layer) in config.layers.iter().enumerate() {
        let first = builder.graph.nodes().len();
        x = LayerBuilder { b: &mut builder, n, layer }.build(x)?;
        builder.graph.close_block(format!("layer {n}"), first);
    }
    let x = builder.norm("output_norm", Place::outer(Role::OutputNorm), config.hidden, x)?;
    let head = if config.tied { Role::TokenEmbed } else { Role::OutputHead };
    let mut logits = builder.push("logits", Linear { weight: builder.at(Place::outer(head))?, bias: None }, &[x])?;
    if let Some(cap) = config.logit_softcap {
        logits = builder.push("logits_capped", Activation::SoftCap(cap), &[logits])?;
    }
    builder.graph.output(logits);
    Ok(builder.graph)
}

struct Builder<'a> {
    config: &'a DecoderConfig,
    weights: &'a WeightStore,
    file: &'a Path,
    graph: Graph,
}

impl Builder<'_> {
    fn push(&mut self, name: &str, op: impl Into<Op>, inputs: &[ValueId]) -> Result<ValueId, Problem> {
        self.graph.push1(name, op, inputs, self.weights).map_err(|e| self.misfit(e))
    }

    fn misfit(&self, source: graph::GraphError) -> Problem {
        Problem::Graph { file: self.file.to_owned(), source }
    }

    fn at(&self, place: Place) -> Result<WeightId, Problem> {
        let tensor = || match place.layer {
            Some(layer) => format!("{} of layer {layer}", place.role),
            None => place.role.to_string(),
        };
        self.weights.at(place).ok_or_else(|| Problem::Missing { file: self.file.to_owned(), tensor: tensor() })
    }

    fn norm(&mut self, name: &str, place: Place, size: usize, x: ValueId) -> Result<ValueId, Problem> {
        let (eps, offset) = (self.config.norm_eps, self.config.norm_offset);
        let weight = self.at(place)?;
        self.push(name, Norm { kind: NormKind::Rms, size, weight, bias: None, eps, offset }, &[x])
    }
}

struct LayerBuilder<'b, 'a> {
    b: &'b mut Builder<'a>,
    n: usize,
    layer: &'b Layer,
}

impl LayerBuilder<'_, '_> {
    fn build(&mut self, x: ValueId) -> Result<ValueId, Problem> {
        let hidden = self.b.config.hidden;
        let normed = self.norm(Role::AttnNorm, hidden, x)?;
        let made = self.attention(normed)?;
        let x = self.join(Role::AttnPostNorm, "attn_add", x, made)?;
        let normed = self.norm(Role::FfnNorm, hidden, x)?;
        let made = if self.layer.moe { self.experts(normed)? } else { self.feed_forward(normed)? };
        self.join(Role::FfnPostNorm, "ffn_add", x, made)
    }

    /// Adds what a part made to what it read, after its second norm where there is one.
    fn join(&mut self, post_norm: Role, name: &str, x: ValueId, made: ValueId) -> Result<ValueId, Problem> {
        let made = if self.b.config.post_norms { self.norm(post_norm, self.b.config.hidden, made)? } else { made };
        self.push(name, Add, &[x, made])
    }

    fn attention(&mut self, x: ValueId) -> Result<ValueId, Problem> {
        let c = self.b.config;
        let (q_width, kv_width) = (c.heads * c.head_dim, c.kv_heads * c.head_dim);
        let [mut q, mut k, v] = if c.fused_qkv {
            let fused = self.linear(Role::AttnQkv, c.qkv_bias, x)?;
            self.split("attn_split", [q_width, kv_width, kv_width], fused)?
        } else {
            let mut linear = |role| self.linear(role, c.qkv_bias, x);
            [linear(Role::AttnQ)?, linear(Role::AttnK)?, linear(Role::AttnV)?]
        };
        if let Some(norm) = c.qk_norm {
            let [q_size, k_size] = qk_norm_sizes(c, norm);
            q = self.norm(Role::AttnQNorm, q_size, q)?;
            k = self.norm(Role::AttnKNorm, k_size, k)?;
        }
        q = self.push("attn_q_rope", self.rope(), &[q])?;
        k = self.push("attn_k_rope", self.rope(), &[k])?;
        let attention = Attention {
            heads: c.heads,
            kv_heads: c.kv_heads,
            head_dim: c.head_dim,
            scale: c.attention_scale,
            window: self.layer.window,
            softcap: c.attention_softcap,
            slot: self.n,
        };
        let mixed = self.push("attention", attention, &[q, k, v])?;
        self.linear(Role::AttnOut, c.out_bias, mixed)
    }

    fn rope(&self) -> Rope {
        let RopeConfig { frequencies, scale, .. } = &self.layer.rope;
        Rope { head_dim: self.b.config.head_dim, frequencies: frequencies.clone(), scale: *scale }
    }

    fn feed_forward(&mut self, x: ValueId) -> Result<ValueId, Problem> {
        let c = self.b.config;
        let [gate, up] = if c.fused_gate_up {
            let fused = self.linear(Role::FfnGateUp, c.ffn_bias, x)?;
            self.split("ffn_split", [c.ffn, c.ffn], fused)?
        } else {
            [self.linear(Role::FfnGate, c.ffn_bias, x)?, self.linear(Role::FfnUp, c.ffn_bias, x)?]
        };
        let gate = self.push("ffn_act", c.activation, &[gate])?;
        let gated = self.push("ffn_mul", Mul, &[gate, up])?;
        self.linear(Role::FfnDown, c.ffn_bias, gated)
    }

    fn experts(&mut self, x: ValueId) -> Result<ValueId, Problem> {
        let Some(e) = &self.b.config.experts else { return self.feed_forward(x) };
        let weight = self.b.at(Place::layer(self.n, Role::Router))?;
        let route = MoeRoute { weight, experts: e.count, top_k: e.used, normalize: e.normalize };
        let name = self.name("moe_route");
        let routed = self.b.graph.push(&name, route, &[x], self.b.weights).map_err(|e| self.b.misfit(e))?;
        let at = |role, number| self.b.at(Place::expert(self.n, role, number));
        let expert = |number| {
            let [gate, up, down] = [Role::ExpertGate, Role::ExpertUp, Role::ExpertDown].map(|role| at(role, number));
            Ok(Expert { gate: gate?, up: up?, down: down? })
        };
        let experts = (0..e.count).map(expert).collect::<Result<_, Problem>>()?;
        let inputs: Vec<_> = std::iter::once(x).chain(routed).collect();
        self.push("moe_experts", MoeExperts { experts, activation: self.b.config.activation }, &inputs)
    }

    fn name(&self, part: &str) -> String {
        format!("layer.{}.{part}", self.n)
    }

    fn push(&mut self, part: &str, op: impl Into<Op>, inputs: &[ValueId]) -> Result<ValueId, Problem> {
        self.b.push(&self.name(part), op, inputs)
    }

    fn norm(&mut self, role: Role, size: usize, x: ValueId) -> Result<ValueId, Problem> {
        self.b.norm(&self.name(role.name()), Place::layer(self.n, role), size, x)
    }

    fn linear(&mut self, role: Role, bias: bool, x: ValueId) -> Result<ValueId, Problem> {
        let place = Place::layer(self.n, role);
        let weight = self.b.at(place)?;
        let bias = bias.then(|| self.b.at(place.bias())).transpose()?;
        self.push(role.name(), Linear { weight, bias }, &[x])
    }

    fn split<const N: usize>(&mut self, part: &str, widths: [usize; N], x: ValueId) -> Result<[ValueId; N], Problem> {
        let name = self.name(part);
        let parts = self.b.graph.push(&name, Split { axis: 2, widths: widths.to_vec() }, &[x], self.b.weights);
        let parts = parts.map_err(|e| self.b.misfit(e))?;
        Ok(std::array::from_fn(|i| parts.get(i).copied().unwrap_or(x)))
    }
}
