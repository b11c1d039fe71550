//! Dense bit packing: code `i` of `b` bits occupies bits `i·b … i·b + b − 1` of a little-endian bit stream.
//!
//! This is what compressed-tensors (0.17 and later) means by packing into int32 words, least significant bits first: a
//! code may straddle two words, and eight codes fill exactly `b` bytes. Before 0.17, widths of 3, 5, 6 and 7 bits left
//! the top bits of every word empty; such files are not readable here. 2, 4 and 8 bits are the same in both.

/// Bytes of `n` codes of `bits` bits, in whole 32-bit words.
pub const fn packed_bytes(n: usize, bits: u32) -> usize {
    n.saturating_mul(bits as usize).div_ceil(32).saturating_mul(4)
}

/// Packs `codes` (each below 2^`bits`, 1 ≤ `bits` ≤ 8) into `out`; what `out` has beyond them is zeroed.
pub fn pack(bits: u32, codes: &[u8], out: &mut [u8]) {
    with_width(bits, Pack { codes, out });
}

/// Unpacks as many codes of `bits` bits (1 ≤ `bits` ≤ 8) as `codes` holds; `bytes` has at least as many.
pub fn unpack(bits: u32, bytes: &[u8], codes: &mut [u8]) {
    with_width(bits, Unpack { bytes, codes });
}

/// Work that is compiled once per bit width, so that its shifts are constants.
trait PerWidth {
    fn run<const BITS: usize>(self);
}

fn with_width(bits: u32, work: impl PerWidth) {
    match bits {
        1 => work.run::<1>(),
        2 => work.run::<2>(),
        3 => work.run::<3>(),
        4 => work.run::<4>(),
        5 => work.run::<5>(),
        6 => work.run::<6>(),
        7 => work.run::<7>(),
        _ => work.run::<8>(),
    }
}

struct Pack<'a> {
    codes: &'a [u8],
    out: &'a mut [u8],
}

impl PerWidth for Pack<'_> {
    fn run<const BITS: usize>(self) {
        let (eights, rest) = self.codes.as_chunks::<8>();
        let (full, tail) = self.out.split_at_mut((eights.len() * BITS).min(self.out.len()));
        for (codes, out) in eights.iter().zip(full.as_chunks_mut::<BITS>().0) {
            out.copy_from_slice(&word::<BITS>(*codes)[..BITS]);
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        let last = word::<BITS>(last);
        tail.fill(0);
        tail.iter_mut().zip(last).for_each(|(t, l)| *t = l);
    }
}

/// Eight codes as the bytes of one little-endian number.
fn word<const BITS: usize>(codes: [u8; 8]) -> [u8; 8] {
    let mut word = 0u64;
    for (i, c) in codes.iter().enumerate() {
        word |= u64::from(*c) << (i * BITS);
    }
    word.to_le_bytes()
}

struct Unpack<'a> {
    bytes: &'a [u8],
    codes: &'a mut [u8],
}

impl PerWidth for Unpack<'_> {
    fn run<const BITS: usize>(self) {
        let whole = (self.codes.len() / 8).min(self.bytes.len() / BITS);
        let (eights, codes) = self.codes.split_at_mut(whole * 8);
        let (full, bytes) = self.bytes.split_at(whole * BITS);
        for (codes, bytes) in eights.as_chunks_mut::<8>().0.iter_mut().zip(full.as_chunks::<BITS>().0) {
            let mut word = [0; 8];
            word[..BITS].copy_from_slice(bytes);
            *codes = split::<BITS>(word);
        }
        let mut word = [0; 8];
        word.iter_mut().zip(bytes).for_each(|(w, b)| *w = *b);
        codes.iter_mut().zip(split::<BITS>(word)).for_each(|(c, s)| *c = s);
    }
}

/// Eight codes from the bytes of one little-endian number.
fn split<const BITS: usize>(word: [u8; 8]) -> [u8; 8] {
    let word = u64::from_le_bytes(word);
    std::array::from_fn(|i| (word >> (i * BITS)) as u8 & (0xff >> (8 - BITS)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn unpack_inverts_pack(bits in 1u32..=8, codes in prop::collection::vec(0u8.., 0..100)) {
            let codes: Vec<u8> = codes.iter().map(|c| c >> (8 - bits)).collect();
            let mut packed = vec![0xaa; packed_bytes(codes.len(), bits)];
            pack(bits, &codes, &mut packed);
            let mut back = vec![0; codes.len()];
            unpack(bits, &packed, &mut back);
            prop_assert_eq!(&back, &codes);
            let used = codes.len() * bits as usize;
            let stream = |i: usize| packed[i / 8] >> (i % 8) & 1;
            for (i, c) in codes.iter().enumerate() {
                prop_assert_eq!(stream(i * bits as usize), c & 1);
            }
            prop_assert!((used..packed.len() * 8).all(|i| stream(i) == 0));
        }
    }
}
