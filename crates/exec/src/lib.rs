//! The interpreter: forward with taps, backward, block by block, KV cache, generation.
