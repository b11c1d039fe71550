//! Training runs: of decoders, from text to a model folder; of networks that name classes, from samples to an ONNX file.
//!
//! What a run has so far stands in `<output>.training`: tokenizer, recipe, log, and the latest checkpoint. A run that is
//! killed goes on from there with the same losses. The folder stays; it is the run's record.

mod checkpoint;
mod fit;
mod network;
mod recipe;
mod text;

pub use fit::{Learned, Lesson, fit};
pub use network::{NetworkData, NetworkRecipe, TrainedNetwork, train_network};
pub use recipe::{AnyRecipe, Data, Steps, TokenizerRecipe, TrainingRecipe};

use codec::{Dtype, Encoding, Matrix};
use exec::Recompute;
use formats::atomic::{AtomicDir, WriteError, write_file};
use formats::hf::Json;
use formats::safetensors::{TensorSpec, Writer};
use graph::{DecoderConfig, Graph, Weight, WeightStore};
use import::{Arch, Parsed, places};
use serde_json::{Map, Value, json};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use train::tokenizer::END_OF_TEXT;
use train::{Batches, Schedule, Settings, State, StepReport, Trainer};

/// Why training failed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum TrainingError {
    #[error("{path}: {source}", path = path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{path}: {why}", path = path.display())]
    Recipe { path: PathBuf, why: String },
    #[error("{path} belongs to another recipe; remove it, or choose another output", path = path.display())]
    OtherRecipe { path: PathBuf },
    #[error("{path} has {tokens} tokens, fewer than a window of {context} and its next", path = path.display())]
    ShortText { path: PathBuf, tokens: usize, context: usize },
    #[error("{path} lacks `{name}`; it is damaged, or of another model", path = path.display())]
    Checkpoint { path: PathBuf, name: String },
    #[error("the recipe's model: {0}")]
    Model(String),
    #[error("training came to a loss that is not finite at step {0}; lower the rate")]
    Diverged(usize),
    #[error(transparent)]
    Safetensors(#[from] formats::safetensors::Error),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    Tokenizer(#[from] train::tokenizer::TokenizerError),
    #[error(transparent)]
    Encode(#[from] import::tokenizer::TokenizerError),
    #[error(transparent)]
    Weights(#[from] graph::SourceError),
    #[error(transparent)]
    Run(#[from] exec::Error),
    #[error(transparent)]
    Restore(#[from] train::Unfit),
    #[error("training: {0}")]
    Spec(String),
    #[error(transparent)]
    Images(#[from] crate::ImagesError),
    #[error(transparent)]
    Network(#[from] train::TrainError),
    #[error(transparent)]
    Build(#[from] train::BuildError),
    #[error(transparent)]
    Graph(#[from] graph::GraphError),
    #[error(transparent)]
    Eval(#[from] eval::EvalError),
    #[error(transparent)]
    Import(#[from] import::ImportError),
    #[error(transparent)]
    Onnx(#[from] formats::onnx::Error),
    #[error(transparent)]
    Export(#[from] export::ExportError),
}

impl TrainingError {
    fn io(path: &Path, source: std::io::Error) -> TrainingError {
        TrainingError::Io { path: path.into(), source }
    }
}

/// What is heard of a run.
pub enum TrainingEvent<'a> {
    /// Something other than steps began.
    Stage(&'a str),
    /// A step was done, of so many.
    Step(StepReport, usize),
    /// The held-out text was scored: steps done and nats per token.
    Evaluated(usize, f64),
    /// A network did a step.
    Learned {
        /// What it did.
        report: StepReport,
        /// Share of the step's samples that it had right.
        right: f64,
        /// Steps in all.
        steps: usize,
    },
    /// The held-out samples were run: steps done and the share that was right.
    Measured(usize, plan::Share),
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Trained {
    /// The model folder.
    pub model: PathBuf,
    /// Its weights' elements.
    pub parameters: usize,
    /// Tokens of the training text.
    pub tokens: usize,
    /// Nats per token on held-out text at the end.
    pub valid_loss: f64,
}

/// Trains a model into the folder `output`, which must not exist. Relative data files are looked up in `data`.
pub fn train(
    recipe: &TrainingRecipe,
    data: &Path,
    output: &Path,
    hear: &mut dyn FnMut(TrainingEvent<'_>),
) -> Result<Trained, TrainingError> {
    if output.exists() {
        return Err(WriteError::Exists { path: output.into() }.into());
    }
    let record = open_record(recipe, output)?;
    let texts = text::prepare(recipe, data, &record, hear)?;
    let built = build(recipe)?;
    let batches = texts.batches(&recipe.training)?;
    let mut trainer = Trainer::new(&built.graph, &built.weights, settings(&recipe.training))?;
    let names: Vec<_> = built.weights.iter().map(|(_, w)| w.name.clone()).collect();
    if let Some((step, state)) = checkpoint::latest(&record, &names)? {
        trainer.restore(step, state)?;
    }
    let valid_loss = run(&mut trainer, &recipe.training, &batches, &record, hear)?;
    write_model(recipe, &built, &trainer.state()?, &record, output)?;
    let parameters = built.weights.iter().map(|(_, w)| w.elements()).sum();
    Ok(Trained { model: output.into(), parameters, tokens: texts.train.len(), valid_loss })
}

/// The folder of the run's record; a run of another recipe is not gone on with.
fn open_record(recipe: &impl serde::Serialize, output: &Path) -> Result<PathBuf, TrainingError> {
    let mut name = output.as_os_str().to_owned();
    name.push(".training");
    let record = PathBuf::from(name);
    let file = record.join("recipe.json");
    let text = serde_json::to_string_pretty(recipe).unwrap_or_default();
    if file.exists() {
        let old = fs::read_to_string(&file).map_err(|e| TrainingError::io(&file, e))?;
        return if old == text { Ok(record) } else { Err(TrainingError::OtherRecipe { path: record }) };
    }
    fs::create_dir_all(&record).map_err(|e| TrainingError::io(&record, e))?;
    write_file(&file, text.as_bytes())?;
    Ok(record)
}

fn settings(steps: &Steps) -> Settings {
    Settings {
        schedule: Schedule { peak: steps.rate, floor: steps.floor, warmup: steps.warmup, steps: steps.steps },
        batch: steps.batch,
        accumulate: steps.accumulate,
        constants: steps.optimizer,
        recompute: if steps.recompute { Recompute::Blocks } else { Recompute::Nothing },
    }
}

/// The training and held-out windows of a run.
struct Windows<'a> {
    train: Batches<'a>,
    valid: Batches<'a>,
}

/// All steps that are left. Returns the last held-out loss.
fn run(
    trainer: &mut Trainer,
    steps: &Steps,
    windows: &Windows<'_>,
    record: &Path,
    hear: &mut dyn FnMut(TrainingEvent<'_>),
) -> Result<f64, TrainingError> {
    let mut valid = f64::NAN;
    if trainer.steps_done() >= steps.steps {
        valid = trainer.evaluate(windows.valid.in_order(steps.evaluate_windows, steps.batch))?;
    }
    while trainer.steps_done() < steps.steps {
        let report = trainer.step(&windows.train)?;
        if !report.loss.is_finite() {
            return Err(TrainingError::Diverged(report.step));
        }
        hear(TrainingEvent::Step(report, steps.steps));
        let evaluates = report.step.is_multiple_of(steps.evaluate_every) || report.step == steps.steps;
        if evaluates {
            valid = trainer.evaluate(windows.valid.in_order(steps.evaluate_windows, steps.batch))?;
            checkpoint::save(record, report.step, &trainer.state()?)?;
            log(record, &report, valid)?;
            hear(TrainingEvent::Evaluated(report.step, valid));
        }
    }
    Ok(valid)
}

/// Appends a line to the record's log.
fn log(record: &Path, report: &StepReport, valid: f64) -> Result<(), TrainingError> {
    let path = record.join("log.jsonl");
    let line = json!({"step": report.step, "loss": report.loss, "valid": valid, "grad_norm": report.grad_norm,
        "rate": report.rate});
    let mut file =
        fs::OpenOptions::new().create(true).append(true).open(&path).map_err(|e| TrainingError::io(&path, e))?;
    writeln!(file, "{line}").map_err(|e| TrainingError::io(&path, e))
}

/// A model that has just begun.
struct Built {
    config: Map<String, Value>,
    graph: Graph,
    weights: WeightStore,
}

/// The model of the recipe, with its first weights.
fn build(recipe: &TrainingRecipe) -> Result<Built, TrainingError> {
    let file = Path::new("config.json");
    let mut config = recipe.model.clone();
    let ids = [("vocab_size", recipe.tokenizer.vocab), ("bos_token_id", 0), ("eos_token_id", 0)];
    config.extend(ids.map(|(key, value)| (key.to_owned(), Value::from(value))));
    let text = pretty(&Value::Object(config.clone()));
    let json = Json::parse(file, &text).map_err(|e| TrainingError::Model(e.to_string()))?;
    let (arch, decoder) = match import::parse_config(&json, file) {
        Ok(Parsed::Decoder(arch, decoder)) => (arch, decoder),
        Ok(Parsed::Unknown { reason }) => return Err(TrainingError::Model(reason)),
        Err(problems) => {
            let all: Vec<_> = problems.iter().map(ToString::to_string).collect();
            return Err(TrainingError::Model(all.join("; ")));
        }
    };
    config.insert("architectures".into(), json!([arch.class]));
    config.insert("dtype".into(), json!("bfloat16"));
    let weights = first_weights(arch, &decoder, recipe.training.seed)?;
    let graph = import::build(&decoder, &weights, file).map_err(|e| TrainingError::Model(e.to_string()))?;
    Ok(Built { config, graph, weights })
}

fn first_weights(arch: &Arch, config: &DecoderConfig, seed: u64) -> Result<WeightStore, TrainingError> {
    let mut weights = WeightStore::default();
    for (index, (place, shape)) in places(config).enumerate() {
        let name = arch.hf_name(place).ok_or_else(|| TrainingError::Model(format!("no name for {place:?}")))?;
        let numbers = train::initial(config, place, shape.iter().product(), index, seed);
        weights.insert(Weight::from_f32(&name, place, shape, &numbers)?);
    }
    Ok(weights)
}

/// Writes the model folder, weights in bf16.
fn write_model(
    recipe: &TrainingRecipe,
    built: &Built,
    state: &[State],
    record: &Path,
    output: &Path,
) -> Result<(), TrainingError> {
    let folder = AtomicDir::create(output)?;
    let spec = |w: &Weight| TensorSpec { name: w.name.clone(), dtype: Dtype::BF16, shape: w.shape.clone() };
    let specs: Vec<_> = built.weights.iter().map(|(_, w)| spec(w)).collect();
    let mut writer = Writer::folder(folder.path(), &specs, u64::MAX)?;
    for ((_, weight), line) in built.weights.iter().zip(state) {
        let matrix = Matrix { rows: weight.rows(), cols: weight.cols(), data: &line.weight };
        let parts = Encoding::Plain(Dtype::BF16).encode(matrix, None);
        let parts = parts.map_err(|source| graph::SourceError::Codec { name: weight.name.clone(), source })?;
        parts.iter().try_for_each(|part| writer.write(&line.name, &part.bytes))?;
    }
    writer.finish()?;
    let tokenizer = record.join(text::TOKENIZER);
    let tokenizer = fs::read(&tokenizer).map_err(|e| TrainingError::io(&tokenizer, e))?;
    let special = json!({"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT,
        "add_bos_token": false, "clean_up_tokenization_spaces": false,
        "model_max_length": recipe.model.get("max_position_embeddings")});
    let files = [
        ("config.json", pretty(&Value::Object(built.config.clone()))),
        ("generation_config.json", pretty(&json!({"bos_token_id": 0, "eos_token_id": 0, "do_sample": true}))),
        ("tokenizer_config.json", pretty(&special)),
        ("tokenizer.json", tokenizer),
    ];
    for (name, bytes) in files {
        write_file(&folder.path().join(name), &bytes)?;
    }
    Ok(folder.commit()?)
}

fn pretty(value: &Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}
