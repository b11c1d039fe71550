//! Files that llama-imatrix made, read and written again; damaged ones.

use formats::imatrix::{Imatrix, Layout, Problem};
use std::fs;
use std::path::{Path, PathBuf};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/imatrix").join(name)
}

fn open(name: &str) -> Imatrix {
    Imatrix::open(&golden(name)).unwrap()
}

#[test]
fn writes_the_bytes_of_llama_imatrix_in_both_layouts() {
    let dir = tempfile::tempdir().unwrap();
    for model in ["dense", "experts"] {
        let read = open(&format!("{model}.gguf"));
        for (layout, form) in [(Layout::Gguf, "gguf"), (Layout::Legacy, "dat")] {
            let name = format!("{model}.{form}");
            let path = dir.path().join(&name);
            read.write(&path, layout).unwrap();
            assert!(fs::read(path).unwrap() == fs::read(golden(&name)).unwrap(), "{name}");
        }
    }
}

#[test]
fn both_layouts_say_the_same_but_for_experts_that_saw_nothing() {
    for model in ["dense", "experts"] {
        let (new, old) = (open(&format!("{model}.gguf")), open(&format!("{model}.dat")));
        assert_eq!((&new.datasets, new.chunks), (&vec!["text.txt".to_owned()], old.chunks));
        assert_eq!(new.datasets, old.datasets);
        assert!(new.entries.keys().eq(old.entries.keys()));
        for (name, entry) in &new.entries {
            let close = |(a, b): (f32, f32)| (a - b).abs() <= 1e-6 * a.abs();
            assert!(entry.means().into_iter().zip(old.entries[name].means()).all(close), "{name}");
        }
    }
    let experts = &open("experts.gguf").entries["blk.0.ffn_gate_exps.weight"];
    assert_eq!((experts.counts.len(), experts.counts.iter().sum::<u64>()), (16, 32), "two experts for each token");
    let unseen = experts.counts.iter().position(|n| *n == 0).unwrap();
    assert_eq!(experts.means()[unseen * 32..][..32], [1.0; 32]);
}

/// What is wrong with bytes that were damaged.
fn problem(bytes: &[u8]) -> Option<Problem> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), bytes).unwrap();
    Imatrix::open(file.path()).err().map(|e| e.problem)
}

#[test]
fn damage_is_an_error_and_never_a_panic() {
    for name in ["dense.gguf", "dense.dat", "experts.gguf", "experts.dat"] {
        let whole = fs::read(golden(name)).unwrap();
        for cut in (0..whole.len()).step_by(whole.len() / 41 + 1) {
            let at_tail = name.ends_with(".dat") && cut + 16 > whole.len();
            assert!(at_tail || problem(&whole[..cut]).is_some(), "{name} cut at {cut}");
        }
        for at in (0..whole.len()).step_by(61) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x91;
            problem(&bytes);
        }
    }
    assert!(matches!(problem(b""), Some(Problem::Truncated { .. })));
    let text = b"plain text, not an imatrix at all";
    assert!(matches!(problem(text), Some(Problem::Legacy { what: "entries", .. })));
    let model = fs::read(golden("../formats/tiny.gguf")).unwrap();
    assert!(matches!(problem(&model), Some(Problem::OtherKind)));
}

#[test]
fn numbers_that_cannot_be_are_named() {
    let dir = tempfile::tempdir().unwrap();
    for (i, value) in [f32::NAN, -1.0, f32::INFINITY].into_iter().enumerate() {
        let mut imatrix = open("dense.gguf");
        imatrix.entries.get_mut("blk.1.ffn_up.weight").unwrap().sums[7] = value;
        let refused = imatrix.write(&dir.path().join("x.gguf"), Layout::Gguf).unwrap_err().to_string();
        assert!(refused.contains("`blk.1.ffn_up.weight`, column 7"), "{refused}");
        let sum = open("dense.gguf").entries["blk.1.ffn_up.weight"].sums[7].to_le_bytes();
        let mut bytes = fs::read(golden("dense.gguf")).unwrap();
        let at = bytes.windows(4).rposition(|w| w == sum).unwrap();
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        assert!(matches!(problem(&bytes), Some(Problem::Number { column: 7, .. })), "{i}");
    }
}
