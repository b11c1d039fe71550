//! What can be typed. Nothing here reads a file.

use clap::{Args, Parser, Subcommand, ValueHint};
use clap_complete::Shell;
use engine::data::{Method as DataMethod, Mix};
use formats::images::Layout;
use plan::{Bpw, Budget, Bytes, Container, DistillSpec, KvCache, Method, Preset, Step, TrainingSpec, Transform};
use std::path::PathBuf;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  bad input, or the system refused
  2  the command line makes no sense
  3  done, but a bound such as --min-top1 was not kept: no artifact is left
  4  `verify` found the artifact broken
  130  interrupted";

/// Makes trained models smaller and proves what was lost.
#[derive(Debug, Parser)]
#[command(name = "tinier", version, after_help = EXIT_CODES, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub common: Common,
}

/// Options of every command.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// Print one JSON document instead of text
    #[arg(long, global = true, help_heading = "Common")]
    pub json: bool,
    /// Threads to use [default: all processors]
    #[arg(long, global = true, value_name = "N", help_heading = "Common")]
    pub threads: Option<usize>,
    /// Refuse plans that need more memory, and keep fewer weights decoded [for example: 1GiB]
    #[arg(long, global = true, value_name = "SIZE", help_heading = "Common")]
    pub max_memory: Option<Bytes>,
    /// Seed of everything drawn
    #[arg(long, global = true, default_value_t = 0, value_name = "N", help_heading = "Common")]
    pub seed: u64,
    /// No progress bars
    #[arg(long, short, global = true, help_heading = "Common")]
    pub quiet: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show what a model is: architecture, tensors, sizes
    Inspect(Inspect),
    /// Show what compressing would do to every tensor, and what it would take
    Plan(PlanArgs),
    /// Compress a model, reopen the artifact and measure what was lost
    Compress(Box<Compress>),
    /// Choose the text that a model is calibrated on
    CalibrateData(CalibrateData),
    /// Find how much each input column of a model's matrices matters, as llama-imatrix does
    Imatrix(ImatrixArgs),
    /// Repack a quantized model into another container without changing a number
    Convert(Convert),
    /// Measure perplexity, accuracy, divergence from another model, or latency
    Eval(Eval),
    /// Networks: measure which of two steps goes first
    Order(Order),
    /// Check an artifact: structure always, quality where its source is given
    Verify(Verify),
    /// Generate text
    Run(Run),
    /// Train a decoder and its tokenizer, or a network that names classes, from a recipe
    Train(Train),
    /// Turn a JSON report into an HTML page
    Report(ReportArgs),
    /// Print a completion script for a shell
    Completions {
        /// Which shell
        shell: Shell,
    },
}

/// The model that a command works on.
#[derive(Args, Clone, Debug)]
pub struct Source {
    /// Hugging Face folder, GGUF or ONNX file, or a model id such as Qwen/Qwen3-0.6B [default: the model shipped with tinier]
    #[arg(value_hint = ValueHint::AnyPath)]
    pub model: Option<String>,
}

#[derive(Args, Debug)]
pub struct Inspect {
    #[command(flatten)]
    pub source: Source,
    /// List every tensor
    #[arg(long)]
    pub tensors: bool,
    /// Print the graph
    #[arg(long)]
    pub graph: bool,
}

/// How much smaller, and in which form.
#[derive(Args, Clone, Debug)]
pub struct Goal {
    /// A named mix: q4_k_m, q8_0, w4a16, … [default: q4_k_m]
    #[arg(long, short, group = "goal")]
    pub preset: Option<Preset>,
    /// The best mix of at most so many bits per weight: with --calibration the best encoding for each tensor by what it
    /// costs the model, else the best preset [for example: 4.5bpw]
    #[arg(long, group = "goal", value_name = "BPW")]
    pub target: Option<Bpw>,
    /// The same, of at most so many bytes [for example: 300MB]
    #[arg(long, group = "goal", value_name = "SIZE")]
    pub max_size: Option<Bytes>,
    /// A recipe in TOML
    #[arg(long, short, group = "goal", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub recipe: Option<PathBuf>,
    /// A plan that `tinier plan --output` wrote, perhaps edited
    #[arg(long, group = "goal", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub plan: Option<PathBuf>,
    /// gguf, compressed-tensors, gptq, gptq-v2, awq or safetensors [default: the mix's own]
    #[arg(long, value_name = "FORMAT", value_parser = container)]
    pub format: Option<Container>,
    /// Split the artifact into files of at most this size
    #[arg(long, value_name = "SIZE")]
    pub split_size: Option<Bytes>,
    /// Give servers the scales of a key-value cache in eight bits: fp8 (compressed-tensors)
    #[arg(long, value_name = "TYPE")]
    pub kv_cache: Option<KvCache>,
}

