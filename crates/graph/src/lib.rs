//! The coarse-op graph, its ops, the weight store and the invariants.
