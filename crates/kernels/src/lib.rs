//! The numeric kernels of the interpreter, over plain host slices.
//!
//! Everything is generic over [`Real`]: `f32` for work, `f64` so that gradients can be checked by finite differences.
//! Buffers are row-major and contiguous unless a [`MatRef`] says otherwise. Kernels run on the current `rayon` pool, and
//! give the same bytes at any number of threads. Vector instructions are chosen at run time. A kernel panics when the
//! lengths it is given do not agree: callers have checked shapes long before.
//!
//! | what | forward | backward |
//! |---|---|---|
//! | matrix product | [`matmul`] | itself, on transposed views |
//! | linear layer | [`linear`], [`linear_bf16`] | [`linear_grad_input`], [`linear_grad_weight`], [`linear_grad_bias`] |
//! | convolution | [`conv`](conv()) | [`conv_grad_input`] (also a transposed convolution), [`conv_grad_weight`] |
//! | attention | [`attention`](attention()) | [`attention_grad`] |
//! | norms | [`rms_norm`], [`layer_norm`] | [`rms_norm_grad`], [`layer_norm_grad`] |
//! | rotary embedding | [`rope`](rope()) forward | the same, backward |
//! | activations | [`activate`], [`gated`] | [`activate_grad`], [`gated_grad`] |
//! | soft cap | [`soft_cap`](soft_cap()) | [`soft_cap_grad`] |
//! | softmax | [`softmax_rows`], [`log_softmax_rows`] | [`softmax_rows_grad`] |
//! | losses | [`cross_entropy`], [`kl_divergence`] | [`cross_entropy_grad`], [`kl_divergence_grad`] |
//! | optimizer | [`adamw`](adamw()) | – |
//! | optimizers | [`sgd`](sgd()) | – |
//! | norms of channels | [`batch_norm`], [`group_norm`], [`lrn`](lrn()) | [`batch_norm_grad`], [`group_norm_grad`], [`lrn_grad`] |
//! | pooling | [`max_pool`], [`average_pool`] | [`max_pool_grad`], [`average_pool_grad`] |
//! | resampling | [`resample`] | [`resample_grad`] |
//! | functions of one, of two | [`curve`](curve()), [`binary`](binary()) | [`curve_grad`], [`binary_grad`] |
//! | folds, softmax along any axis | [`fold`](fold()), [`softmax_along`] | [`extreme_grad`], [`softmax_along_grad`] |
//! | fake quantization | [`fake_quant`](fake_quant()) | [`fake_quant_grad`], [`fake_quant_grad_scale`] |
//! | moving elements | [`walk`], [`take`] | [`walk`], [`take_grad`] |
//! | elementwise | [`add`], [`add_assign`], [`mul`], [`scale`], [`sum_squares`] | themselves |
//!
//! Gradients take a [`Write`]: replace what the buffer holds, or add to it.

mod activation;
mod adamw;
mod attention;
mod bf16;
mod binary;
mod channel_norm;
mod conv;
mod curve;
mod elementwise;
pub mod encode;
mod fake_quant;
mod fold;
mod layout;
mod loss;
mod lrn;
mod matmul;
mod micro;
mod norm;
mod pack;
mod parallel;
mod pool;
mod real;
mod resize;
mod rope;
mod sgd;
mod simd;
mod soft_cap;
mod softmax;

pub use activation::{Activation, activate, activate_grad, gated, gated_grad};
pub use adamw::{AdamW, adamw};
pub use attention::{Attention, AttentionSaved, attention, attention_grad};
pub use bf16::{
    BF16_TOLERANCE, Bf16Choice, Bf16Path, PackedBf16, bf16_path, gram, gram_bf16, linear_bf16, linear_bf16_once,
};
pub use binary::{Binary, Pair, Side, binary, binary_grad};
pub use channel_norm::{
    Affine, Channels, Moments, NormGrads, add_channel_sums, batch_norm, batch_norm_grad, channel_moments,
    group_moments, group_norm, group_norm_grad,
};
pub use conv::{Conv, conv, conv_grad_input, conv_grad_weight};
pub use curve::{Curve, curve, curve_grad};
pub use elementwise::{add, add_assign, mul, rectify, rectify_grad, scale, sum_squares};
pub use fake_quant::{FakeQuant, Range as QuantRange, fake_quant, fake_quant_grad, fake_quant_grad_scale};
pub use fold::{Fold, extreme_grad, fold, softmax_along, softmax_along_grad};
pub use layout::{Along, Walk, strides, take, take_grad, walk};
pub use loss::{IGNORE, cross_entropy, cross_entropy_grad, kl_divergence, kl_divergence_grad};
pub use lrn::{Lrn, lrn, lrn_grad};
pub use matmul::{MatMut, MatRef, Write, linear, linear_grad_bias, linear_grad_input, linear_grad_weight, matmul};
pub use norm::{layer_norm, layer_norm_grad, rms_norm, rms_norm_grad};
pub use pool::{Divisor, Pool, average_pool, average_pool_grad, max_pool, max_pool_grad};
pub use real::Real;
pub use resize::{Resample, resample, resample_grad};
pub use rope::{RopeShape, Rotation, rope, rope_tables};
pub use sgd::{Sgd, sgd};
pub use soft_cap::{soft_cap, soft_cap_grad};
pub use softmax::{log_softmax_rows, softmax_rows, softmax_rows_grad};
