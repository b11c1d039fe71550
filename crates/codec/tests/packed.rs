//! The packed encodings against the compressed-tensors package, and what must hold of them for any matrix.

use codec::packed::{Bits, Granularity, Levels, Packed, Range, ScaleType};
use codec::{CodecError, Dtype, Encoding, Matrix, Part, block};
use proptest::prelude::*;
use safetensors::SafeTensors;
use std::collections::BTreeMap;

const GOLDEN: &[u8] = include_bytes!("../../../golden/compressed-tensors/packed.safetensors");

fn encoding(name: &str) -> Encoding {
    name.parse().unwrap()
}

fn packed(name: &str) -> Packed {
    match encoding(name) {
        Encoding::Packed(packed) => packed,
        other => panic!("{other} is not packed"),
    }
}

fn lookup<'a>(parts: &'a [Part]) -> impl Fn(&str) -> Option<&'a [u8]> {
    move |suffix| parts.iter().find(|p| p.spec.suffix == suffix).map(|p| p.bytes.as_slice())
}

fn decode(encoding: Encoding, m: Matrix<'_>, parts: &[Part]) -> Result<Vec<f32>, CodecError> {
    encoding.validate(m.rows, m.cols, lookup(parts))?;
    encoding.decode(m.rows, m.cols, lookup(parts))
}

fn floats(dtype: safetensors::Dtype, bytes: &[u8]) -> Vec<f32> {
    let dtype = match dtype {
        safetensors::Dtype::F32 => Dtype::F32,
        safetensors::Dtype::F16 => Dtype::F16,
        safetensors::Dtype::BF16 => Dtype::BF16,
        other => panic!("input of type {other:?}"),
    };
    let mut x = vec![0.0; bytes.len() / dtype.bytes()];
    block::plain::decode(dtype, bytes, &mut x);
    x
}

#[test]
fn parts_equal_those_of_the_package() {
    let file = SafeTensors::deserialize(GOLDEN).unwrap();
    let mut cases: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    let names = file.names();
    for name in names.iter().filter(|n| !n.starts_with("input/")) {
        let mut words = name.splitn(3, '/');
        let (encoding, input, part) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
        cases.entry((encoding, input)).or_default().push(part);
    }
    assert!(cases.len() > 40);
    for ((name, input), mut theirs) in cases {
        let source = file.tensor(&format!("input/{input}")).unwrap();
        let (rows, cols) = (source.shape()[0], source.shape()[1]);
        let data = floats(source.dtype(), source.data());
        let m = Matrix { rows, cols, data: &data };
        let parts = encoding(name).encode(m, None).unwrap();
        for part in &parts {
            let golden = file.tensor(&format!("{name}/{input}/{}", part.spec.suffix)).unwrap();
            assert_eq!(part.spec.dtype.name(), golden.dtype().to_string(), "{name} {input} {}", part.spec.suffix);
            assert_eq!(part.spec.shape, golden.shape(), "{name} {input} {}", part.spec.suffix);
            let at = part.bytes.iter().zip(golden.data()).position(|(a, b)| a != b);
            assert_eq!(at, None, "{name} {input} {}: first differing byte", part.spec.suffix);
        }
        let mut ours: Vec<&str> = parts.iter().map(|p| p.spec.suffix).collect();
        ours.sort_unstable();
        theirs.sort_unstable();
        assert_eq!(ours, theirs, "{name} {input}: parts");
        decode(encoding(name), m, &parts).unwrap_or_else(|e| panic!("{name} {input}: {e}"));
    }
}

#[test]
fn names_round_trip() {
    for name in ["int4-g128", "int3-g32-asym", "int8-channel", "int8-channel-bytes", "int2-tensor-asym-f32"] {
        assert_eq!(encoding(name).to_string(), name);
    }
    for name in ["fp8-channel", "fp8-block", "fp8-tensor-f16", "mxfp4-g32", "nvfp4-g16", "bf16", "f32", "q8_0"] {
        assert_eq!(encoding(name).to_string(), name);
    }
    for name in ["int9-g32", "int1-g32", "int4", "int4-g0", "int4-g", "fp8-channel-asym", "int4-channel-bytes", "", "-"]
    {
        assert_eq!(name.parse::<Encoding>(), Err(CodecError::Unknown { name: name.to_owned() }));
    }
    let int4 = packed("int4-g128");
    assert_eq!(int4.following(Dtype::F16).to_string(), "int4-g128-f16");
    assert_eq!(int4.following(Dtype::BF16), int4);
}

