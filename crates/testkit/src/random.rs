//! Random numbers that a Python script can make too: keyed by name, exact in bf16.
//!
//! The name seeds a 64-bit FNV-1a hash `h`; number `i` is the SplitMix64 output of state `h + i`, its top 8 bits as a
//! signed integer from −128 to 127, times a power of two. So every value is exact in bf16, f16 and f32, and
//! `golden/logits/make.py` needs ten lines to make the same.
//!
//! Sources: FNV, <http://www.isthe.com/chongo/tech/comp/fnv/>; SplitMix64, Steele, Lea and Flood, OOPSLA 2014.

/// `count` numbers of the tensor `name`, from `-128 · scale` to `127 · scale`.
pub fn values(name: &str, count: usize, scale: f32) -> Vec<f32> {
    let seed = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    (0..count as u64).map(|i| f32::from((split_mix(seed.wrapping_add(i)) >> 56) as u8 as i8) * scale).collect()
}

/// Numbers for a weight as a trained model might have them: norms around one (around zero where Gemma adds the one),
/// everything else small enough that a few layers keep their values near one.
pub fn weight_value(name: &str, count: usize, gemma: bool) -> Vec<f32> {
    let around = if name.contains("norm") && name.ends_with(".weight") && !gemma { 1.0 } else { 0.0 };
    values(name, count, 1.0 / 512.0).into_iter().map(|v| around + v).collect()
}

fn split_mix(state: u64) -> u64 {
    let z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
