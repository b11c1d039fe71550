//! Perplexity, KL divergence, agreement, latency, memory: every number carries its conditions.
