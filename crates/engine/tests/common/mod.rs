//! A model folder small enough to compress in a test.

use formats::safetensors::{TensorSpec, Writer};
use half::bf16;
use std::fs;
use std::path::Path;

const HIDDEN: usize = 64;
const FFN: usize = 96;
const VOCAB: usize = 320;
const KV: usize = 32;

/// Text with enough in it to train a tokenizer and to score a few windows.
pub fn text() -> String {
    let line = |i: usize| format!("On day {i} the quick brown fox met {} lazy dogs, and said so. ", i * 7 % 12);
    (0..150).map(line).collect()
}

fn tensors() -> Vec<(String, Vec<usize>)> {
    let mut all = vec![("model.embed_tokens.weight".to_owned(), vec![VOCAB, HIDDEN])];
    for layer in 0..2 {
        let shapes: [(&str, &[usize]); 9] = [
            ("input_layernorm", &[HIDDEN]),
            ("self_attn.q_proj", &[HIDDEN, HIDDEN]),
            ("self_attn.k_proj", &[KV, HIDDEN]),
            ("self_attn.v_proj", &[KV, HIDDEN]),
            ("self_attn.o_proj", &[HIDDEN, HIDDEN]),
            ("post_attention_layernorm", &[HIDDEN]),
            ("mlp.gate_proj", &[FFN, HIDDEN]),
            ("mlp.up_proj", &[FFN, HIDDEN]),
            ("mlp.down_proj", &[HIDDEN, FFN]),
        ];
        all.extend(shapes.map(|(name, shape)| (format!("model.layers.{layer}.{name}.weight"), shape.to_vec())));
    }
    all.push(("model.norm.weight".to_owned(), vec![HIDDEN]));
    all
}

/// Writes a Llama of two layers with a tied head, in bf16; its numbers are the same every time.
pub fn write_model(folder: &Path) {
    fs::create_dir(folder).unwrap();
    let config = serde_json::json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "dtype": "bfloat16", "hidden_act": "silu",
        "hidden_size": HIDDEN, "intermediate_size": FFN, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 16, "vocab_size": VOCAB, "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": true, "bos_token_id": 0, "eos_token_id": 0,
    });
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let text = text();
    let tokenizer = train::tokenizer::train_bpe(text.split_inclusive(". "), VOCAB).unwrap();
    fs::write(folder.join("tokenizer.json"), tokenizer).unwrap();
    let special = serde_json::json!({"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"});
    fs::write(folder.join("tokenizer_config.json"), special.to_string()).unwrap();
    let spec = |(name, shape): &(String, Vec<usize>)| TensorSpec {
        name: name.clone(),
        dtype: codec::Dtype::BF16,
        shape: shape.clone(),
    };
    let specs: Vec<TensorSpec> = tensors().iter().map(spec).collect();
    let mut writer = Writer::file(&folder.join("model.safetensors"), &specs).unwrap();
    for (name, shape) in tensors() {
        let numbers = testkit::weight_value(&name, shape.iter().product(), false);
        // Larger than small random weights, so that predictions are not all alike.
        let scale = if name.contains("embed") { 4.0 } else { 1.0 };
        let bytes: Vec<u8> = numbers.iter().flat_map(|v| bf16::from_f32(v * scale).to_le_bytes()).collect();
        writer.write(&name, &bytes).unwrap();
    }
    writer.finish().unwrap();
}