/// Recovery as it is where only its length is given.
fn recovery(epochs: usize) -> TrainingSpec {
    let distill = Some(DistillSpec::default());
    TrainingSpec { epochs, rate: 0.01, distill, statistics: 32, ..TrainingSpec::default() }
}

/// What is done to a network, or to a language model before it is encoded, in the order in which they stand here; a recipe's `[[step]]`
/// gives another.
#[derive(Args, Clone, Debug)]
pub struct Steps {
    /// Take channels (of language models heads and feed-forward channels) out until so much is left: 0.5 of the multiply-adds, or
    /// channels=0.5, parameters=0.3, bytes=300kB, peak=256KiB, latency=0.5 (measured on this machine) or latency=2ms; of language
    /// models also layers=0.75 or layers=6, and experts=0.5 (of each layer), chosen on --calibration. A preset or a size beside it
    /// then encodes what is left
    #[arg(long, value_name = "BUDGET", conflicts_with_all = ["recipe", "plan"])]
    pub prune: Option<Budget>,
    /// Networks: let what is left learn again for so many epochs, from --data and from the network as it was
    #[arg(long, value_name = "EPOCHS", conflicts_with_all = ["recipe", "plan"])]
    pub recover: Option<usize>,
    /// Networks: put values and weights on grids of 8-bit integers, as onnxruntime's kernels take them; learns from --data
    #[arg(long, conflicts_with_all = ["recipe", "plan"])]
    pub int8: bool,
    /// With --int8: find the ranges of values in every run, for which no data are needed; for networks of matrix products
    #[arg(long, requires = "int8")]
    pub dynamic: bool,
    /// Keep as few layers in float as it takes to lose no more points of accuracy than this, on --data and on --valid
    #[arg(long, requires = "int8", value_name = "POINTS")]
    pub max_drop: Option<f64>,
}

impl Steps {
    /// The steps that are asked for.
    pub fn steps(&self) -> Vec<Step> {
        let prune = self.prune.map(|budget| Step::Prune(plan::PruneSpec::to(budget)));
        let recover = self.recover.map(|epochs| Step::Recover(recovery(epochs)));
        let quantize = self.int8.then(|| {
            Step::Quantize(plan::QuantizeSpec {
                dynamic: self.dynamic,
                max_drop: self.max_drop,
                ..plan::QuantizeSpec::default()
            })
        });
        prune.into_iter().chain(recover).chain(quantize).collect()
    }
}

fn container(word: &str) -> Result<Container, String> {
    const ALL: [Container; 6] = [
        Container::Gguf,
        Container::CompressedTensors,
        Container::Gptq,
        Container::GptqV2,
        Container::Awq,
        Container::Safetensors,
    ];
    let names = || ALL.map(|c| c.to_string()).join(", ");
    ALL.into_iter().find(|c| c.to_string() == word).ok_or_else(|| format!("expected one of {}", names()))
}

/// What the codes of weights are chosen by.
#[derive(Args, Clone, Debug)]
pub struct Learn {
    /// Text to calibrate on, or what `calibrate-data` chose; may be given more than once
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub calibration: Vec<PathBuf>,
    /// round, hqq, ptqtp, search, gptq, descent, signround or ternary [default: descent where there is calibration text,
    /// else round]
    #[arg(long, value_name = "METHOD", value_parser = method)]
    pub method: Option<Method>,
    /// Before: rotate, awq or smooth; may be given more than once
    #[arg(long, value_name = "TRANSFORM", value_parser = transform)]
    pub transform: Vec<Transform>,
    /// Windows of the calibration text [default: 128]
    #[arg(long, value_name = "N")]
    pub samples: Option<usize>,
    /// Tokens of such a window [default: 512, or the model's own if shorter]
    #[arg(long, value_name = "N")]
    pub length: Option<usize>,
    /// Gather statistics from the original alone: faster, and not as good
    #[arg(long)]
    pub whole_model: bool,
    /// At the end, learn the rounding of all matrices together on divergence from the original: better, and takes memory
    /// for the whole model several times over
    #[arg(long)]
    pub refine: bool,
    /// Let every expert of a mixture learn from all tokens, not only from those routed to it: slower
    #[arg(long)]
    pub all_experts: bool,
}

