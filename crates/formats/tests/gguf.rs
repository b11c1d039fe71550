//! Round trips through our writer, and a file made by the reference library.

use codec::{BlockFormat, Dtype, Encoding};
use formats::gguf::{Array, Gguf, GgufType, Metadata, Problem, TensorSpec, Value, Writer};
use proptest::prelude::*;
use std::fs;
use std::path::{Path, PathBuf};

const Q8_0: Encoding = Encoding::Block(BlockFormat::Q8_0);
const F32: Encoding = Encoding::Plain(Dtype::F32);

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/formats/tiny.gguf")
}

fn spec(name: &str, encoding: Encoding, shape: &[usize]) -> TensorSpec {
    TensorSpec { name: name.into(), encoding, shape: shape.into() }
}

#[test]
fn reads_the_reference_librarys_file() {
    let file = Gguf::open(&golden()).unwrap();
    let keys = file.metadata();
    assert_eq!(keys.need::<&str>("general.architecture").unwrap(), "llama");
    assert_eq!(keys.get("k.i8"), Some(&Value::I8(-100)));
    assert_eq!(keys.get("k.u64"), Some(&Value::U64(1 << 63)));
    assert_eq!(keys.get("k.f64"), Some(&Value::F64(0.1)));
    assert_eq!(keys.need::<usize>("k.u16").unwrap(), 60000);
    assert_eq!(keys.need::<&str>("k.str").unwrap(), "grüße");
    assert_eq!(keys.need::<&[String]>("k.strings").unwrap(), ["a", "", "ß"]);
    assert_eq!(keys.need::<&[f32]>("k.floats").unwrap(), [0.5, -1.5]);
    assert_eq!(keys.get("k.bools"), Some(&Value::Array(Array::Bool(vec![true, false]))));
    assert!(matches!(keys.need::<u32>("k.i32"), Err(Problem::KeyType { .. })), "negative");
    assert!(matches!(keys.need::<u32>("absent"), Err(Problem::MissingKey { .. })));
    let q8 = file.get("q8_0").unwrap();
    assert_eq!((q8.encoding().unwrap(), q8.shape.as_slice(), q8.elements()), (Q8_0, [2, 32].as_slice(), 64));
    assert_eq!(file.bytes("q8_0").unwrap(), (0..68).collect::<Vec<u8>>());
    assert_eq!(file.get("f32").unwrap().shape, [2, 3]);
}

/// The reference library's file, written again by us, has the same bytes.
#[test]
fn rewrites_the_reference_librarys_file() {
    let file = Gguf::open(&golden()).unwrap();
    let specs: Vec<_> = file.tensors().iter().map(|t| spec(&t.name, t.encoding().unwrap(), &t.shape)).collect();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("again.gguf");
    let mut writer = Writer::file(&path, file.metadata(), &specs).unwrap();
    for t in &specs {
        writer.write(&t.name, file.bytes(&t.name).unwrap()).unwrap();
    }
    writer.finish().unwrap();
    assert_eq!(fs::read(path).unwrap(), fs::read(golden()).unwrap());
}

#[test]
fn types_and_encodings_map_both_ways() {
    for format in BlockFormat::ALL {
        let ty = GgufType::of(Encoding::Block(format)).unwrap_or_else(|| panic!("{format} has no GGUF type"));
        assert_eq!(ty.encoding(), Some(Encoding::Block(format)));
        assert_eq!(ty.block(), Some((format.codec().block_len(), format.codec().block_bytes())), "{format}");
    }
    for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16, Dtype::F64, Dtype::I8, Dtype::I32, Dtype::I64] {
        let encoding = Encoding::Plain(dtype);
        assert_eq!(GgufType::of(encoding).unwrap().encoding(), Some(encoding));
    }
    assert_eq!(GgufType::of(Encoding::Plain(Dtype::Bool)), None);
    assert_eq!(GgufType(99).to_string(), "id 99");
}

/// A file with one tensor of an unknown type between two known ones.
#[test]
fn unknown_types_do_not_hide_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    write(&path, &Metadata::default(), &[spec("a", F32, &[8]), spec("odd", F32, &[8]), spec("z", F32, &[8])], u64::MAX);
    let mut bytes = fs::read(&path).unwrap();
    let name = bytes.windows(3).position(|w| w == b"odd").unwrap();
    bytes[name + 3 + 4 + 8] = 99;
    fs::write(&path, bytes).unwrap();
    let file = Gguf::open(&path).unwrap();
    assert_eq!(file.tensors().len(), 3);
    assert_eq!(file.bytes("z").unwrap(), pattern(32));
    let error = file.get("odd").unwrap().encoding().unwrap_err();
    assert!(error.to_string().contains("`odd` has type id 99"), "{error}");
}

