//! Hugging Face folders: `config.json`, safetensors, and what lies beside them.
//!
//! Where tensors are, of a place in a decoder:
//!
//! | weight | tensor |
//! |---|---|
//! | any | its name in [`crate::names`], under the prefix that the embedding table has |
//! | a packed one | its parts, [`crate::compressed_tensors`] |
//! | gate, up of expert `e` | rows `e·2f …` and `e·2f + f …` of `mlp.experts.gate_up_proj` `[experts, 2f, width]` |
//! | down of expert `e` | rows `e·width …` of `mlp.experts.down_proj` `[experts, width, f]` |

use crate::arch::{self, Arch};
use crate::compressed_tensors::PackedWeights;
use crate::keys::Keys;
use crate::load::{self, Cut, Loaded, Location, Tensors, load};
use crate::names::Prefix;
use crate::stored::{Files, Stored};
use crate::transposed::Layouts;
use crate::{ImportError, Imported, Kind, Problem, decoder, rope};
use codec::Encoding;
use formats::hf::{CONFIG, Json, QUANTIZE_CONFIG, Quantization};
use formats::safetensors::{Safetensors, TensorInfo};
use graph::{Body, DecoderConfig, Experts, Model, Place, Role, Weight, WeightStore};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a `config.json` says.
pub enum Parsed {
    /// A decoder of a known family.
    Decoder(&'static Arch, DecoderConfig),
    /// Something else, or a decoder with something that is not known here.
    Unknown {
        /// What is not known.
        reason: String,
    },
}

/// Reads the configuration of a decoder from a `config.json`.
pub fn parse_config(config: &Json, file: &Path) -> Result<Parsed, Vec<Problem>> {
    let text = config.root().text().map_err(|e| vec![e.into()])?;
    let model_type = match text.find::<&str>("model_type").map_err(|e| vec![e.into()])? {
        Some(name) => name,
        None => return Ok(Parsed::Unknown { reason: "config.json has no model_type".into() }),
    };
    let Some(arch) = arch::by_model_type(model_type) else {
        return Ok(Parsed::Unknown { reason: format!("the architecture `{model_type}` is not known") });
    };
    let mut keys = Keys::new(text, file);
    let config = (arch.config)(&mut keys);
    if !keys.problems.is_empty() {
        return Err(keys.problems);
    }
    if !keys.unsupported.is_empty() {
        let reason = format!("`{model_type}` with {} is not supported", keys.unsupported.join(", "));
        return Ok(Parsed::Unknown { reason });
    }
    Ok(Parsed::Decoder(arch, config))
}

/// Opens a folder.
pub(crate) fn open(path: &Path) -> Result<Imported, ImportError> {
    let fail = |problems| ImportError { path: path.to_owned(), problems };
    let file = path.join(CONFIG);
    let config = Json::open(&file).map_err(Problem::from);
    let tensors = Safetensors::open(path).map_err(Problem::from);
    let (config, mut tensors) = match (config, tensors) {
        (Ok(config), Ok(tensors)) => (config, Checkpoint::new(path, tensors)),
        (config, tensors) => return Err(fail(config.err().into_iter().chain(tensors.err()).collect())),
    };
    tensors.packed = packed(path, &config, &tensors.all).map_err(fail)?;
    let (mut model, arch, mut notes) = match parse_config(&config, &file).map_err(fail)? {
        Parsed::Unknown { reason } => (tensors.unknown(reason).map_err(fail)?, None, vec![]),
        Parsed::Decoder(arch, decoder) => {
            let (model, notes) = tensors.decoder(arch, decoder).map_err(fail)?;
            (model, Some(arch), notes)
        }
    };
    let packed = &mut tensors.packed;
    model.weights.run.cache = std::mem::take(&mut packed.cache);
    for (name, input) in &packed.inputs {
        if let Some(id) = model.weights.find(name) {
            model.weights.run.inputs.insert(id, *input);
        }
    }
    notes.append(&mut packed.notes);
    Ok(Imported {
        model,
        kind: Kind::HuggingFace,
        path: path.to_owned(),
        arch,
        config: config.map().clone(),
        metadata: None,
        files: tensors.all.files().iter().map(|f| f.path().to_owned()).collect(),
        extras: extras(path),
        scattered: tensors.packed.scattered,
        notes,
        network: None,
    })
}

/// The weights that the config says are packed.
fn packed(path: &Path, config: &Json, all: &Arc<Safetensors>) -> Result<PackedWeights, Vec<Problem>> {
    let one = |problem: Problem| vec![problem];
    let beside = Json::open_if_there(&path.join(QUANTIZE_CONFIG)).map_err(|e| one(e.into()))?;
    match Quantization::of(&config.root(), beside.as_ref()).map_err(|e| one(e.into()))? {
        None => Ok(PackedWeights::default()),
        Some(Quantization::CompressedTensors(config)) => PackedWeights::find(path, all, &config),
        Some(Quantization::Gptq(config)) => Layouts::gptq(path, &config).map_err(one)?.find(all),
        Some(Quantization::Awq(config)) => Layouts::awq(config.group).find(all),
    }
}

/// Files to carry over into an artifact: all but weights, configs of weights, and what is not a plain file.
fn extras(path: &Path) -> Vec<PathBuf> {
    const NOT: [&str; 8] = ["safetensors", "bin", "pt", "pth", "gguf", "onnx", "h5", "msgpack"];
    let weights = |p: &Path| p.extension().is_some_and(|e| NOT.iter().any(|n| e.eq_ignore_ascii_case(n)));
    let index = |p: &Path| p.to_string_lossy().ends_with(".index.json");
    let hidden = |p: &Path| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten().map(|e| e.path());
    let keep = |p: &PathBuf| {
        p.is_file() && !weights(p) && !index(p) && !hidden(p) && !p.ends_with(CONFIG) && !p.ends_with(QUANTIZE_CONFIG)
    };
    let mut files: Vec<PathBuf> = entries.filter(keep).collect();
    files.sort();
    files
}

/// The tensors of a folder.
struct Checkpoint {
    path: PathBuf,
    all: Arc<Safetensors>,
    packed: PackedWeights,
    prefix: Prefix,
}

impl Checkpoint {
    fn new(path: &Path, all: Safetensors) -> Checkpoint {
        let embeds = |p: &Prefix| all.get(&format!("{}embed_tokens.weight", p.body)).is_some();
        let prefix = Prefix::ALL.into_iter().find(embeds).unwrap_or(Prefix::ALL[0]);
        Checkpoint { path: path.to_owned(), all: Arc::new(all), packed: PackedWeights::default(), prefix }
    }

