//! One file per algorithm, its numeric core beside it.
