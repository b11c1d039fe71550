//! Promise: the binary does what its help says, on the shipped model and on damaged copies of it; errors name the file
//! and the remedy, exit codes are the documented ones, and nothing stands under the final name of a run that failed.

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/novels-4m");

fn tinier(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tinier")).current_dir(folder).args(arguments).output().expect("the binary runs")
}

fn succeeds(folder: &Path, arguments: &[&str]) -> String {
    let output = tinier(folder, arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "tinier {arguments:?} failed: {error}");
    String::from_utf8(output.stdout).expect("output is UTF-8")
}

#[track_caller]
fn fails(folder: &Path, arguments: &[&str], code: i32, says: &[&str]) {
    let output = tinier(folder, arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "tinier {arguments:?}: {error}");
    assert!(!error.contains("panicked"), "tinier {arguments:?} panicked: {error}");
    for word in says {
        assert!(error.contains(word), "tinier {arguments:?} does not say `{word}`: {error}");
    }
}

fn text(folder: &Path) -> String {
    let text = "It was a fine morning, and the old man walked slowly to the house by the river. ".repeat(60);
    let path = folder.join("text.txt");
    fs::write(&path, text).expect("a text can be written");
    path.display().to_string()
}

/// A copy of the shipped model, to be damaged.
fn copy(folder: &Path) -> PathBuf {
    let to = folder.join("copy");
    fs::create_dir(&to).expect("a folder can be made");
    for entry in fs::read_dir(MODEL).expect("the shipped model is there").flatten() {
        fs::copy(entry.path(), to.join(entry.file_name())).expect("a file can be copied");
    }
    to
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("output is JSON")
}

#[test]
fn compresses_the_shipped_model_and_verifies_the_artifact() {
    let folder = TempDir::new().expect("a folder");
    let (at, text) = (folder.path(), text(folder.path()));
    let report = json(&succeeds(at, &["compress", "--text", &text, "--json", "--min-top1", "0.5"]));
    let quality = &report["journal"]["proof"]["quality"];
    assert!(quality["kld"]["mean"]["value"].as_f64().is_some_and(|k| k > 0.0 && k < 0.1), "{quality}");
    let written = fs::metadata(at.join("novels-4m-Q4_K_M.gguf")).expect("the artifact is there").len();
    assert_eq!(report["journal"]["proof"]["bytes"].as_u64(), Some(written));

    let page = fs::read_to_string(at.join("novels-4m-Q4_K_M.report.html")).expect("the page is there");
    assert!(page.contains("<svg") && !page.contains("http://") && !page.contains("https://"));
    succeeds(at, &["report", "novels-4m-Q4_K_M.report.json", "--output", "again.html"]);
    assert_eq!(page, fs::read_to_string(at.join("again.html")).expect("the page is made again"));

    let again =
        json(&succeeds(at, &["verify", "novels-4m-Q4_K_M.gguf", "--reference", MODEL, "--text", &text, "--json"]));
    assert_eq!(&again["proof"]["quality"]["kld"], &quality["kld"]);
    fails(at, &["compress", "--text", &text], 1, &["novels-4m-Q4_K_M.gguf", "exists already", "--force"]);
    succeeds(at, &["compress", "--text", &text, "--force"]);
    succeeds(at, &["run", "novels-4m-Q4_K_M.gguf", "--prompt", "It was", "-n", "8"]);
}