fn pattern(n: usize) -> Vec<u8> {
    (0..n).map(|i| (i * 5) as u8).collect()
}

fn len(t: &TensorSpec) -> usize {
    let (elements, bytes) = GgufType::of(t.encoding).unwrap().block().unwrap();
    t.shape.iter().product::<usize>() / elements * bytes
}

fn write(path: &Path, keys: &Metadata, tensors: &[TensorSpec], max: u64) {
    let mut writer = match max {
        u64::MAX => Writer::file(path, keys, tensors).unwrap(),
        _ => Writer::split(path, keys, tensors, max).unwrap(),
    };
    for t in tensors {
        // Large ones in pieces.
        match pattern(len(t)) {
            bytes if bytes.len() < 100 => writer.write(&t.name, &bytes).unwrap(),
            bytes => bytes.chunks(99).for_each(|piece| writer.append(&t.name, piece).unwrap()),
        }
    }
    writer.finish().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Whatever is written, in whatever files and alignment, is read back.
    #[test]
    fn round_trip(
        tensors in prop::collection::vec((any::<bool>(), prop::collection::vec(0..4usize, 1..4)), 1..9),
        max in 1..600u64,
        alignment in 0..10u32,
    ) {
        let tensors: Vec<_> = tensors.into_iter().enumerate().map(|(i, (block, mut shape))| {
            *shape.last_mut().unwrap() *= if block { 32 } else { 1 };
            spec(&format!("t{i}"), if block { Q8_0 } else { F32 }, &shape)
        }).collect();
        let mut keys = Metadata::default();
        keys.set("general.architecture", "x");
        keys.set("general.alignment", 1u32 << alignment);
        keys.set("nested", Value::Array(Array::Array(vec![Array::U8(vec![1]), Array::String(vec!["s".into()])])));
        let dir = tempfile::tempdir().unwrap();
        write(&dir.path().join("m.gguf"), &keys, &tensors, max);
        let first = fs::read_dir(&dir).unwrap().next().unwrap().unwrap().path();
        let read = Gguf::open(&first).unwrap();
        prop_assert_eq!(read.tensors().len(), tensors.len());
        prop_assert_eq!(read.metadata().get("nested"), keys.get("nested"));
        for t in &tensors {
            let info = read.get(&t.name).unwrap();
            prop_assert_eq!((info.encoding().unwrap(), &info.shape), (t.encoding, &t.shape));
            prop_assert_eq!(read.bytes(&t.name).unwrap(), pattern(len(t)));
        }
    }
}

#[test]
fn split_files_belong_together() {
    let dir = tempfile::tempdir().unwrap();
    let tensors = [spec("a", F32, &[8]), spec("b", F32, &[8]), spec("c", F32, &[8])];
    write(&dir.path().join("m.gguf"), &Metadata::default(), &tensors, 64);
    let name = |i| dir.path().join(format!("m-0000{i}-of-00002.gguf"));
    let second = Gguf::open(&name(2)).unwrap();
    assert_eq!((second.files().len(), second.tensors().len()), (2, 3));
    assert_eq!(second.file(second.get("c").unwrap()), name(2));
    let moved = dir.path().join("other.gguf");
    fs::rename(name(2), &moved).unwrap();
    assert!(matches!(Gguf::open(&name(1)).unwrap_err().problem, Problem::PartMissing { part: 2, .. }));
    assert!(matches!(Gguf::open(&moved).unwrap_err().problem, Problem::SplitName));
    fs::copy(name(1), name(2)).unwrap();
    assert!(matches!(Gguf::open(&name(1)).unwrap_err().problem, Problem::PartOrder { .. }));
}

#[test]
fn writer_refuses_what_ggml_would() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    let refuse = |t: TensorSpec, what: &str| {
        let e = Writer::file(&path, &Metadata::default(), &[t]).unwrap_err().to_string();
        assert!(e.contains(what), "{e}");
    };
    refuse(spec("w", Q8_0, &[2, 33]), "multiples of 32");
    refuse(spec("w", Encoding::Plain(Dtype::Bool), &[2]), "cannot be stored as");
    refuse(spec(&"w".repeat(64), F32, &[2]), "63 bytes");
    refuse(spec("w", F32, &[1; 5]), "four dimensions");
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0, "nothing is left behind");
}
