//! The driver: picks the pipeline, runs passes, checks invariants, proves the artifact.
