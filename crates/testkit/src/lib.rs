//! Dev-only: real models where they are at hand, tiny random ones everywhere, comparisons.

mod compare;
mod random;

pub use compare::{assert_close, max_abs_difference};
pub use random::{values, weight_value};

use std::path::{Path, PathBuf};

/// The folder with real models and texts: `TINIER_DATA`, or `../shared/data` beside the repository. `None`, with a
/// line that says so, where there is none: the test then skips.
pub fn data_dir() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let dir = std::env::var_os("TINIER_DATA").map_or(beside, PathBuf::from);
    if dir.is_dir() {
        return Some(dir);
    }
    skip(&format!("no data in {}; set TINIER_DATA to run this test in full", dir.display()));
    None
}

/// The folder of the ten networks that `bench/onnx/export_torchvision.py` writes: `TINIER_NETWORKS`, or `../models/onnx` beside
/// the repository. `None`, with a line that says so, where there is none.
pub fn networks_dir() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../models/onnx");
    let dir = std::env::var_os("TINIER_NETWORKS").map_or(beside, PathBuf::from);
    if dir.is_dir() {
        return Some(dir);
    }
    skip(&format!("no networks in {}; set TINIER_NETWORKS to run this test", dir.display()));
    None
}

#[allow(clippy::print_stderr)]
fn skip(why: &str) {
    eprintln!("skipped: {why}");
}

/// The folder of golden vectors of a topic, in this repository.
pub fn golden_dir(topic: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden").join(topic)
}
