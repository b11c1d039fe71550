//! Block formats against ggml: bytes of the encoders, numbers of the decoders (`golden/ggml/make.py`).

mod ggml_inputs;

use codec::{BlockFormat, CodecError};
use ggml_inputs::{COLS, KINDS, fnv1a, golden, importance, matrix, row, word};
use proptest::prelude::*;
use std::fs;

/// `(format, weighted, rest of the line)` of a golden table.
fn table(name: &str) -> Vec<(BlockFormat, bool, String)> {
    let text = fs::read_to_string(golden(name)).unwrap();
    let entry = |line: &str| {
        let (label, hash) = line.split_once(' ').unwrap();
        let name = label.strip_suffix("_w").unwrap_or(label);
        let format = BlockFormat::ALL.into_iter().find(|f| f.name() == name).unwrap();
        (format, label.ends_with("_w"), hash.to_owned())
    };
    text.lines().map(entry).collect()
}

fn encode(format: BlockFormat, weighted: bool, x: &[f32], cols: usize) -> Vec<u8> {
    let importance = weighted.then(|| importance(cols));
    let row_bytes = format.row_bytes(cols).unwrap();
    let mut out = vec![0; x.len() / cols * row_bytes];
    for (x, out) in x.chunks_exact(cols).zip(out.chunks_exact_mut(row_bytes)) {
        format.codec().encode_row(x, importance.as_deref(), out);
    }
    out
}

#[test]
fn first_row_of_each_kind_has_ggmls_bytes() {
    for (format, weighted, _) in table("encode.txt") {
        let expected = fs::read(golden(&format!("{format}{}.bin", if weighted { "_w" } else { "" }))).unwrap();
        let row_bytes = format.row_bytes(256).unwrap();
        for (kind, expected) in (0..KINDS).zip(expected.chunks_exact(row_bytes)) {
            let got = encode(format, weighted, &row(kind, 256), 256);
            assert_eq!(got, expected, "{format} weighted {weighted} kind {kind}");
        }
    }
}

#[test]
fn a_million_values_have_ggmls_bytes() {
    let x = matrix();
    for (format, weighted, hash) in table("encode.txt") {
        assert_eq!(
            format!("{:016x}", fnv1a(&encode(format, weighted, &x, COLS))),
            hash,
            "{format} weighted {weighted}"
        );
    }
}

#[test]
fn any_bytes_decode_to_ggmls_numbers() {
    for (format, _, hash) in table("decode.txt") {
        let blocks = 4096;
        let bytes: Vec<u8> =
            (0..(blocks * format.codec().block_bytes()) as u64).map(|i| (word(4, i) >> 56) as u8).collect();
        let mut out = vec![0.0; blocks * format.codec().block_len()];
        format.decode_row(&bytes, &mut out);
        let bits = |v: &f32| if v.is_nan() { 0x7fc0_0000 } else { v.to_bits() };
        let bytes: Vec<u8> = out.iter().flat_map(|v| bits(v).to_le_bytes()).collect();
        assert_eq!(format!("{:016x}", fnv1a(&bytes)), hash, "{format}");
    }
}

#[test]
fn every_format_is_in_the_golden_tables() {
    for name in ["encode.txt", "decode.txt"] {
        let table = table(name);
        assert!(BlockFormat::ALL.iter().all(|f| table.iter().any(|(g, ..)| f == g)), "{name}");
    }
}

#[test]
fn what_cannot_be_encoded_is_refused() {
    let encode = |x: &[f32], importance: Option<&[f32]>| BlockFormat::Q4_K.encode_row(x, importance, &mut [0; 144]);
    let x = row(0, 256);
    assert_eq!(encode(&x, None), Ok(()));
    assert!(matches!(encode(&x[1..], None), Err(CodecError::Columns { .. })));
    assert!(matches!(encode(&[], None), Err(CodecError::Length { part: "bytes", .. })));
    assert!(matches!(encode(&x, Some(&x[1..])), Err(CodecError::Length { part: "importance", .. })));
    assert!(matches!(encode(&x, Some(&x)), Err(CodecError::Importance { .. })));
    let with = |v| [&x[..255], &[v]].concat();
    assert!(matches!(encode(&with(f32::NAN), None), Err(CodecError::NotFinite { index: 255, .. })));
    assert!(matches!(encode(&with(1e30), None), Err(CodecError::NotFinite { index: 255, .. })));
    assert!(matches!(encode(&with(1e9), None), Err(CodecError::Invalid { .. })), "scale overflows f16");
}

proptest! {
    /// Codes and grid are the whole of a block: packing the codes that were read changes nothing but what no encoder
    /// writes, and the code nearest to a decoded number stands for that number.
    #[test]
    fn codes_read_from_a_block_pack_into_it(seed in any::<u64>()) {
        for format in BlockFormat::ALL {
            let codec = format.codec();
            let x: Vec<f32> = row((seed % 1000) as usize * KINDS, codec.block_len());
            let mut block = vec![0; codec.block_bytes()];
            format.encode_row(&x, None, &mut block).unwrap();
            let mut codes = vec![0; x.len()];
            codec.unpack(&block, &mut codes);
            let mut decoded = vec![0.0; x.len()];
            format.decode_row(&block, &mut decoded);
            let grid = codec.grid(&block);
            for (i, (code, value)) in codes.iter().zip(&decoded).enumerate() {
                prop_assert_eq!(grid.value(i, *code), *value);
                prop_assert_eq!(grid.value(i, grid.nearest(i, *value)), *value, "{} {}", format, i);
            }
            let mut packed = block.clone();
            codec.pack(&codes, &mut packed);
            prop_assert_eq!(packed, block, "{}", format);
        }
    }

    /// Any bytes decode and are judged, without panic.
    #[test]
    fn hostile_blocks_decode(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        for format in BlockFormat::ALL {
            let codec = format.codec();
            let mut out = vec![0.0; bytes.len() / codec.block_bytes() * codec.block_len()];
            format.decode_row(&bytes, &mut out);
            // MXFP4 may hold what f32 cannot: 6·2¹²⁷.
            if format != BlockFormat::MXFP4 && format.validate(&bytes).is_ok() {
                prop_assert!(out.iter().all(|v| v.is_finite()), "{}", format);
            }
        }
    }
}
