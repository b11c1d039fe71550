//! Whole runs on a tiny model: what comes out, what is refused, and that damage is found.

mod common;

use common::{text, write_model};
use engine::{EngineError, Options, Outcome, Quiet, Text, compress, plan, verify};
use formats::atomic::WriteError;
use import::Imported;
use plan::{Bytes, Container, Plan, ProofSpec, Recipe};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A folder with a model in it, and the text to measure it on.
struct Home {
    folder: TempDir,
    text: Text,
}

impl Home {
    fn new() -> Home {
        let folder = tempfile::tempdir().unwrap();
        write_model(&folder.path().join("model"));
        Home { folder, text: Text { name: "days".into(), text: text() } }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn model(&self) -> Imported {
        import::open(&self.path("model")).unwrap()
    }

    fn options(&self) -> Options<'_> {
        Options { threads: Some(2), text: Some(&self.text), ..Options::default() }
    }

    fn run(&self, recipe: &str, out: &str, options: &Options<'_>) -> Result<Outcome, EngineError> {
        let model = self.model();
        let plan = plan(&model, &Recipe::parse(recipe).unwrap(), options)?;
        compress(&model, &plan, &self.path(out), options, &Quiet)
    }

    /// Everything there but the model.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| name != "model");
        names.sort();
        names
    }
}

fn bytes_of(path: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<PathBuf> = match path.is_dir() {
        true => fs::read_dir(path).unwrap().map(|e| e.unwrap().path()).collect(),
        false => vec![path.into()],
    };
    files.sort();
    files.into_iter().map(|f| (f.file_name().unwrap().into(), fs::read(f).unwrap())).collect()
}

/// A recipe for each container.
const RECIPES: [(&str, &str); 2] = [("preset = \"q4_0\"", "out.gguf"), ("preset = \"w4a16\"", "out")];

/// A trial of a block finds the errors that the whole run then has, writes nothing, and runs only as much text as it says.
#[test]
fn a_trial_finds_what_the_run_will() {
    let home = Home::new();
    let (model, options) = (home.model(), home.options());
    for (recipe, out) in RECIPES {
        let planned = plan(&model, &Recipe::parse(recipe).unwrap(), &options).unwrap();
        let tried = engine::smoke(&model, &planned, &options, &Quiet).unwrap();
        assert!(tried.weights.len() > 4 && home.names().iter().all(|name| name != out), "{tried:?}");
        let made = home.run(recipe, out, &options).unwrap().journal;
        for (name, error) in &tried.weights {
            let entry = made.tensors.iter().find(|t| t.name == *name).unwrap();
            assert!((error - entry.relative_error).abs() <= 1e-6 * error, "{name}: {error}, {entry:?}");
        }
    }
    let recipe = "preset = \"q4_0\"\nmethod = \"gptq\"\n[calibration]\ntext = [\"days\"]\nsamples = 6\nlength = 32";
    let recipe = Recipe::parse(recipe).unwrap();
    let calibration = engine::Calibration::of(&model, std::slice::from_ref(&home.text), &recipe.calibration).unwrap();
    let without = plan(&model, &recipe, &options).and_then(|planned| engine::smoke(&model, &planned, &options, &Quiet));
    assert!(matches!(without, Err(EngineError::NoCalibration { .. })), "{without:?}");
    let options = Options { calibration: Some(&calibration), ..options };
    let planned = plan(&model, &recipe, &options).unwrap();
    let tried = engine::smoke(&model, &planned, &options, &Quiet).unwrap();
    assert_eq!(tried.tokens, 64, "two windows");
    assert!(tried.weights.iter().all(|(_, error)| (0.001..0.3).contains(error)), "{tried:?}");
}

