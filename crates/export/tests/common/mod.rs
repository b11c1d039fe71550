//! A small decoder in a folder, its matrices in any encoding, its tensors changed.

#![allow(dead_code, reason = "each test uses a part")]

use codec::{Dtype, Encoding};
use formats::safetensors::{Safetensors, TensorInfo, TensorSpec, Writer};
use graph::{Encoded, Role};
use import::Imported;
use serde_json::json;
use std::fs;
use std::path::Path;
use std::sync::Arc;

pub const WIDTH: usize = 64;
pub const INNER: usize = 96;

/// A random decoder of two layers in bf16, its head tied.
pub fn source(folder: &Path) {
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": WIDTH, "intermediate_size": INNER,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 40,
        "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": true,
        "torch_dtype": "bfloat16",
    });
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    fs::write(folder.join("tokenizer.json"), "{}").unwrap();
    let mut tensors = vec![("embed_tokens".to_owned(), vec![40, WIDTH]), ("norm".to_owned(), vec![WIDTH])];
    for layer in 0..2 {
        let matrices = [
            ("input_layernorm", vec![WIDTH]),
            ("post_attention_layernorm", vec![WIDTH]),
            ("self_attn.q_proj", vec![WIDTH, WIDTH]),
            ("self_attn.k_proj", vec![WIDTH / 2, WIDTH]),
            ("self_attn.v_proj", vec![WIDTH / 2, WIDTH]),
            ("self_attn.o_proj", vec![WIDTH, WIDTH]),
            ("mlp.gate_proj", vec![INNER, WIDTH]),
            ("mlp.up_proj", vec![INNER, WIDTH]),
            ("mlp.down_proj", vec![WIDTH, INNER]),
        ];
        tensors.extend(matrices.map(|(name, shape)| (format!("layers.{layer}.{name}"), shape)));
    }
    let specs: Vec<TensorSpec> = tensors
        .into_iter()
        .map(|(name, shape)| TensorSpec { name: format!("model.{name}.weight"), dtype: Dtype::BF16, shape })
        .collect();
    let mut writer = Writer::folder(folder, &specs, u64::MAX).unwrap();
    let mut state = 1u32;
    for spec in &specs {
        let number = |_| {
            state = state.wrapping_mul(1664525).wrapping_add(1013904223);
            half_bits(state as f32 / u32::MAX as f32 - 0.5)
        };
        let bytes: Vec<u8> = (0..spec.shape.iter().product::<usize>()).flat_map(number).collect();
        writer.write(&spec.name, &bytes).unwrap();
    }
    writer.finish().unwrap();
}

fn half_bits(v: f32) -> [u8; 2] {
    half::bf16::from_f32(v).to_le_bytes()
}

/// Gives every matrix whose role has one another encoding.
pub fn encode(model: &mut Imported, of: impl Fn(Role) -> Option<&'static str>) {
    let weights = &mut model.model.weights;
    let all: Vec<_> = weights.iter().map(|(id, w)| (id, w.clone())).collect();
    for (id, weight) in all {
        let Some(name) = of(weight.place.role) else { continue };
        let encoding: Encoding = name.parse().unwrap();
        let encoded = Encoded::new(weight.clone(), encoding, None, Encoding::encode);
        weights.replace(id, encoding, weight.shape.clone(), Arc::new(encoded));
    }
}

pub fn open(folder: &Path) -> Imported {
    import::open(folder).unwrap_or_else(|e| panic!("{e}"))
}

/// A tensor and its bytes.
pub type Tensor = (TensorSpec, Vec<u8>);

/// Changes the tensors of a folder of one file; gives what opening it says then, if anything.
pub fn damage(folder: &Path, of: impl Fn(&mut Vec<Tensor>)) -> String {
    let all = Safetensors::open(folder).unwrap();
    let spec = |t: &TensorInfo| TensorSpec { name: t.name.clone(), dtype: t.dtype, shape: t.shape.clone() };
    let mut tensors: Vec<_> = all.tensors().iter().map(|t| (spec(t), all.bytes(&t.name).unwrap().to_vec())).collect();
    of(&mut tensors);
    fs::remove_file(folder.join("model.safetensors")).unwrap();
    let specs: Vec<TensorSpec> = tensors.iter().map(|(spec, _)| spec.clone()).collect();
    let mut writer = Writer::folder(folder, &specs, u64::MAX).unwrap();
    tensors.iter().for_each(|(spec, bytes)| writer.write(&spec.name, bytes).unwrap());
    writer.finish().unwrap();
    import::open(folder).err().map_or(String::new(), |e| e.to_string())
}
