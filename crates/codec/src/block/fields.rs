//! The fields of a block: `f16` scales, and codes in bit planes.
//!
//! Codes are split into fields of 1, 2 or 4 bits, each field in a plane of its own.
//!
//! ggml's planes are strided: in a plane of `n` bytes, byte `l` holds codes `l`, `l + n`, `l + 2n`, …, the first in the
//! lowest bits. A plane of one byte therefore holds consecutive codes.

use half::f16;

/// Reads the little-endian `f16` at `at`.
pub(super) fn read_f16(block: &[u8], at: usize) -> f16 {
    f16::from_le_bytes([block[at], block[at + 1]])
}

/// Writes a little-endian `f16` at `at`.
pub(super) fn write_f16(block: &mut [u8], at: usize, value: f16) {
    block[at..at + 2].copy_from_slice(&value.to_le_bytes());
}

/// The complaint of [`invalid`](super::BlockCodec::invalid) where an `f16` at one of the places is infinite or not a number.
pub(super) fn check_f16(block: &[u8], at: &[usize]) -> Option<&'static str> {
    at.iter().any(|at| !read_f16(block, *at).is_finite()).then_some("scale is not finite")
}

/// Writes `bits` bits of every code, taken from bit `shift` on, into `plane`.
///
/// `codes.len() * bits == plane.len() * 8`.
#[inline(always)]
pub(super) fn pack(bits: usize, shift: usize, codes: &[u8], plane: &mut [u8]) {
    let mask = (1u8 << bits) - 1;
    plane.fill(0);
    for (slot, codes) in codes.chunks_exact(plane.len()).enumerate() {
        for (byte, code) in plane.iter_mut().zip(codes) {
            *byte |= ((code >> shift) & mask) << (slot * bits);
        }
    }
}

/// Adds the fields of `plane` to `codes`, at bit `shift`: the reverse of [`pack`] onto cleared codes.
#[inline(always)]
pub(super) fn unpack(bits: usize, shift: usize, plane: &[u8], codes: &mut [u8]) {
    let mask = (1u8 << bits) - 1;
    for (slot, codes) in codes.chunks_exact_mut(plane.len()).enumerate() {
        for (byte, code) in plane.iter().zip(codes) {
            *code |= ((byte >> (slot * bits)) & mask) << shift;
        }
    }
}

/// [`pack`] over runs of `run` codes, each into its own piece of `planes`.
#[inline(always)]
pub(super) fn pack_runs(run: usize, bits: usize, shift: usize, codes: &[u8], planes: &mut [u8]) {
    for (codes, plane) in codes.chunks_exact(run).zip(planes.chunks_exact_mut(run * bits / 8)) {
        pack(bits, shift, codes, plane);
    }
}

/// [`unpack`] over runs of `run` codes.
#[inline(always)]
pub(super) fn unpack_runs(run: usize, bits: usize, shift: usize, planes: &[u8], codes: &mut [u8]) {
    for (codes, plane) in codes.chunks_exact_mut(run).zip(planes.chunks_exact(run * bits / 8)) {
        unpack(bits, shift, plane, codes);
    }
}