#[test]
fn a_run_leaves_a_proven_artifact_and_its_journal() {
    let home = Home::new();
    let before = bytes_of(&home.path("model"));
    for (recipe, out) in RECIPES {
        let outcome = home.run(&format!("{recipe}\n[proof]\nmin-top1 = 0.2"), out, &home.options()).unwrap();
        assert_eq!(outcome.files, [home.path(out)]);
        let journal = &outcome.journal;
        let (model, on_disk) = (home.model().model, bytes_of(&home.path(out)));
        assert_eq!(journal.tensors.len(), model.weights.len());
        let size: u64 = on_disk.iter().map(|(_, b)| b.len() as u64).sum();
        assert_eq!((journal.proof.bytes, journal.size.measured), (size, Some(size as f64)));
        let changed = journal.tensors.iter().find(|t| t.name.ends_with("q_proj.weight")).unwrap();
        assert!((0.02..0.2).contains(&changed.relative_error), "{changed:?}");
        let kept = journal.tensors.iter().find(|t| t.name == "model.norm.weight").unwrap();
        assert_eq!(kept.relative_error, 0.0);
        let quality = journal.proof.quality.as_ref().unwrap();
        assert!(quality.kld.mean.value > 0.0 && quality.kld.mean.value < 0.5, "{quality:?}");
        assert!(quality.top1.value >= 0.2 && quality.conditions.scored > 1000);
        assert_eq!(journal.provenance.source.len(), 4, "{:?}", journal.provenance.source);
        assert_eq!(Recipe::parse(&journal.provenance.recipe).unwrap().proof.min_top1, Some(0.2));

        let again = verify(&home.path(out), Some(&home.model()), &ProofSpec::default(), &home.options(), &Quiet);
        let again = again.unwrap();
        assert_eq!((again.tensors, again.proof.quality), (journal.tensors.clone(), journal.proof.quality.clone()));
        let alone = verify(&home.path(out), None, &ProofSpec::default(), &home.options(), &Quiet).unwrap();
        assert_eq!(alone.proof.bytes, size);
    }
    assert_eq!(home.names(), ["out", "out.gguf"]);
    assert_eq!(bytes_of(&home.path("model")), before);
}

#[test]
fn plain_numbers_lose_nothing() {
    let home = Home::new();
    for (recipe, out) in [("preset = \"bf16\"", "out.gguf"), ("preset = \"f32\"", "f32.gguf")] {
        let journal = home.run(recipe, out, &home.options()).unwrap().journal;
        assert!(journal.tensors.iter().all(|t| t.relative_error == 0.0), "{recipe}");
        let quality = journal.proof.quality.unwrap();
        assert_eq!((quality.kld.max, quality.top1.value, quality.ppl_increase.value), (0.0, 1.0, 0.0), "{recipe}");
    }
}

#[test]
fn the_same_run_gives_the_same_bytes_and_figures_at_any_number_of_threads() {
    let home = Home::new();
    for (recipe, out) in RECIPES {
        let run = |threads: usize| {
            let out = format!("{threads}{out}");
            let options = Options { threads: Some(threads), ..home.options() };
            let mut quality = home.run(recipe, &out, &options).unwrap().journal.proof.quality.unwrap();
            quality.conditions.threads = 0;
            let files = bytes_of(&home.path(&out)).into_iter().map(|(_, bytes)| bytes).collect::<Vec<_>>();
            (files, quality)
        };
        let one = run(1);
        assert!(run(2) == one && run(4) == one, "{recipe}");
    }
}

#[test]
fn missed_bounds_fail_the_run_and_keep_the_artifact_aside() {
    let home = Home::new();
    for (recipe, out) in RECIPES {
        let error = home.run(&format!("{recipe}\n[proof]\nmax-kld = 1e-9\nmin-top1 = 0.1"), out, &home.options());
        let Err(EngineError::Gates { rejected, violations, journal, .. }) = error else { panic!("{error:?}") };
        assert_eq!(violations.iter().map(|v| &*v.bound).collect::<Vec<_>>(), ["max-kld"]);
        assert!(violations[0].measured > 1e-9 && journal.proof.quality.is_some());
        assert!(!home.path(out).exists());
        verify(&rejected.join(out), None, &ProofSpec::default(), &home.options(), &Quiet).unwrap();
    }
    assert_eq!(home.names(), ["out.gguf.rejected", "out.rejected"]);
    let blind = Options { text: None, ..home.options() };
    let error = home.run("preset = \"q8_0\"\n[proof]\nmax-kld = 1.0", "x.gguf", &blind).unwrap_err();
    assert!(matches!(error, EngineError::CannotGate { .. }), "{error}");
}

#[test]
fn what_should_not_be_written_is_not() {
    let home = Home::new();
    let fails = |out: &str, options: &Options<'_>| home.run("preset = \"q8_0\"", out, options).unwrap_err();
    fs::write(home.path("taken.gguf"), "mine").unwrap();
    assert!(matches!(fails("taken.gguf", &home.options()), EngineError::Write(WriteError::Exists { .. })));
    assert!(matches!(fails("model", &home.options()), EngineError::OutputIsSource { .. }));
    assert!(matches!(fails("model/out.gguf", &home.options()), EngineError::OutputIsSource { .. }));
    assert!(matches!(fails("no/out.gguf", &home.options()), EngineError::Write(WriteError::NoParent { .. })));
    let little = Options { max_memory: Some(Bytes(1 << 20)), ..home.options() };
    let error = fails("out.gguf", &little);
    assert!(matches!(error, EngineError::Memory { limit: Bytes(0x10_0000), .. }), "{error}");
    assert_eq!(home.names(), ["taken.gguf"]);
    assert_eq!(fs::read_to_string(home.path("taken.gguf")).unwrap(), "mine");
    let replace = Options { replace: true, ..home.options() };
    home.run("preset = \"q8_0\"", "taken.gguf", &replace).unwrap();
    assert!(fs::metadata(home.path("taken.gguf")).unwrap().len() > 10_000);
}