fn transform(word: &str) -> Result<Transform, String> {
    let names = || Transform::ALL.map(Transform::name).join(", ");
    Transform::ALL.into_iter().find(|t| t.name() == word).ok_or_else(|| format!("expected one of {}", names()))
}

fn method(word: &str) -> Result<Method, String> {
    let names = || Method::ALL.map(Method::name).join(", ");
    Method::ALL.into_iter().find(|m| m.name() == word).ok_or_else(|| format!("expected one of {}", names()))
}

/// Samples to run a network on, and how their numbers come into its range: `(x · scale − mean) / std`.
#[derive(Args, Clone, Debug, Default)]
pub struct Data {
    /// Samples: CIFAR .bin, MNIST idx, .npy, .npz:PART, a folder of folders of images; more than one are joined
    #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath, help_heading = "Samples")]
    pub data: Vec<PathBuf>,
    /// Multiply stored numbers first [default: what the file says, else 1; for example: 1/255]
    #[arg(long, value_name = "X", value_parser = ratio, help_heading = "Samples")]
    pub scale: Option<f64>,
    /// Then take this off, one number or one for each channel [for example: .485,.456,.406]
    #[arg(long, value_name = "X,…", value_delimiter = ',', allow_hyphen_values = true, help_heading = "Samples")]
    pub mean: Vec<f64>,
    /// Then divide by this, one number or one for each channel
    #[arg(long, value_name = "X,…", value_delimiter = ',', help_heading = "Samples")]
    pub std: Vec<f64>,
    /// How samples are stored, where their shape leaves that open: nchw or nhwc
    #[arg(long, value_parser = layout, help_heading = "Samples")]
    pub layout: Option<Layout>,
    /// Share of an image file's shorter side that is seen [default: 1]
    #[arg(long, value_name = "SHARE", help_heading = "Samples")]
    pub crop: Option<f64>,
    /// Run at most so many samples
    #[arg(long, value_name = "N", help_heading = "Samples")]
    pub count: Option<usize>,
}

/// A number, or one over another.
fn ratio(word: &str) -> Result<f64, String> {
    let number = |word: &str| word.trim().parse::<f64>().map_err(|e| e.to_string());
    match word.split_once('/') {
        Some((over, under)) => Ok(number(over)? / number(under)?),
        None => number(word),
    }
}

fn layout(word: &str) -> Result<Layout, String> {
    match word {
        "nchw" => Ok(Layout::Nchw),
        "nhwc" => Ok(Layout::Nhwc),
        _ => Err("expected nchw or nhwc".into()),
    }
}

/// Text to measure on, and how.
#[derive(Args, Clone, Debug)]
pub struct Text {
    /// Evaluation text [default: sampled from the source model itself]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub text: Option<PathBuf>,
    /// Tokens of a window [default: 512, or the model's own if shorter]
    #[arg(long, value_name = "N")]
    pub context: Option<usize>,
    /// Use at most so many tokens of the text
    #[arg(long, value_name = "N")]
    pub tokens: Option<usize>,
}

/// Bounds that the artifact must keep.
#[derive(Args, Clone, Debug)]
pub struct Gates {
    /// Fail where a smaller share of tokens keeps its most probable next token
    #[arg(long, value_name = "SHARE")]
    pub min_top1: Option<f64>,
    /// Fail where mean KL divergence is larger, in nats per token; `compress` looks for the smallest artifact that keeps
    /// it, where neither a mix nor a size is asked for
    #[arg(long, value_name = "NATS")]
    pub max_kld: Option<f64>,
    /// Fail where perplexity grows by a larger share: 0.05 is five per cent
    #[arg(long, value_name = "SHARE")]
    pub max_ppl_increase: Option<f64>,
}

