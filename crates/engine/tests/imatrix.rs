//! Imatrix files against llama.cpp: what it gathers, we gather; what it makes of them, we make.

use engine::{Calibration, EngineError, ImportanceError, Options, Quiet, gather_imatrix, importance};
use formats::gguf::Gguf;
use formats::imatrix::Imatrix;
use import::Imported;
use plan::Recipe;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// stories260K, where it is at hand.
fn stories() -> Option<Imported> {
    Some(import::open(&testkit::data_dir()?.join("stories260K")).unwrap())
}

fn golden(name: &str) -> Imatrix {
    Imatrix::open(&testkit::golden_dir("imatrix").join(name)).unwrap()
}

/// Two chunks of 64 tokens, as llama-imatrix cuts them: the first of each gives way to BOS.
fn chunks(imported: &Imported) -> Calibration {
    let path = testkit::data_dir().unwrap().join("text/tinystories_calib.txt");
    let tokenizer = imported.tokenizer().unwrap();
    let ids = tokenizer.encode_with_special(&std::fs::read_to_string(path).unwrap()).unwrap();
    let window = |chunk: &[u32]| [&ids[..1], &chunk[1..]].concat();
    Calibration { name: "text.txt".into(), windows: ids.chunks_exact(64).take(2).map(window).collect(), chosen: None }
}

#[test]
fn gathers_what_llama_imatrix_gathers() {
    let Some(imported) = stories() else { return };
    let (ours, theirs) = (gather_imatrix(&imported, &chunks(&imported), &Quiet).unwrap(), golden("dense.gguf"));
    assert_eq!((ours.chunks, ours.chunk_size, &ours.datasets), (theirs.chunks, theirs.chunk_size, &theirs.datasets));
    assert!(ours.entries.keys().eq(theirs.entries.keys()));
    for (name, theirs) in &theirs.entries {
        let ours = &ours.entries[name];
        assert_eq!(ours.counts, theirs.counts, "{name}");
        let largest = theirs.sums.iter().fold(0f32, |m, v| m.max(*v));
        let (off, _) = testkit::max_abs_difference(&ours.sums, &theirs.sums);
        // llama.cpp keeps keys and values in 16 bits.
        assert!(off <= 2e-3 * largest, "{name}: {off} of {largest}");
    }
}

#[test]
fn writes_the_tensors_of_llama_quantize_with_an_imatrix() {
    let Some(imported) = stories() else { return };
    let imatrix = golden("dense.gguf");
    let options = Options { imatrix: Some(&imatrix), threads: Some(2), ..Options::default() };
    let recipe = Recipe::parse("preset = \"q3_k_m\"").unwrap();
    let home = tempfile::tempdir().unwrap();
    let out = home.path().join("out.gguf");
    let plan = engine::plan(&imported, &recipe, &options).unwrap();
    engine::compress(&imported, &plan, &out, &options, &Quiet).unwrap();
    let json = std::fs::read_to_string(testkit::golden_dir("imatrix").join("dense-q3_k_m.json")).unwrap();
    let theirs: BTreeMap<String, String> = serde_json::from_str(&json).unwrap();
    let ours = Gguf::open(&out).unwrap();
    assert_eq!(ours.tensors().len(), theirs.len());
    for (name, hash) in theirs {
        let bytes = ours.bytes(&name).unwrap();
        let ours: String = Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(ours, hash, "{name}");
    }
}

#[test]
fn an_imatrix_of_another_model_is_refused_and_what_lacks_is_said() {
    let Some(imported) = stories() else { return };
    let refused = |imatrix: &Imatrix| match importance(&imported, imatrix).unwrap_err() {
        EngineError::Importance(error) => error,
        error => panic!("{error}"),
    };
    let other = refused(&golden("experts.gguf"));
    assert!(matches!(&other, ImportanceError::OtherModel { names } if names[0].contains("exps")), "{other}");
    let mut imatrix = golden("dense.gguf");
    let entry = imatrix.entries.get_mut("blk.2.ffn_down.weight").unwrap();
    entry.sums.pop();
    let size = refused(&imatrix);
    assert!(matches!(&size, ImportanceError::Size { sums: 171, experts: 1, columns: 172, .. }), "{size}");
    imatrix.entries.remove("blk.2.ffn_down.weight");
    imatrix.entries.get_mut("blk.0.attn_q.weight").unwrap().counts = vec![0];
    let found = importance(&imported, &imatrix).unwrap();
    let notes: Vec<_> = found.notes.iter().map(|n| (n.weight.as_deref().unwrap(), n.what.as_str())).collect();
    assert!(notes[0].0 == "model.layers.0.self_attn.q_proj.weight" && notes[0].1.contains("no token"), "{notes:?}");
    assert!(notes[1].0 == "model.layers.2.mlp.down_proj.weight" && notes[1].1.contains("lacks"), "{notes:?}");
    let q = imported.model.weights.find(notes[0].0).unwrap();
    assert!(found.of[&q].iter().all(|v| *v == 1.0));
}