#[test]
fn refuses_what_it_cannot_hold() {
    let encode = |name: &str, cols, data: &[f32]| {
        encoding(name).encode(Matrix { rows: data.len() / cols, cols, data }, None).map(|_| ())
    };
    let error = encode("int4-g128", 100, &[0.0; 200]).unwrap_err();
    assert_eq!(error, CodecError::Group { encoding: "int4-g128".into(), group: 128, cols: 100 });
    assert!(error.to_string().contains("one scale per channel"), "{error}");
    for name in ["int4-channel", "int4-channel-asym", "fp8-tensor", "mxfp4-g32", "nvfp4-g16"] {
        for bad in [f32::NAN, f32::INFINITY] {
            let mut data = [1.0; 64];
            data[40] = bad;
            let error = encode(name, 32, &data).unwrap_err();
            assert!(matches!(error, CodecError::NotFinite { index: 8, .. }), "{name}: {error}");
        }
    }
    let error = encode("int4-channel-f16", 2, &[1.0, 1e9]).unwrap_err();
    assert!(matches!(error, CodecError::NotFinite { value: 1e9, .. }), "{error}");
    assert!(encode("int4-channel", 2, &[1.0, 3e38]).is_ok());
}

#[test]
fn fused_weights_share_the_global_scale() {
    let (q, k) = (vec![0.5f32; 32], vec![2.0f32; 32]);
    let matrix = |data| Matrix { rows: 2, cols: 16, data };
    let range = Range::of(&q).union(Range::of(&k));
    let nvfp4 = packed("nvfp4-g16");
    assert!(nvfp4.shares_range());
    let part = |m, whole| nvfp4.encode(m, whole).unwrap().pop().unwrap().bytes;
    assert_eq!(part(matrix(&q), Some(range)), part(matrix(&k), Some(range)));
    assert_eq!(part(matrix(&q), Some(range)), (2688.0f32 / 2.0).to_le_bytes());
    assert_ne!(part(matrix(&q), None), part(matrix(&k), None));
}

#[test]
fn validation_finds_broken_scales_and_codes() {
    let data: Vec<f32> = (0..64).map(|i| i as f32).collect();
    let m = Matrix { rows: 2, cols: 32, data: &data };
    let broken = |name: &str, suffix: &str, at: usize, bytes: &[u8]| {
        let mut parts = encoding(name).encode(m, None).unwrap();
        let part = parts.iter_mut().find(|p| p.spec.suffix == suffix).unwrap();
        part.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        decode(encoding(name), m, &parts).unwrap_err().to_string()
    };
    let negative = (-1f32).to_le_bytes();
    assert!(broken("int4-g32-f32", "weight_scale", 4, &f32::NAN.to_le_bytes()).contains("block 1: the scale"));
    assert!(broken("int4-g32-f32", "weight_scale", 0, &[0; 4]).contains("block 0: the scale"));
    assert!(broken("fp8-channel-f32", "weight_scale", 0, &negative).contains("the scale"));
    assert!(broken("fp8-channel", "weight", 33, &[0xff]).contains("block 1: a weight is NaN"));
    assert!(broken("mxfp4-g32", "weight_scale", 1, &[255]).contains("block 1"));
    assert!(broken("nvfp4-g16", "weight_global_scale", 0, &negative).contains("global scale"));
    assert!(broken("int4-g32", "weight_shape", 0, &[9]).contains("contradicts"));
}

/// Any packed encoding.
fn any_packed() -> impl Strategy<Value = Packed> {
    let per = prop_oneof![
        Just(Granularity::Tensor),
        Just(Granularity::Channel),
        Just(Granularity::Block),
        (0..3u32).prop_map(|i| Granularity::group(8 << i).unwrap()),
    ];
    let scale = prop_oneof![Just(ScaleType::F32), Just(ScaleType::F16), Just(ScaleType::BF16)];
    (0..5, per, scale, 2..=8u8, any::<bool>()).prop_map(|(kind, per, scale, bits, symmetric)| match kind {
        0 => Packed::Int8 { per, scale },
        1 => Packed::Fp8 { per, scale },
        2 => Packed::Mxfp4,
        3 => Packed::Nvfp4,
        _ => Packed::Int { bits: Bits::new(bits).unwrap(), symmetric, per, scale },
    })
}