#[derive(Args, Debug)]
pub struct PlanArgs {
    #[command(flatten)]
    pub source: Source,
    #[command(flatten)]
    pub goal: Goal,
    #[command(flatten)]
    pub steps: Steps,
    #[command(flatten)]
    pub learn: Learn,
    /// The smallest mix that is predicted to diverge by no more nats per token
    #[arg(long, group = "goal", value_name = "NATS")]
    pub max_kld: Option<f64>,
    /// Write the plan as TOML, to be edited and run with `compress --plan`
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: Option<PathBuf>,
    /// Try the block that needs most memory, before hours are spent on all of them
    #[arg(long)]
    pub smoke: bool,
}

#[derive(Args, Debug)]
pub struct Compress {
    #[command(flatten)]
    pub source: Source,
    /// Where the artifact goes [default: here, named after model and mix]
    #[arg(value_hint = ValueHint::AnyPath)]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    pub goal: Goal,
    #[command(flatten)]
    pub steps: Steps,
    #[command(flatten)]
    pub learn: Learn,
    #[command(flatten)]
    pub text: Text,
    #[command(flatten)]
    pub data: Data,
    /// Networks: held-out samples that accuracy is measured on, before and after
    #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath, help_heading = "Samples")]
    pub valid: Vec<PathBuf>,
    #[command(flatten)]
    pub gates: Gates,
    /// How much each input column matters, as `tinier imatrix` or llama-imatrix found: encodings keep what matters
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub imatrix: Option<PathBuf>,
    /// Replace an artifact that is already there
    #[arg(long)]
    pub force: bool,
    /// Where the report goes, .html and .json beside it [default: named after the artifact]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub report: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct Order {
    #[command(flatten)]
    pub source: Source,
    #[command(flatten)]
    pub goal: Goal,
    #[command(flatten)]
    pub steps: Steps,
    #[command(flatten)]
    pub learn: Learn,
    #[command(flatten)]
    pub data: Data,
    /// Held-out samples that orders are compared on
    #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath, help_heading = "Samples")]
    pub valid: Vec<PathBuf>,
}

#[derive(Args, Debug)]
pub struct CalibrateData {
    /// Hugging Face folder, GGUF file, or a model id such as Qwen/Qwen3-0.6B
    #[arg(value_hint = ValueHint::AnyPath)]
    pub model: String,
    /// Texts to choose from: files, .jsonl, .gz, folders; NAME=PATH puts a text into the domain NAME [default: each its own]
    #[arg(required = true, value_name = "TEXT", value_hint = ValueHint::AnyPath)]
    pub texts: Vec<String>,
    /// Where the selection goes
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: PathBuf,
    /// first, random, coverage (most different words) or cluster (what the model itself tells apart)
    #[arg(long, default_value = "coverage", value_parser = data_method)]
    pub method: DataMethod,
    /// How domains share: together, equal, proportional or diverse (the farthest apart)
    #[arg(long, default_value = "together", value_parser = mix)]
    pub mix: Mix,
    /// Windows to choose
    #[arg(long, default_value_t = 128, value_name = "N")]
    pub samples: usize,
    /// Tokens of a window [default: 512, or the model's own if shorter]
    #[arg(long, value_name = "N")]
    pub length: Option<usize>,
    /// Cluster what leaves this block, counted from 0 [default: the middle one]
    #[arg(long, value_name = "N")]
    pub block: Option<usize>,
    /// The field of .jsonl files that holds the text
    #[arg(long, default_value = "text", value_name = "NAME")]
    pub field: String,
    /// Also say what so many random choices would have covered
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub compare_seeds: u64,
    /// Replace a selection that is already there
    #[arg(long)]
    pub force: bool,
}

#[derive(Args, Debug)]
pub struct Convert {
    /// Hugging Face folder (compressed-tensors, GPTQ, AWQ, plain) or GGUF file
    #[arg(value_hint = ValueHint::AnyPath)]
    pub model: String,
    /// Where the artifact goes
    #[arg(value_hint = ValueHint::AnyPath)]
    pub output: PathBuf,
    /// gguf, compressed-tensors, gptq, gptq-v2, awq or safetensors
    #[arg(long, value_name = "FORMAT", value_parser = container)]
    pub to: Container,
    /// Replace what is already there
    #[arg(long)]
    pub force: bool,
}

