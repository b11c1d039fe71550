//! The fast encoders against the reference: bytes and errors, on the inputs of `golden/ggml/make.py`.

#[path = "../../codec/tests/ggml_inputs/mod.rs"]
mod ggml_inputs;

use codec::block::plain;
use codec::{BlockFormat, CodecError, Dtype};
use ggml_inputs::{KINDS, importance, row};
use kernels::encode::{encode_rows, widen};

fn reference(format: BlockFormat, cols: usize, x: &[f32], importance: Option<&[f32]>) -> Vec<u8> {
    let row_bytes = format.row_bytes(cols).unwrap();
    let mut out = vec![0; x.len() / cols * row_bytes];
    for (x, out) in x.chunks_exact(cols).zip(out.chunks_exact_mut(row_bytes)) {
        format.codec().encode_row(x, importance, out);
    }
    out
}

/// Rows of one kind; those whose numbers no format holds are brought to where the scales just overflow.
fn rows(kind: usize, rows: usize, cols: usize) -> Vec<f32> {
    let x = (0..rows).flat_map(|r| row(kind + r * KINDS, cols));
    x.map(|v| v.clamp(-1e9, 1e9)).collect()
}

#[test]
fn every_format_has_the_bytes_of_the_reference() {
    // Three superblocks a row: batches of two straddle rows, and the last one is not full.
    let cols = 768;
    let importance = importance(cols);
    for kind in 0..KINDS {
        let x = rows(kind, 11, cols);
        for (format, importance) in BlockFormat::ALL.into_iter().flat_map(|f| [(f, None), (f, Some(&*importance))]) {
            let expected = reference(format, cols, &x, importance);
            let mut out = vec![0; expected.len()];
            let result = encode_rows(format, cols, &x, importance, &mut out);
            assert_eq!(result, format.validate(&expected), "{format} kind {kind}");
            assert_eq!(out, expected, "{format} weighted {} kind {kind}", importance.is_some());
        }
    }
}

#[test]
fn lengths_that_do_not_fit_are_refused() {
    let x = row(0, 512);
    let encode = |cols, x: &[f32], out: &mut [u8]| encode_rows(BlockFormat::Q4_K, cols, x, None, out);
    assert!(matches!(encode(500, &x, &mut [0; 288]), Err(CodecError::Columns { .. })));
    assert!(matches!(encode(512, &x, &mut [0; 287]), Err(CodecError::Length { part: "bytes", .. })));
    assert!(matches!(encode(512, &x[..256], &mut [0; 144]), Err(CodecError::Length { part: "values", .. })));
    assert_eq!(encode(0, &[], &mut []), Ok(()));
}

#[test]
fn every_16_bit_pattern_widens_as_the_reference_does() {
    let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
    for dtype in [Dtype::BF16, Dtype::F16, Dtype::I16] {
        let (mut got, mut expected) = (vec![0.0; 1 << 16], vec![0.0; 1 << 16]);
        widen(dtype, &bytes, &mut got);
        plain::decode(dtype, &bytes, &mut expected);
        let bits = |x: &[f32]| x.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert!(bits(&got) == bits(&expected), "{dtype}");
    }
}
