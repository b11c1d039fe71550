//! Hand-made broken safetensors files: each problem has its error, and no damage makes the reader panic.

use formats::safetensors::{Header, Problem, parse};
use std::fs;
use std::path::Path;

/// A file of this header and data.
fn file(json: &str, data: usize) -> Vec<u8> {
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend(json.as_bytes());
    bytes.extend(vec![0; data]);
    bytes
}

fn problem(json: &str, data: usize) -> Problem {
    parse(&file(json, data)).expect_err(json)
}

/// One tensor `a` of this type, shape and offsets.
fn one(dtype: &str, shape: &str, offsets: &str, data: usize) -> Problem {
    problem(&format!(r#"{{"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#), data)
}

/// Two U8 tensors.
fn two(a: &str, b: &str, data: usize) -> Problem {
    let entry = |name: &str, range: &str| {
        let (begin, end) = range.split_once("..").unwrap();
        let len = end.parse::<usize>().unwrap() - begin.parse::<usize>().unwrap();
        format!(r#""{name}":{{"dtype":"U8","shape":[{len}],"data_offsets":[{begin},{end}]}}"#)
    };
    problem(&format!("{{{},{}}}", entry("a", a), entry("b", b)), data)
}

#[test]
fn every_problem_names_its_tensor() {
    assert!(matches!(one("F4", "[1]", "[0,1]", 1), Problem::Dtype { tensor, dtype } if tensor == "a" && dtype == "F4"));
    assert!(matches!(one("F32", "[2]", "[0,4]", 4), Problem::Size { expected: 8, got: 4, .. }));
    assert!(matches!(one("F32", "[2]", "[0,8]", 4), Problem::Beyond { end: 8, len: 4, .. }));
    assert!(matches!(one("U8", "[2]", "[2,0]", 4), Problem::Beyond { .. }));
    assert!(matches!(one("U8", "[4294967296,4294967296]", "[0,1]", 1), Problem::Overflow { .. }));
    assert!(matches!(one("U8", "[4294967296,4294967296,0]", "[0,0]", 0), Problem::Overflow { .. }));
    assert!(matches!(one("F64", "[2305843009213693952]", "[0,0]", 0), Problem::Overflow { .. }));
    assert!(matches!(one("U8", "[2]", "[0,2]", 3), Problem::Trailing { bytes: 1 }));
    assert!(matches!(one("U8", "[2]", "[1,3]", 3), Problem::Hole { bytes: 1, .. }));
    assert!(matches!(two("0..4", "2..6", 6), Problem::Overlap { tensor, other } if tensor == "b" && other == "a"));
    assert!(matches!(two("0..4", "0..4", 4), Problem::Overlap { .. }));
    assert!(matches!(two("0..2", "4..6", 6), Problem::Hole { bytes: 2, .. }));
}

#[test]
fn bad_json_says_where() {
    for (json, what) in [
        (r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8"}}"#, "`a` appears twice"),
        (r#"{"a":{"shape":[1],"data_offsets":[0,1]}}"#, "`a`: missing field `dtype`"),
        (r#"{"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}}"#, "`a`: invalid value"),
        (r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,99999999999999999999]}}"#, "`a`"),
        (r#"{"__metadata__":{"format":1}}"#, "`__metadata__`"),
        ("[]", "an object with one entry per tensor"),
        ("{", "EOF"),
    ] {
        let e = problem(json, 1);
        assert!(matches!(e, Problem::Json(_)) && e.to_string().contains(what), "{json}: {e}");
    }
}

#[test]
fn header_length_is_checked_before_anything_is_allocated() {
    for claimed in [1u64, 1 << 27, 1 << 62, u64::MAX] {
        let e = parse(&claimed.to_le_bytes()).unwrap_err();
        assert!(matches!(e, Problem::HeaderLength { available: 0, .. }), "{e:?}");
    }
}

fn golden() -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/formats/tiny.safetensors")).unwrap()
}

/// Checks what any accepted header must hold.
fn in_bounds(header: &Header, file: &[u8]) {
    for t in &header.tensors {
        assert!(file.get(t.range.clone()).is_some_and(|b| b.len() == t.elements() * t.dtype.bytes()), "{t:?}");
    }
}

#[test]
fn no_prefix_is_accepted() {
    let bytes = golden();
    for n in 0..bytes.len() {
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