#[derive(Args, Debug)]
pub struct ImatrixArgs {
    /// Hugging Face folder, GGUF file, or a model id such as Qwen/Qwen3-0.6B
    #[arg(value_hint = ValueHint::AnyPath)]
    pub model: String,
    /// Text to run, or what `calibrate-data` chose; may be given more than once
    #[arg(long, required = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub text: Vec<PathBuf>,
    /// Windows of the text [default: 128]
    #[arg(long, value_name = "N")]
    pub samples: Option<usize>,
    /// Tokens of such a window [default: 512, or the model's own if shorter]
    #[arg(long, value_name = "N")]
    pub length: Option<usize>,
    /// Where it goes; a name that ends in .dat gets the older layout
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: PathBuf,
    /// Replace a file that is already there
    #[arg(long)]
    pub force: bool,
}

fn data_method(word: &str) -> Result<DataMethod, String> {
    DataMethod::ALL.into_iter().find(|m| m.name() == word).ok_or("expected first, random, coverage or cluster".into())
}

fn mix(word: &str) -> Result<Mix, String> {
    Mix::ALL.into_iter().find(|m| m.name() == word).ok_or("expected together, equal, proportional or diverse".into())
}

#[derive(Args, Debug)]
pub struct Eval {
    #[command(flatten)]
    pub source: Source,
    /// Also measure the divergence from this model
    #[arg(long, value_name = "MODEL", value_hint = ValueHint::AnyPath)]
    pub reference: Option<String>,
    #[command(flatten)]
    pub text: Text,
    #[command(flatten)]
    pub data: Data,
    /// Score each token with the longest context that windows this far apart give it, as is usual with transformers
    /// [default: windows without overlap, second halves scored, as llama-perplexity]
    #[arg(long, value_name = "N")]
    pub stride: Option<usize>,
    /// Measure latency instead: time to the first token, then per token
    #[arg(long)]
    pub latency: bool,
    /// Compute matrix products in bf16
    #[arg(long)]
    pub bf16: bool,
}

#[derive(Args, Debug)]
pub struct Verify {
    /// What `compress` wrote
    #[arg(value_hint = ValueHint::AnyPath)]
    pub artifact: String,
    /// Its source, to measure what was lost
    #[arg(long, value_name = "MODEL", value_hint = ValueHint::AnyPath)]
    pub reference: Option<String>,
    #[command(flatten)]
    pub text: Text,
    #[command(flatten)]
    pub gates: Gates,
}

#[derive(Args, Debug)]
pub struct Run {
    #[command(flatten)]
    pub source: Source,
    /// What the text begins with
    #[arg(long, short, default_value = "")]
    pub prompt: String,
    /// Stop after so many tokens
    #[arg(long, short = 'n', default_value_t = 128, value_name = "N")]
    pub max_tokens: usize,
    /// 0 takes the most probable token each time
    #[arg(long, default_value_t = 0.8, value_name = "T")]
    pub temperature: f32,
    /// Draw from the so many most probable tokens
    #[arg(long, value_name = "K")]
    pub top_k: Option<usize>,
    /// Draw from the most probable tokens that together have this probability
    #[arg(long, value_name = "P")]
    pub top_p: Option<f32>,
    /// Compute matrix products in bf16
    #[arg(long)]
    pub bf16: bool,
}

#[derive(Args, Debug)]
pub struct Train {
    /// A training recipe in TOML
    #[arg(value_hint = ValueHint::FilePath)]
    pub recipe: PathBuf,
    /// Where the recipe's texts or samples are [default: beside the recipe]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub data: Option<PathBuf>,
    /// The folder, or the .onnx file, that the model goes to; checkpoints stand beside it
    #[arg(long, short, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub output: PathBuf,
}

#[derive(Args, Debug)]
pub struct ReportArgs {
    /// A report that `compress` wrote as JSON
    #[arg(value_hint = ValueHint::FilePath)]
    pub report: PathBuf,
    /// Where the page goes [default: beside it, .html]
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: Option<PathBuf>,
}
