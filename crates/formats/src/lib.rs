//! File formats: safetensors, GGUF, Hugging Face configs. Parse and write; bytes are hostile; knows no graph.
