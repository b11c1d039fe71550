//! Round trips through our writer, and a file made by the reference library.

use codec::Dtype;
use formats::safetensors::{INDEX, Problem, SINGLE, Safetensors, TensorSpec, Writer};
use proptest::prelude::*;
use std::fs;
use std::path::Path;

fn spec(name: &str, dtype: Dtype, shape: &[usize]) -> TensorSpec {
    TensorSpec { name: name.into(), dtype, shape: shape.into() }
}

#[test]
fn reads_the_reference_librarys_file() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/formats/tiny.safetensors");
    let file = Safetensors::open(&path).unwrap();
    let shape = |name| {
        let t = file.get(name).unwrap();
        (t.dtype, t.shape.clone(), t.elements())
    };
    assert_eq!(file.tensors().len(), 6);
    assert_eq!(shape("f32"), (Dtype::F32, vec![2, 3], 6));
    assert_eq!(shape("f8"), (Dtype::F8E4M3, vec![1, 2], 2));
    assert_eq!(shape("scalar"), (Dtype::I64, vec![], 1));
    assert_eq!(shape("empty"), (Dtype::F16, vec![0, 4], 0));
    assert_eq!(file.bytes("scalar").unwrap(), (-7i64).to_le_bytes());
    assert_eq!(file.bytes("bool").unwrap(), [1, 0, 1]);
    assert_eq!(file.bytes("bf16").unwrap(), [0x80, 0x3f, 0, 0xc0, 0, 0x3f, 0x40, 0x40]);
    assert_eq!(file.metadata()["format"], "pt");
    assert!(file.bytes("absent").is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Whatever is written, in whatever shards, is read back.
    #[test]
    fn round_trip(shapes in prop::collection::vec((0..15usize, prop::collection::vec(0..5usize, 0..4)), 1..9), max in 1..200u64) {
        use Dtype::*;
        let dtypes = [F64, F32, F16, BF16, F8E4M3, F8E5M2, I8, U8, I16, U16, I32, U32, I64, U64, Bool];
        let tensors: Vec<_> =
            shapes.iter().enumerate().map(|(i, (d, shape))| spec(&format!("t{i}"), dtypes[*d], shape)).collect();
        let bytes = |t: &TensorSpec| {
            let n = t.shape.iter().product::<usize>() * t.dtype.bytes();
            (0..n).map(|i| (i * 7 + t.name.len()) as u8).collect::<Vec<_>>()
        };
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Writer::folder(dir.path(), &tensors, max).unwrap();
        for t in tensors.iter().rev() {
            writer.write(&t.name, &bytes(t)).unwrap();
        }
        writer.finish().unwrap();
        let read = Safetensors::open(dir.path()).unwrap();
        prop_assert_eq!(read.tensors().len(), tensors.len());
        for t in &tensors {
            let info = read.get(&t.name).unwrap();
            prop_assert_eq!((info.dtype, &info.shape), (t.dtype, &t.shape));
            prop_assert_eq!(info.range.start % t.dtype.bytes(), 0, "aligned");
            prop_assert_eq!(read.bytes(&t.name).unwrap(), bytes(t));
        }
    }
}

/// Two shards that hold `a` and `b`.
fn sharded() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let tensors = [spec("a", Dtype::U8, &[8]), spec("b", Dtype::U8, &[8])];
    let mut writer = Writer::folder(dir.path(), &tensors, 8).unwrap();
    writer.write("a", &[1; 8]).unwrap();
    writer.write("b", &[2; 8]).unwrap();
    writer.finish().unwrap();
    dir
}

#[test]
fn shards_are_named_as_the_field_does() {
    let dir = sharded();
    let mut names: Vec<_> =
        fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", INDEX]);
    let index: serde_json::Value = serde_json::from_slice(&fs::read(dir.path().join(INDEX)).unwrap()).unwrap();
    assert_eq!(index["metadata"]["total_size"], 16);
    assert_eq!(index["weight_map"]["b"], "model-00002-of-00002.safetensors");
}

fn problem(path: &Path) -> Problem {
    Safetensors::open(path).unwrap_err().problem
}

#[test]
fn missing_shard_is_named() {
    let dir = sharded();
    fs::remove_file(dir.path().join("model-00002-of-00002.safetensors")).unwrap();
    assert!(matches!(problem(dir.path()), Problem::ShardMissing { shard } if shard.contains("00002-of")));
    fs::remove_file(dir.path().join(INDEX)).unwrap();
    assert!(matches!(problem(dir.path()), Problem::NoModel));
}

#[test]
fn index_must_agree_with_its_shards() {
    let dir = sharded();
    let change = |from: &str, to: &str| {
        let text = fs::read_to_string(dir.path().join(INDEX)).unwrap();
        fs::write(dir.path().join(INDEX), text.replace(from, to)).unwrap();
        problem(dir.path())
    };
    let shard = "model-00002-of-00002.safetensors";
    assert!(matches!(change("\"b\"", "\"c\""), Problem::NotInShard { tensor, .. } if tensor == "c"));
    for evil in ["../x", "/etc/passwd", "..", "", "a/../x", "sub/x", "C:x", "a\\\\b", "./x", "x/"] {
        let found = change(shard, evil);
        assert!(matches!(&found, Problem::ShardPath { tensor, .. } if tensor == "c"), "{evil}: {found:?}");
        change(&format!(": \"{evil}\""), &format!(": \"{shard}\""));
    }
}

#[test]
fn tensor_in_two_shards_is_refused() {
    let dir = sharded();
    fs::copy(dir.path().join("model-00001-of-00002.safetensors"), dir.path().join("model-00002-of-00002.safetensors"))
        .unwrap();
    assert!(matches!(problem(dir.path()), Problem::Duplicate { tensor } if tensor == "a"));
}

#[test]
fn writer_holds_the_caller_to_its_word() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(SINGLE);
    let tensors = [spec("a", Dtype::F32, &[2])];
    let start = || Writer::file(&path, &tensors).unwrap();
    let says = |e: formats::atomic::WriteError, what: &str| assert!(e.to_string().contains(what), "{e}");
    says(start().write("b", &[]).unwrap_err(), "`b` was not announced");
    says(start().write("a", &[0; 4]).unwrap_err(), "`a` has 4 bytes, 8 were announced");
    says(start().finish().unwrap_err(), "`a` was never written");
    let mut writer = start();
    writer.write("a", &[0; 8]).unwrap();
    says(writer.write("a", &[0; 8]).unwrap_err(), "written twice");
    says(writer.append("a", &[0]).unwrap_err(), "`a` has 9 bytes, 8 were announced");
    drop(writer);
    let mut half = start();
    half.append("a", &[0; 4]).unwrap();
    says(half.finish().unwrap_err(), "`a` has 4 bytes, 8 were announced");
    let twice = [tensors[0].clone(), tensors[0].clone()];
    says(Writer::file(&path, &twice).unwrap_err(), "announced twice");
    let huge = [spec("h", Dtype::F32, &[usize::MAX, 2])];
    says(Writer::file(&path, &huge).unwrap_err(), "`h` is larger");
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0, "nothing is left behind");
}
