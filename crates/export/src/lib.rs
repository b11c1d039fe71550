//! Graph to files: GGUF and compressed-tensors. Each writer streams, is atomic, and proves itself by reading back.
