//! Promise: a calibrated run gives the same bytes at any number of threads, and after it was killed and run again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/novels-4m");

/// Sentences that are not all alike.
fn text(folder: &Path) -> PathBuf {
    let (who, what) =
        (["The old man", "A child", "Her sister", "The captain"], ["walked to", "spoke of", "forgot", "saw"]);
    let place = ["the house", "a ship", "that winter", "the letter", "his brother"];
    let sentence = |i: usize| format!("{} {} {}. ", who[i % 4], what[i / 3 % 4], place[i / 7 % 5]);
    let path = folder.join("text.txt");
    fs::write(&path, (0..400).map(sentence).collect::<String>()).expect("a text can be written");
    path
}

fn compress(folder: &Path, out: &str, threads: usize) -> Command {
    let text = folder.join("text.txt").display().to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tinier"));
    command.current_dir(folder).stdout(Stdio::null()).stderr(Stdio::piped());
    command.args(["--quiet", "--threads", &threads.to_string(), "compress", MODEL, out, "--preset", "q3_k_m"]);
    command.args(["--calibration", &text, "--samples", "6", "--length", "64", "--text", &text, "--context", "64"]);
    command.args(["--tokens", "128"]);
    command
}

fn bytes(folder: &Path, out: &str, threads: usize) -> Vec<u8> {
    let output = compress(folder, out, threads).output().expect("the binary runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::read(folder.join(out)).expect("the artifact is there")
}

/// Waits until the first blocks are kept, then kills the run.
fn kill_on_the_way(mut run: Child, checkpoint: &Path) {
    let start = Instant::now();
    while !checkpoint.join("part-00002.json").exists() {
        assert!(start.elapsed() < Duration::from_secs(120), "no block was kept");
        assert!(run.try_wait().expect("it can be asked").is_none(), "the run ended before it could be killed");
        std::thread::sleep(Duration::from_millis(2));
    }
    run.kill().expect("it can be killed");
    run.wait().expect("it ends");
}

#[test]
fn threads_and_a_kill_change_no_byte() {
    let folder = TempDir::new().expect("a folder");
    let at = folder.path();
    text(at);
    let expected = bytes(at, "one.gguf", 1);
    assert!(bytes(at, "four.gguf", 4) == expected, "four threads give other bytes than one");

    let run = compress(at, "killed.gguf", 2).spawn().expect("the binary runs");
    let checkpoint = at.join("killed.gguf.checkpoint");
    kill_on_the_way(run, &checkpoint);
    assert!(!at.join("killed.gguf").exists(), "an artifact stands under its final name");
    assert!(bytes(at, "killed.gguf", 2) == expected, "the resumed run gives other bytes");
    assert!(!checkpoint.exists(), "the checkpoint is left behind");
}

#[test]
fn a_checkpoint_of_another_run_is_not_taken() {
    let folder = TempDir::new().expect("a folder");
    let at = folder.path();
    text(at);
    fs::create_dir(at.join("out.gguf.checkpoint")).expect("a folder can be made");
    fs::write(at.join("out.gguf.checkpoint/run.json"), r#"{"hash": "another"}"#).expect("a file can be written");
    let output = compress(at, "out.gguf", 1).output().expect("the binary runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("another run"), "{error}");
}

/// A run that makes a folder whose servers need scales of inputs and caches.
fn served(folder: &Path, calibration: &[&str]) -> std::process::Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tinier"));
    command.current_dir(folder).args(["--quiet", "compress", MODEL, "served", "--preset", "fp8-static"]);
    command.args([
        "--kv-cache",
        "fp8",
        "--method",
        "round",
        "--text",
        "text.txt",
        "--context",
        "64",
        "--tokens",
        "128",
    ]);
    command.args(calibration).output().expect("the binary runs")
}

#[test]
fn refining_needs_codes_that_were_chosen_on_text() {
    let folder = TempDir::new().expect("a folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tinier"));
    let output = command.current_dir(folder.path()).args(["--quiet", "compress", MODEL, "--refine"]).output();
    let error = String::from_utf8_lossy(&output.expect("the binary runs").stderr).into_owned();
    assert!(error.contains("--calibration"), "{error}");
}

#[test]
fn scales_of_inputs_and_caches_are_found_on_text_or_asked_for() {
    let folder = TempDir::new().expect("a folder");
    let at = folder.path();
    text(at);
    let without = served(at, &[]);
    let error = String::from_utf8_lossy(&without.stderr);
    assert!(!without.status.success() && error.contains("--calibration"), "{error}");
    let with = served(at, &["--calibration", "text.txt", "--samples", "4", "--length", "64"]);
    assert!(with.status.success(), "{}", String::from_utf8_lossy(&with.stderr));
    let weights = fs::read(at.join("served/model.safetensors")).expect("the weights are there");
    let header = String::from_utf8_lossy(&weights[..weights.len().min(1 << 16)]);
    for scale in ["q_proj.input_scale", "down_proj.input_scale", "self_attn.k_scale", "self_attn.v_scale"] {
        assert!(header.contains(scale), "{scale}");
    }
}
