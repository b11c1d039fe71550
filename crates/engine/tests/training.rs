//! Promise: a training run learns, and one that is killed goes on with the same losses to the same weights.

use engine::training::{TrainingEvent, TrainingRecipe, train};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use tempfile::TempDir;

const RECIPE: &str = r#"
[model]
model_type = "llama"
hidden_size = 32
intermediate_size = 64
num_hidden_layers = 2
num_attention_heads = 4
num_key_value_heads = 2
max_position_embeddings = 64
rms_norm_eps = 1e-5
rope_theta = 10000.0
tie_word_embeddings = true

[data]
train = "train.txt"
valid = "valid.txt"

[tokenizer]
vocab = 300

[training]
steps = 12
context = 16
batch = 4
accumulate = 2
rate = 1e-2
warmup = 2
evaluate-every = 5
evaluate-windows = 4
"#;

fn prepare(folder: &Path) -> TrainingRecipe {
    let sentence =
        |n: usize| format!("the {} sat on the mat and saw {} of them. ", ["cat", "dog", "hen"][n % 3], n % 7);
    fs::write(folder.join("train.txt"), (0..400).map(sentence).collect::<String>()).expect("a text");
    fs::write(folder.join("valid.txt"), (400..440).map(sentence).collect::<String>()).expect("a text");
    fs::write(folder.join("recipe.toml"), RECIPE).expect("a recipe");
    TrainingRecipe::load(&folder.join("recipe.toml")).expect("a sound recipe")
}

/// Losses of the steps that were run; the run dies after step `dies`, if given.
fn losses(recipe: &TrainingRecipe, folder: &Path, output: &Path, dies: Option<usize>) -> Vec<(usize, f64)> {
    let mut losses = Vec::new();
    let run = catch_unwind(AssertUnwindSafe(|| {
        train(recipe, folder, output, &mut |event| {
            if let TrainingEvent::Step(report, _) = event {
                losses.push((report.step, report.loss));
                assert!(Some(report.step) != dies, "killed");
            }
        })
    }));
    assert_eq!(run.is_err(), dies.is_some());
    if let Ok(trained) = run {
        trained.expect("training succeeds");
    }
    losses
}

#[test]
fn a_killed_run_goes_on_with_the_same_losses_to_the_same_weights() {
    let folder = TempDir::new().expect("a folder");
    let recipe = prepare(folder.path());
    let (straight, resumed) = (folder.path().join("straight"), folder.path().join("resumed"));
    let whole = losses(&recipe, folder.path(), &straight, None);
    assert!(whole[11].1 < 0.8 * whole[0].1, "it does not learn: {whole:?}");

    losses(&recipe, folder.path(), &resumed, Some(8));
    assert!(!resumed.exists());
    let rest = losses(&recipe, folder.path(), &resumed, None);
    assert_eq!(rest, whole[5..], "steps after the checkpoint of step 5");
    let weights = |folder: &Path| fs::read(folder.join("model.safetensors")).expect("weights are there");
    assert_eq!(weights(&straight), weights(&resumed));
    import::open(&resumed).expect("the model opens");
}

#[test]
fn the_record_of_another_recipe_is_not_gone_on_with() {
    let folder = TempDir::new().expect("a folder");
    let mut recipe = prepare(folder.path());
    let output = folder.path().join("model");
    losses(&recipe, folder.path(), &output, Some(6));
    recipe.training.rate = 1e-3;
    let error = train(&recipe, folder.path(), &output, &mut |_| {}).expect_err("another recipe");
    assert!(error.to_string().contains("another recipe"), "{error}");
}