/// Rows, columns (a multiple of 32) and numbers of one magnitude.
fn any_matrix() -> impl Strategy<Value = (usize, usize, Vec<f32>)> {
    (1..140usize, 1..4usize, -4..3i32).prop_flat_map(|(rows, groups, magnitude)| {
        let number = (-1f32..1.0).prop_map(move |v| v * 10f32.powi(magnitude));
        (Just(rows), Just(groups * 32), prop::collection::vec(number, rows * groups * 32))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Decoding gives the value of the nearest code, which for integers is half a step away at most (and as much again
    /// where the last step of the levels was rounded away with the scale or the zero point).
    #[test]
    fn the_error_is_at_most_half_a_step(packed in any_packed(), (rows, cols, data) in any_matrix()) {
        let m = Matrix { rows, cols, data: &data };
        let parts = Encoding::Packed(packed).encode(m, None).unwrap();
        let back = decode(Encoding::Packed(packed), m, &parts).unwrap();
        let grid = packed.fit(m, None).unwrap();
        for (i, (x, y)) in data.iter().zip(&back).enumerate() {
            let (row, col) = (i / cols, i % cols);
            let code = grid.nearest(row, col, *x);
            prop_assert_eq!(*y, grid.value(row, col, code));
            let (step, zero) = grid.step(row, col);
            let inside = (x / step + zero).clamp(packed.levels().min(), packed.levels().max());
            let half = match packed.levels() {
                Levels::Integer(_) => 0.5,
                Levels::E4m3 => (inside.abs() / 16.0).max(2f32.powi(-10)),
                Levels::E2m1 => (inside.abs() / 4.0).max(0.25),
            };
            let bound = (half + (inside - x / step - zero).abs()) * step * 1.0001;
            prop_assert!((x - y).abs() <= bound, "{} at {}: {} → {}, step {}", packed, i, x, y, step);
        }
    }

    /// Row ranges encoded apart and joined are the whole; codes chosen by the caller pack like those chosen here.
    #[test]
    fn row_ranges_join_and_codes_pack(packed in any_packed(), (rows, cols, data) in any_matrix(), at in 0..4usize) {
        let m = Matrix { rows, cols, data: &data };
        let whole = packed.encode(m, None).unwrap();
        let cut = (at * packed.row_multiple()).min(rows);
        let range = Some(Range::of(&data));
        let (top, rest) = data.split_at(cut * cols);
        let chunk = |rows, data| packed.encode(Matrix { rows, cols, data }, range).unwrap();
        let chunks = [chunk(cut, top), chunk(rows - cut, rest)];
        let shares = packed.granularity() == Granularity::Tensor || packed.shares_range();
        prop_assert_eq!(&packed.join(rows, cols, &chunks).unwrap(), &whole);
        if !shares {
            let alone = [(cut, top), (rows - cut, rest)].map(|(rows, data)| {
                packed.encode(Matrix { rows, cols, data }, None).unwrap()
            });
            prop_assert_eq!(&packed.join(rows, cols, &alone).unwrap(), &whole);
        }
        let grid = packed.fit(m, None).unwrap();
        let codes: Vec<u8> = data.iter().enumerate().map(|(i, x)| grid.nearest(i / cols, i % cols, *x)).collect();
        prop_assert_eq!(packed.pack(rows, cols, &grid, &codes).unwrap(), whole);
    }

    /// Bytes of the right length decode to something; of any other length they are refused.
    #[test]
    fn hostile_bytes_never_panic(packed in any_packed(), rows in 0..70usize, cols in 0..70usize, seed: u8, cut in 0..9usize) {
        let encoding = Encoding::Packed(packed);
        let Ok(specs) = encoding.parts(rows, cols) else { return Ok(()) };
        let mut state = u32::from(seed);
        let mut byte = || { state = state.wrapping_mul(1664525).wrapping_add(1013904223); (state >> 24) as u8 };
        let fill = |spec: codec::PartSpec| {
            let mut bytes: Vec<u8> = (0..spec.bytes()).map(|_| byte()).collect();
            if spec.suffix == "weight_shape" && seed % 2 == 0 {
                bytes = [rows as i64, cols as i64].iter().flat_map(|n| n.to_le_bytes()).collect();
            }
            bytes.truncate(bytes.len().saturating_sub(cut));
            Part { spec, bytes }
        };
        let parts: Vec<Part> = specs.into_iter().map(fill).collect();
        let decoded = encoding.decode(rows, cols, lookup(&parts));
        let _ = encoding.validate(rows, cols, lookup(&parts));
        if parts.iter().any(|p| p.bytes.len() != p.spec.bytes()) {
            let refused = matches!(decoded, Err(CodecError::Length { .. }));
            prop_assert!(refused);
        }
        let absurd = encoding.decode(usize::MAX / 3, 1 << 40, lookup(&parts));
        prop_assert!(absurd.is_err());
    }
}
