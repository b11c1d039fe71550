//! Between what a `quantization_config` of compressed-tensors says of running a model, and [`graph::RunQuant`].
//!
//! | | arguments | tensor beside the weight |
//! |---|---|---|
//! | [`InputQuant::Int8PerToken`], [`InputQuant::Fp8PerToken`] | 8 bits, `token`, dynamic | – |
//! | [`InputQuant::Int8`], [`InputQuant::Fp8`] | 8 bits, `tensor` | `input_scale` |
//! | [`InputQuant::Fp8Groups`] | 8 bits, `group` of 128, dynamic | – |
//! | [`InputQuant::Mxfp4`] | 4 bits, `group` of 32, dynamic | – |
//! | [`InputQuant::Nvfp4`] | 4 bits, `tensor_group` of 16, dynamic `local` | `input_global_scale` |
//! | [`graph::CacheScales`] | `kv_cache_scheme`: E4M3, `tensor` | `self_attn.k_scale`, `self_attn.v_scale` |
//!
//! Source: the `compressed-tensors` package, `quantization/quant_scheme.py` (0.20); vLLM's `kv_cache.py`.

use formats::hf::quantization::{NumberKind, QuantizationArgs, Strategy};
use graph::InputQuant;
use serde_json::{Value, json};

/// The arguments that say so; the calibrated number is not among them.
pub fn input_args(input: InputQuant) -> QuantizationArgs {
    use {InputQuant as I, NumberKind as K, Strategy as S};
    let (bits, kind, strategy, group, dynamic) = match input {
        I::Int8PerToken => (8, K::Int, S::Token, None, json!(true)),
        I::Int8 { .. } => (8, K::Int, S::Tensor, None, json!(false)),
        I::Fp8PerToken => (8, K::Float, S::Token, None, json!(true)),
        I::Fp8Groups => (8, K::Float, S::Group, Some(128), json!(true)),
        I::Fp8 { .. } => (8, K::Float, S::Tensor, None, json!(false)),
        I::Mxfp4 => (4, K::Float, S::Group, Some(32), json!(true)),
        I::Nvfp4 { .. } => (4, K::Float, S::TensorGroup, Some(16), json!("local")),
    };
    let mut args = QuantizationArgs::weights(bits, kind, true, strategy, group);
    args.dynamic = dynamic;
    args.scale_dtype = match input {
        I::Mxfp4 => Some("torch.uint8".into()),
        I::Nvfp4 { .. } => Some("torch.float8_e4m3fn".into()),
        _ => None,
    };
    args
}

/// The arguments of a cache in E4M3.
pub fn cache_args() -> QuantizationArgs {
    QuantizationArgs::weights(8, NumberKind::Float, true, Strategy::Tensor, None)
}

/// What the arguments say, its number not yet read; `None` where there is no such thing here.
pub fn input_quant(args: &QuantizationArgs) -> Option<InputQuant> {
    use InputQuant as I;
    let known = [I::Int8PerToken, I::Int8 { scale: 0.0 }, I::Fp8PerToken, I::Fp8Groups, I::Fp8 { scale: 0.0 }];
    let known = known.into_iter().chain([I::Mxfp4, I::Nvfp4 { global: 0.0 }]);
    let dynamic = |a: &QuantizationArgs| if a.dynamic == Value::Null { json!(false) } else { a.dynamic.clone() };
    let told = |a: &QuantizationArgs| (a.num_bits, a.kind, a.symmetric, a.strategy(), a.group_size, dynamic(a));
    known.into_iter().find(|input| told(&input_args(*input)) == told(args))
}

/// The tensor beside a weight with the calibrated number.
pub const fn number_name(input: InputQuant) -> Option<&'static str> {
    match input {
        InputQuant::Int8 { .. } | InputQuant::Fp8 { .. } => Some("input_scale"),
        InputQuant::Nvfp4 { .. } => Some("input_global_scale"),
        _ => None,
    }
}

/// The same kind with this number.
pub fn with_number(input: InputQuant, number: f32) -> InputQuant {
    match input {
        InputQuant::Int8 { .. } => InputQuant::Int8 { scale: number },
        InputQuant::Fp8 { .. } => InputQuant::Fp8 { scale: number },
        InputQuant::Nvfp4 { .. } => InputQuant::Nvfp4 { global: number },
        other => other,
    }
}
