//! Training: schedules, batches, optimizer, the step, and a tokenizer of one's own. Reads and writes no files.

mod batches;
mod init;
mod optimizer;
mod rng;
mod schedule;
pub mod tokenizer;
mod trainer;

pub use batches::{Batch, Batches};
pub use init::initial;
pub use optimizer::{Constants, Moments};
pub use rng::Rng;
pub use schedule::Schedule;
pub use trainer::{Settings, State, StepReport, Trainer, Unfit};
