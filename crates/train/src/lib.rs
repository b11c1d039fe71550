//! Training: schedules, batches, optimizers, the step, and a tokenizer of one's own. Reads and writes no files.
//!
//! [`Trainer`] predicts tokens, [`NetworkTrainer`] names classes; both stand on one learner, so a checkpoint is the same for both.

mod augment;
mod batches;
mod fading;
mod init;
mod learner;
mod loss;
mod masking;
mod network;
mod optimizer;
mod order;
mod residual;
mod rng;
mod schedule;
mod straight;
pub mod tokenizer;
mod trainer;

pub use augment::Augment;
pub use batches::{Batch, Batches};
pub use fading::Fading;
pub use init::initial;
pub use learner::{State, Unfit};
pub use loss::Target;
pub use masking::{MaskBy, Masking};
pub use network::{NetworkSettings, NetworkTrainer, TrainError, reestimate};
pub use optimizer::{Constants, Moments, Rule};
pub use residual::{BuildError, Residual};
pub use rng::Rng;
pub use schedule::Schedule;
pub use trainer::{Settings, StepReport, Trainer};