#[test]
fn a_plan_is_carried_out_as_edited_and_only_for_its_model() {
    let home = Home::new();
    let (model, options) = (home.model(), home.options());
    let plan =
        plan(&model, &Recipe::parse("target = \"9bpw\"\n[output]\nformat = \"gguf\"").unwrap(), &options).unwrap();
    assert_eq!(plan.container, Container::Gguf);
    let mut edited = Plan::load(&plan.to_toml()).unwrap();
    let changed = edited.tensors.iter_mut().find(|t| t.name.ends_with("1.mlp.up_proj.weight")).unwrap();
    changed.to = plan::encoding("q4_1").unwrap();
    let edited = engine::revise(&model, edited, &options).unwrap();
    let journal = compress(&model, &edited, &home.path("out.gguf"), &options, &Quiet).unwrap().journal;
    let entry = journal.tensors.iter().find(|t| t.name.ends_with("1.mlp.up_proj.weight")).unwrap();
    assert_eq!(plan::encoding_name(&entry.encoding), "q4_1");

    let mut other = edited.clone();
    other.tensors[0].shape[0] += 1;
    let error = compress(&model, &other, &home.path("x.gguf"), &options, &Quiet).unwrap_err();
    assert!(matches!(error, EngineError::Plan(plan::PlanError::OtherModel { .. })), "{error}");
}

#[test]
fn damage_is_found() {
    let home = Home::new();
    let check = |name: &str| {
        let text = None;
        let options = Options { text, ..home.options() };
        verify(&home.path(name), Some(&home.model()), &ProofSpec::default(), &options, &Quiet).map(drop)
    };
    home.run("preset = \"q4_0\"", "out.gguf", &home.options()).unwrap();
    check("out.gguf").unwrap();
    // The last block of the file begins with its scale: make that a NaN.
    let whole = fs::read(home.path("out.gguf")).unwrap();
    let (name, data) = block_of(&home.path("out.gguf"));
    let mut damaged = whole.clone();
    damaged[data..data + 2].copy_from_slice(&0x7e00u16.to_le_bytes());
    fs::write(home.path("nan.gguf"), damaged).unwrap();
    let error = check("nan.gguf").unwrap_err();
    assert!(
        matches!(&error, EngineError::Contract { source: engine::ContractError::Invalid { .. }, .. }),
        "{name}: {error}"
    );
    fs::write(home.path("cut.gguf"), &whole[..whole.len() - 64]).unwrap();
    assert!(matches!(check("cut.gguf").unwrap_err(), EngineError::Reopen { .. }));

    home.run("preset = \"w4a16\"", "out", &home.options()).unwrap();
    let file = home.path("out").join("model.safetensors");
    let whole = fs::read(&file).unwrap();
    let header = u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize + 8;
    let tensors = formats::safetensors::Safetensors::open(&home.path("out")).unwrap();
    let scale = tensors.get("model.layers.0.mlp.up_proj.weight_scale").unwrap().range.start;
    let mut damaged = whole.clone();
    damaged[scale..scale + 2].copy_from_slice(&0x7fc0u16.to_le_bytes());
    fs::write(&file, damaged).unwrap();
    let error = check("out").unwrap_err();
    assert!(error.to_string().contains("model.layers.0.mlp.up_proj.weight"), "{error}");
    // A tensor under another name is a tensor that is missing.
    let text =
        String::from_utf8_lossy(&whole[..header]).replace("0.mlp.up_proj.weight_scale", "0.mlp.up_proj.weight_scalx");
    let mut renamed = whole.clone();
    renamed[..header].copy_from_slice(text.as_bytes());
    fs::write(&file, renamed).unwrap();
    let error = check("out").unwrap_err();
    assert!(matches!(&error, EngineError::Reopen { .. }) && error.to_string().contains("up_proj"), "{error}");
}

/// A tensor of the file in Q4_0, and where its first block begins.
fn block_of(path: &Path) -> (String, usize) {
    let file = formats::gguf::Gguf::open(path).unwrap();
    let tensor = file.tensors().iter().find(|t| t.name.contains("ffn_up")).unwrap();
    (tensor.name.clone(), tensor.range.start)
}
