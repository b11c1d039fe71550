//! The inputs of `golden/ggml/make.py`, regenerated: see there for what they are.

#![allow(dead_code, reason = "each test uses some")]

use std::path::PathBuf;

pub const KINDS: usize = 12;
pub const COLS: usize = 1024;
pub const ROWS: usize = 1024;

pub fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../golden/ggml").join(name)
}

pub fn word(seed: u64, i: u64) -> u64 {
    let mut z = seed.wrapping_add((i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn unit(seed: u64, i: u64) -> f32 {
    (word(seed, i) >> 40) as f32 * 2f32.powi(-24)
}

fn normal(seed: u64, i: u64) -> f32 {
    let w = word(seed, i);
    let quarters: i64 = (0..4).map(|k| ((w >> (16 * k)) & 0xffff) as i64).sum();
    (quarters - 131_070) as f32 * 2f32.powi(-16)
}

/// Row `r` of the matrix, `cols` long.
pub fn row(r: usize, cols: usize) -> Vec<f32> {
    (0..cols).map(|c| value(r, c, cols)).collect()
}

fn value(r: usize, c: usize, cols: usize) -> f32 {
    let i = (r * COLS + c) as u64;
    let x = normal(1, i);
    match r % KINDS {
        0 => x * 0.03,
        1 => x * 2f32.powi((word(2, i / 32) % 24) as i32 - 20),
        2 => 0.0,
        3 => 0.37,
        4 if c == r % cols => 1e30,
        4 => x,
        5 => -x.abs() - 0.001,
        6 if (i / 16).is_multiple_of(2) => 2.5,
        6 => 2.5 + x * 0.001,
        7 => x * 2f32.powi(-120),
        8 => x * 2f32.powi(-100) * 2f32.powi(-26),
        9 => {
            if word(2, i).is_multiple_of(8) {
                x
            } else {
                0.0
            }
        }
        10 => (word(2, i) % 17) as f32 * 0.5 - 4.0,
        _ => x * 2f32.powi(60),
    }
}

/// All rows.
pub fn matrix() -> Vec<f32> {
    (0..ROWS).flat_map(|r| row(r, COLS)).collect()
}

pub fn importance(cols: usize) -> Vec<f32> {
    let weight = |c: usize| unit(3, c as u64) * unit(3, c as u64);
    let factor = |c: usize| match c {
        64..96 => 0.0,
        128..160 => 1e-20,
        _ => 1.0,
    };
    (0..cols).map(|c| weight(c) * factor(c)).collect()
}

pub fn fnv1a(data: &[u8]) -> u64 {
    let words = data.chunks(8).map(|c| {
        let mut word = [0; 8];
        word[..c.len()].copy_from_slice(c);
        u64::from_le_bytes(word)
    });
    words.fold(0xcbf2_9ce4_8422_2325, |h, w| {
        let h = (h ^ w).wrapping_mul(0x0100_0000_01b3);
        h ^ (h >> 32)
    })
}
