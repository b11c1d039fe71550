//! Files to graph: Hugging Face folders and GGUF files, one decoder builder for every family.

pub mod hub;
pub mod tokenizer;
