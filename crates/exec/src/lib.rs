//! The interpreter: runs a graph forward and backward over host buffers.
//!
//! An [`Executor`] holds a graph, its weights as far as its memory budget lets them stay decoded, and buffers that it
//! uses again. Nodes run one after the other; each op's forward and backward stand side by side in `ops/<op>.rs`.
//!
//! - [`Executor::run`]: any graph, its inputs to its outputs. [`Executor::set_batch_statistics`] says whether batch norms are live.
//! - [`Executor::forward`], [`Executor::forward_logits`]: logits whole, or in chunks of rows so that they are never all
//!   resident; [`Executor::forward_hidden`] and [`Executor::logits`] do so on demand. [`Executor::forward_with_taps`] shows
//!   each node's inputs on the way.
//! - [`Executor::forward_many`], [`Executor::run_range_many`]: many batches block by block, one block's weights resident at a time.
//! - [`Executor::run_range`], [`Executor::backward_range`]: any run of nodes, for passes that work on one block.
//! - [`Executor::loss_and_grads`], [`Executor::backprop`]: training, with recomputation by block where asked.
//! - [`KvCache`], [`generate`]: incremental decoding.
//!
//! Results are the same bits at any number of threads: kernels cut work by shape alone, and nodes run in order.

mod backward;
mod cache;
mod error;
mod examples;
mod executor;
mod forward;
mod generate;
mod ops;
mod pool;
mod random;
mod schedule;
mod served;
mod tensor;
mod timing;
mod train;
mod weights;

pub use backward::{Grads, Tape};
pub use cache::KvCache;
pub use error::Error;
pub use examples::{Examples, Intake, SampleError};
pub use executor::{Executor, ManyLogits, ManyTapper, Options};
pub use forward::{BatchStatistics, Tap, Tapper};
pub use generate::{Sampling, generate, sample};
pub use random::random;
pub use tensor::{Data, Tensor, Values};
pub use timing::node_seconds;
pub use train::{IGNORE, Recompute};
pub use weights::{Compute, Residency, Scalar, Weights, decoded_bytes};
