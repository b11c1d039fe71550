//! The driver: resolves recipes on this machine, carries plans out, and proves what it wrote.
//!
//! [`plan`](plan()) turns a recipe into a plan, [`compress`] carries it out, [`smallest`] looks for the smallest artifact
//! that diverges by no more than is allowed, [`verify`] looks at an artifact again later. The
//! engine prints nothing; it tells a [`Progress`]. It trusts no pass: the model is checked before and after each. An
//! artifact gets its name only after it was reopened, checked and measured ([`proof`], [`contract`], [`staging`]).

mod calibrate;
mod calibration;
mod checkpoint;
mod choosing;
mod compress;
mod contract;
mod convert;
mod error;
mod images;
mod importance;
mod loader;
mod network;
mod planner;
mod progress;
mod proof;
mod provenance;
mod pruning;
mod quality;
mod quantize;
mod repack;
mod sampled;
mod sensitivity;
mod served;
mod smallest;
mod smoke;
mod staging;
mod texts;
pub mod training;
mod verify;

pub use calib::{Batch, Samples, data};
pub use calibrate::calibrate;
pub use calibration::Calibration;
pub use choosing::Texts;
pub use compress::{Outcome, compress};
pub use contract::ContractError;
pub use convert::{Converted, convert};
pub use error::EngineError;
pub use images::{Images, ImagesError, PREPROCESS, preprocess_of};
pub use importance::{Importance, ImportanceError, gather_imatrix, importance};
pub use network::order;
pub use planner::{Planner, expert_tokens, plan, revise};
pub use progress::{Progress, Quiet, Unit};
pub use quality::Text;
pub use sampled::sampled_text;
pub use smallest::smallest;
pub use smoke::{Smoke, smoke};
pub use texts::{TextFile, read_texts};
pub use verify::{Verification, verify};

use ::plan::Bytes;
use exec::{Compute, Examples};
use formats::imatrix::Imatrix;

/// How a run is carried out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'a> {
    /// Threads; as many as there are processors, where none are given.
    pub threads: Option<usize>,
    /// Bytes that the process may hold resident.
    pub max_memory: Option<Bytes>,
    /// Seed of everything drawn.
    pub seed: u64,
    /// Whether an existing output is replaced.
    pub replace: bool,
    /// What quality is measured on; without it the artifact is checked but not run.
    pub text: Option<&'a Text>,
    /// What methods learn from that need text.
    pub calibration: Option<&'a Calibration>,
    /// How much each input column matters, for the searches of encodings.
    pub imatrix: Option<&'a Imatrix>,
    /// What steps of networks run them on.
    pub data: Option<&'a dyn Samples>,
    /// What networks learn from again.
    pub examples: Option<&'a dyn Examples>,
    /// What is held out: accuracy is measured on it.
    pub valid: Option<&'a dyn Examples>,
    /// What matrix products of the proof are computed in.
    pub compute: Compute,
}

impl Options<'_> {
    /// Threads.
    fn threads(&self) -> usize {
        self.threads.unwrap_or_else(rayon::current_num_threads)
    }

    /// Bytes that statistics of calibration may take together.
    fn statistics(&self) -> u64 {
        self.max_memory.map_or(2 << 30, |limit| limit.0 / 4)
    }
}

fn pool(options: &Options<'_>) -> Result<rayon::ThreadPool, EngineError> {
    let threads = options.threads();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    pool.map_err(|source| EngineError::Threads { threads, source })
}