    fn decoder(&self, arch: &'static Arch, config: DecoderConfig) -> Result<(Model, Vec<String>), Vec<Problem>> {
        let locate = |place, shape: &[usize]| self.locate(arch, config.experts.as_ref(), place, shape);
        let Loaded { mut weights, rest } = load(self, &config, locate)?;
        let mut notes = self.carry(&config, rest, &mut weights)?;
        notes.extend(rope::note(&config));
        let graph = decoder::build(&config, &weights, &self.path).map_err(|p| vec![p])?;
        Ok((Model { body: Body::Decoder { config, graph }, weights }, notes))
    }

    fn unknown(&self, reason: String) -> Result<Model, Vec<Problem>> {
        Ok(Model { body: Body::Unknown { reason }, weights: load::all(self)? })
    }

    /// Sorts out the tensors that no place asked for: useless ones, a head beside tied embeddings, then the rest.
    fn carry(
        &self,
        config: &DecoderConfig,
        mut rest: Vec<String>,
        to: &mut WeightStore,
    ) -> Result<Vec<String>, Vec<Problem>> {
        const USELESS: [&str; 3] = ["rotary_emb.inv_freq", ".masked_bias", ".attn.bias"];
        rest.retain(|tensor| !USELESS.iter().any(|u| tensor.ends_with(u)));
        let head = format!("{}lm_head.weight", self.prefix.head);
        let beside = config.tied.then(|| rest.iter().position(|tensor| *tensor == head)).flatten();
        let note = beside.map(|i| format!("`{}` is left out: the config ties it to the embeddings", rest.remove(i)));
        let carried = load::carry(self, rest, &format!("{}layers.", self.prefix.body), to)?;
        Ok(note.into_iter().chain(carried).collect())
    }

    fn locate(&self, arch: &Arch, experts: Option<&Experts>, place: Place, shape: &[usize]) -> Vec<Location> {
        let names = arch.hf_names(place, self.prefix);
        let usual = names.first().cloned().unwrap_or_default();
        let whole = |name: String| Location { tensor: name.clone(), shape: shape.to_vec(), cut: Cut::Whole, name };
        names.into_iter().map(whole).chain(self.locate_fused(experts, place, shape, usual)).collect()
    }

    /// An expert's matrix in the tensor that all experts of a layer share.
    fn locate_fused(&self, experts: Option<&Experts>, place: Place, shape: &[usize], name: String) -> Option<Location> {
        let (layer, e, count) = (place.layer?, place.expert?, experts?.count);
        let [rows, cols] = *shape else { return None };
        let (tensor, each, offset) = match place.role {
            Role::ExpertGate => ("gate_up_proj", 2 * rows, 0),
            Role::ExpertUp => ("gate_up_proj", 2 * rows, rows),
            _ => ("down_proj", rows, 0),
        };
        let tensor = format!("{}layers.{layer}.mlp.experts.{tensor}", self.prefix.body);
        Some(Location { tensor, shape: vec![count, each, cols], cut: Cut::From(e * each + offset), name })
    }

    fn weight(&self, tensor: &TensorInfo) -> Weight {
        let shape = tensor.shape.clone();
        let rows = shape.split_last().map_or(1, |(_, outer)| outer.iter().product());
        let source = Stored {
            files: Files::Safetensors(self.all.clone()),
            name: tensor.name.clone(),
            file: tensor.file,
            range: tensor.range.clone(),
            rows,
        };
        let (name, place, encoding) = (tensor.name.clone(), Place::outer(Role::Other), Encoding::Plain(tensor.dtype));
        Weight { name, place, shape, encoding, source: Arc::new(source) }
    }
}

impl Tensors for Checkpoint {
    fn find(&self, name: &str) -> Option<Result<Weight, Problem>> {
        if let Some(packed) = self.packed.weights.get(name) {
            return Some(Ok(packed.clone()));
        }
        Some(Ok(self.weight(self.all.get(name)?)))
    }

    fn names(&self) -> Vec<&str> {
        let plain = self.all.tensors().iter().map(|t| t.name.as_str()).filter(|n| !self.packed.parts.contains(*n));
        plain.chain(self.packed.weights.keys().map(String::as_str)).collect()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.all.get(name).map_or(self.path.clone(), |t| self.all.file(t).to_owned())
    }
}