#[test]
fn the_same_bytes_at_any_number_of_threads() {
    let folder = TempDir::new().expect("a folder");
    let (at, text) = (folder.path(), text(folder.path()));
    let bytes = ["1", "2", "4"].map(|threads| {
        let out = format!("{threads}.gguf");
        succeeds(at, &["compress", MODEL, &out, "--preset", "q4_k_m", "--text", &text, "--threads", threads]);
        fs::read(at.join(out)).expect("the artifact is there")
    });
    assert!(bytes.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn a_plan_can_be_edited_and_carried_out() {
    let folder = TempDir::new().expect("a folder");
    let (at, text) = (folder.path(), text(folder.path()));
    succeeds(at, &["plan", "--preset", "q8_0", "--output", "plan.toml"]);
    let plan = fs::read_to_string(at.join("plan.toml")).expect("the plan is there");
    let edited = plan.replacen("to = \"q8_0\"", "to = \"q4_0\"", 1);
    assert_ne!(plan, edited);
    fs::write(at.join("plan.toml"), edited).expect("the plan can be edited");
    let report = json(&succeeds(at, &["compress", "--plan", "plan.toml", "--text", &text, "--json"]));
    let tensors = report["journal"]["tensors"].as_array().expect("tensors").iter();
    assert_eq!(tensors.filter(|t| t["encoding"] == "q4_0").count(), 1);
}

#[test]
fn a_language_model_is_pruned_and_encoded_in_one_run() {
    let folder = TempDir::new().expect("a folder");
    let (at, text) = (folder.path(), text(folder.path()));
    let calibration = ["--method", "round", "--calibration", &text, "--samples", "2", "--length", "64"];
    let asked = |first: &[&'static str], last: &[&'static str]| -> Vec<String> {
        let all = first.iter().copied().chain(calibration).chain(last.iter().copied());
        all.map(str::to_owned).collect()
    };
    let goal = ["--prune", "layers=3", "--preset", "q8_0"];
    let compress = asked(&[&["compress", MODEL, "small.gguf"], &goal[..]].concat(), &["--json"]);
    let compress: Vec<&str> = compress.iter().map(String::as_str).chain(["--text", &text]).collect();
    let report = json(&succeeds(at, &compress));
    assert_eq!(report["plan"]["mix"], "prune-Q8_0");
    assert_eq!(report["journal"]["network"]["steps"][0]["groups"][0]["after"], 3);
    succeeds(at, &["run", "small.gguf", "--prompt", "It was", "-n", "4"]);
    let none = |budget| ["compress", MODEL, "none.gguf", "--prune", budget, "--preset", "q8_0", "--text", &text];
    fails(at, &none("layers=3"), 1, &["--calibration"]);
    fails(at, &none("experts=2"), 1, &["no experts"]);
    fails(at, &none("layers=0"), 2, &["no amount"]);
    let plan = asked(&[&["plan", MODEL], &goal[..]].concat(), &["--output", "plan.toml"]);
    succeeds(at, &plan.iter().map(String::as_str).collect::<Vec<_>>());
    let edited = fs::read_to_string(at.join("plan.toml")).expect("the plan is there").replacen(
        "to = \"q8_0\"",
        "to = \"q4_0\"",
        1,
    );
    fs::write(at.join("plan.toml"), edited).expect("the plan can be edited");
    fails(at, &["compress", MODEL, "none.gguf", "--plan", "plan.toml", "--text", &text], 1, &["[[rule]]"]);
    assert!(!at.join("none.gguf").exists());
}

#[test]
fn a_recipe_says_what_to_measure_on_and_what_to_keep() {
    let folder = TempDir::new().expect("a folder");
    let (at, text) = (folder.path(), text(folder.path()));
    let recipe = format!(
        "preset = \"q4_k_m\"\n[[rule]]\nmatch = \"ffn_down\"\nencoding = \"q8_0\"\n[proof]\ntext = \"{text}\"\ncontext = 64\n"
    );
    fs::write(at.join("r.toml"), &recipe).expect("a recipe");
    let report = json(&succeeds(at, &["compress", "--recipe", "r.toml", "--json"]));
    let conditions = &report["journal"]["proof"]["quality"]["conditions"];
    assert_eq!(conditions["data"], "text.txt");
    assert_eq!(conditions["protocol"]["context"], 64);
    let tensors = report["journal"]["tensors"].as_array().expect("tensors").iter();
    assert_eq!(tensors.filter(|t| t["encoding"] == "q8_0").count(), 4);
    fs::write(at.join("r.toml"), format!("{recipe}max-kld = 1e-9\n")).expect("a recipe");
    fails(at, &["compress", MODEL, "b.gguf", "--recipe", "r.toml"], 3, &["max-kld"]);
}

#[test]
fn a_missed_bound_leaves_no_artifact() {
    let folder = TempDir::new().expect("a folder");
    let (at, text) = (folder.path(), text(folder.path()));
    fails(at, &["compress", MODEL, "a.gguf", "--text", &text, "--max-kld", "1e-9"], 3, &["max-kld", "rejected"]);
    assert!(!at.join("a.gguf").exists() && at.join("a.gguf.rejected").exists());
}

#[test]
fn a_compressed_tensors_folder_opens_again() {
    let folder = TempDir::new().expect("a folder");
    let (at, text) = (folder.path(), text(folder.path()));
    succeeds(at, &["compress", MODEL, "out", "--preset", "w4a16", "--text", &text]);
    let config = json(&fs::read_to_string(at.join("out/config.json")).expect("a config is there"));
    assert_eq!(config["quantization_config"]["quant_method"], "compressed-tensors");
    succeeds(at, &["verify", "out"]);
}

#[test]
fn an_unknown_architecture_is_compressed_by_name_and_shape_and_that_is_said() {
    let folder = TempDir::new().expect("a folder");
    let at = folder.path();
    let config = copy(at).join("config.json");
    let said = fs::read_to_string(&config).expect("a config is there");
    fs::write(&config, said.replace("\"llama\"", "\"mystery\"")).expect("it can be changed");
    let output = succeeds(at, &["compress", "copy", "out", "--preset", "w4a16"]);
    assert!(output.contains("`mystery` is not known"), "{output}");
    fails(at, &["compress", "copy", "out.gguf"], 1, &["llama.cpp", "mystery", "compressed-tensors"]);
    assert!(!at.join("out.gguf").exists());
}

#[test]
fn words_that_make_no_sense_are_refused_with_the_nearest_that_do() {
    let folder = TempDir::new().expect("a folder");
    let at = folder.path();
    fails(at, &["compress", "--preset", "q4_k_mm"], 2, &["did you mean `Q4_K_M`"]);
    fails(at, &["plan", "--target", "1bpw"], 1, &["too small", "Q2_K"]);
    fs::write(at.join("r.toml"), "preset = \"q4_k_m\"\nprooof = 1\n").expect("a recipe");
    fails(at, &["plan", "--recipe", "r.toml"], 1, &["r.toml", "prooof", "proof"]);
    fails(at, &["plan", "--max-memory", "lots"], 2, &["lots"]);
    fails(at, &["inspect", "no/such/model"], 1, &["no/such/model"]);
}

#[test]
fn damaged_models_are_refused_by_file_and_tensor() {
    let folder = TempDir::new().expect("a folder");
    let (at, text) = (folder.path(), text(folder.path()));
    let model = copy(at);
    let file = model.join("model.safetensors");
    let sound = fs::read(&file).expect("weights are there");
    let try_with = |bytes: &[u8], says: &[&str]| {
        fs::write(&file, bytes).expect("weights can be damaged");
        fails(at, &["compress", "copy", "out.gguf", "--text", &text], 1, says);
        assert!(!at.join("out.gguf").exists());
    };
    try_with(&sound[..sound.len() / 2], &["model.safetensors"]);
    try_with(&[&u64::MAX.to_le_bytes()[..], &sound[8..]].concat(), &["model.safetensors", "header"]);
    let mut nan = sound.clone();
    let end = nan.len();
    nan[end - 2..].copy_from_slice(&0x7fc0u16.to_le_bytes());
    try_with(&nan, &["model."]);
    fs::write(&file, &sound).expect("weights can be mended");
    fails(at, &["compress", "copy", "copy", "--text", &text], 1, &["copy"]);
    assert_eq!(fs::read(&file).expect("weights are there"), sound);

    let config = model.join("config.json");
    let said = fs::read_to_string(&config).expect("a config is there");
    fs::write(&config, said.replace("\"hidden_size\": 256", "\"hidden_size\": 512")).expect("it can be damaged");
    fails(at, &["inspect", "copy"], 1, &["embed_tokens", "512"]);
    fs::write(&config, &said[..40]).expect("it can be damaged");
    fails(at, &["inspect", "copy"], 1, &["config.json"]);
}

#[test]
fn verify_finds_a_broken_artifact() {
    let folder = TempDir::new().expect("a folder");
    let (at, text) = (folder.path(), text(folder.path()));
    succeeds(at, &["compress", MODEL, "a.gguf", "--preset", "q8_0", "--text", &text]);
    let path = at.join("a.gguf");
    let mut bytes = fs::read(&path).expect("the artifact is there");
    // The last block of a q8_0 tensor: its scale becomes a NaN.
    let end = bytes.len() - 34;
    bytes[end..end + 2].copy_from_slice(&0x7e00u16.to_le_bytes());
    fs::write(&path, bytes).expect("it can be damaged");
    fails(at, &["verify", "a.gguf"], 4, &["broken", "scale"]);
}

#[test]
fn calibration_text_is_chosen_kept_and_used_and_so_is_an_imatrix() {
    let folder = TempDir::new().expect("a folder");
    let (at, text) = (folder.path(), text(folder.path()));
    let choose = ["calibrate-data", MODEL, &text, "--samples", "6", "--length", "64", "-o", "chosen.json"];
    let chosen = json(&succeeds(at, &[&choose[..], &["--json", "--compare-seeds", "3"]].concat()));
    assert_eq!((&chosen["windows"], chosen["random"].as_array().map(Vec::len)), (&Value::from(6), Some(3)));
    let record = json(&fs::read_to_string(at.join("chosen.json")).expect("the selection is there"));
    assert_eq!(record["windows"][5]["ids"].as_array().map(Vec::len), Some(64));
    assert_eq!(record["sources"][0]["sha256"].as_str().map(str::len), Some(64));
    fails(at, &choose, 1, &["chosen.json", "--force"]);
    fails(at, &["calibrate-data", MODEL, &text, "--samples", "9999", "-o", "x.json"], 1, &["the text has"]);
    fs::write(at.join("latin.txt"), b"caf\xe9").expect("a text can be written");
    fails(at, &["calibrate-data", MODEL, "latin.txt", "-o", "x.json"], 1, &["latin.txt", "byte 3", "UTF-8"]);

    succeeds(at, &["imatrix", MODEL, "--text", "chosen.json", "-o", "found.gguf"]);
    let compress = ["compress", MODEL, "small.gguf", "-p", "q3_k_m", "--method", "round", "--text", &text];
    succeeds(at, &[&compress[..], &["--imatrix", "found.gguf", "-q"]].concat());
    fails(at, &["compress", MODEL, "x.gguf", "--imatrix", &text], 1, &["text.txt", "no imatrix"]);
}
