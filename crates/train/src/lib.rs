//! Training: schedules, batches, optimizer, the loop, and a tokenizer of one's own.

mod batches;
mod init;
mod rng;
mod schedule;
pub mod tokenizer;

pub use batches::{Batch, Batches};
pub use init::initial;
pub use rng::Rng;
pub use schedule::Schedule;
