//! Hand-made broken GGUF files: each problem has its error, and no damage makes the reader panic.

use formats::gguf::{Header, Problem, parse};
use std::fs;
use std::path::Path;

/// A header built field by field.
#[derive(Clone)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn new(tensors: u64, keys: u64) -> Bytes {
        Bytes(b"GGUF\x03\0\0\0".to_vec()).u64(tensors).u64(keys)
    }

    fn u32(mut self, v: u32) -> Bytes {
        self.0.extend(v.to_le_bytes());
        self
    }

    fn u64(mut self, v: u64) -> Bytes {
        self.0.extend(v.to_le_bytes());
        self
    }

    fn str(mut self, s: &[u8]) -> Bytes {
        self = self.u64(s.len() as u64);
        self.0.extend(s);
        self
    }

    fn info(self, name: &str, dims: &[u64], ty: u32, offset: u64) -> Bytes {
        let head = self.str(name.as_bytes()).u32(dims.len() as u32);
        dims.iter().fold(head, |b, d| b.u64(*d)).u32(ty).u64(offset)
    }

    /// Pads, adds data, and parses.
    fn problem(mut self, data: usize) -> Problem {
        self.0.resize(self.0.len().next_multiple_of(32) + data, 0);
        parse(&self.0).unwrap_err()
    }
}

#[test]
fn every_problem_has_its_error() {
    let one = |dims: &[u64], ty, offset| Bytes::new(1, 0).info("a", dims, ty, offset).problem(64);
    assert!(matches!(one(&[32], 0, 0), Problem::Beyond { bytes: 128, len: 64, .. }));
    assert!(matches!(one(&[4], 0, 1 << 40), Problem::Beyond { .. }));
    assert!(matches!(one(&[4], 0, 64), Problem::Beyond { .. }));
    assert!(matches!(one(&[4], 0, 4), Problem::Unaligned { alignment: 32, .. }));
    assert!(matches!(one(&[33], 8, 0), Problem::Columns { multiple: 32, .. }));
    assert!(matches!(one(&[1 << 33, 1 << 33], 0, 0), Problem::Overflow { .. }));
    assert!(matches!(one(&[0, 1 << 33, 1 << 33], 0, 0), Problem::Overflow { .. }), "a zero excuses nothing");
    assert!(matches!(one(&[1 << 62], 28, 0), Problem::Overflow { .. }));
    assert!(matches!(one(&[1; 5], 0, 0), Problem::Dimensions { dims: 5, .. }));
    let two = |name, offset| Bytes::new(2, 0).info("a", &[16], 0, 0).info(name, &[8], 0, offset).problem(64);
    assert!(matches!(two("a", 32), Problem::Duplicate { tensor } if tensor == "a"));
    assert!(matches!(two("b", 32), Problem::Overlap { tensor, other } if tensor == "b" && other == "a"));
}

#[test]
fn every_key_problem_has_its_error() {
    let key = |ty| Bytes::new(0, 1).str(b"k").u32(ty);
    assert!(matches!(key(13).problem(8), Problem::ValueType { ty: 13, .. }));
    assert!(matches!(key(9).u32(77).u64(0).problem(8), Problem::ValueType { ty: 77, .. }));
    assert!(matches!(key(8).str(b"\xff").problem(0), Problem::Utf8 { .. }));
    assert!(matches!(key(8).u64(1 << 60).problem(0), Problem::Count { .. }));
    assert!(matches!(key(9).u32(0).u64(u64::MAX).problem(0), Problem::Count { .. }));
    assert!(matches!(key(9).u32(8).u64(1 << 40).problem(0), Problem::Count { .. }));
    let deep = (0..9).fold(key(9), |b, _| b.u32(9).u64(1));
    assert!(matches!(deep.problem(64), Problem::Depth { .. }));
    assert!(matches!(Bytes::new(0, 2).str(b"k").u32(4).u32(1).str(b"k").problem(64), Problem::DuplicateKey { .. }));
    let align = |v| Bytes::new(0, 1).str(b"general.alignment").u32(4).u32(v).problem(0);
    for bad in [0, 3, 1 << 20] {
        assert!(matches!(align(bad), Problem::Alignment(_)));
    }
}

#[test]
fn absurd_counts_and_versions_are_refused() {
    assert!(matches!(Bytes::new(u64::MAX, 0).problem(0), Problem::Count { what: "tensors", .. }));
    assert!(matches!(Bytes::new(0, u64::MAX).problem(0), Problem::Count { what: "keys", .. }));
    assert!(matches!(parse(b"GGML\0\0\0\0"), Err(Problem::Magic)));
    assert!(matches!(parse(b"GGUF\x01\0\0\0"), Err(Problem::Version { version: 1 })));
    assert!(matches!(parse(b"GGUF\0\0\0\x03"), Err(Problem::Version { .. })), "big endian");
}

fn golden() -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/formats/tiny.gguf")).unwrap()
}

fn in_bounds(header: &Header, file: &[u8]) {
    for t in &header.tensors {
        let (len, bytes) = t.ty.block().unwrap_or((1, 0));
        assert!(file.get(t.range.clone()).is_some_and(|b| b.len() == t.elements() / len * bytes), "{t:?}");
    }
}

/// The last tensor's padding is not needed; everything before it is.
#[test]
fn no_prefix_is_accepted() {
    let bytes = golden();
    let end = parse(&bytes).unwrap().tensors.iter().map(|t| t.range.end).max().unwrap();
    for n in 0..end {
        assert!(parse(&bytes[..n]).is_err(), "{n} of {} bytes", bytes.len());
    }
}

#[test]
fn no_flipped_bit_leads_out_of_the_file() {
    let mut bytes = golden();
    let good = parse(&bytes).unwrap();
    let data = good.tensors.iter().map(|t| t.range.start).min().unwrap();
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        match parse(&bytes) {
            Ok(header) if bit / 8 >= data => assert_eq!(header, good),
            Ok(header) => in_bounds(&header, &bytes),
            Err(e) => assert!(bit / 8 < data, "damage in the data is not the header's: {e}"),
        }
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}
