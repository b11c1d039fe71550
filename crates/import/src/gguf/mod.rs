//! GGUF files: metadata become a config ([`config`]), tensors the weights of the same decoder as from a folder.
//!
//! What llama.cpp's converter did is undone where it concerns places, and left where it concerns numbers:
//!
//! | in the file | here |
//! |---|---|
//! | rows of query and key projections interleaved (arch `llama`): row `h·d + 2i + p` | row `h·d + p·d/2 + i` again, bytes untouched |
//! | experts of a layer in one tensor `[experts, rows, cols]` | one weight each, `rows` rows of it |
//! | one already added to Gemma's norms | kept: the norms' offset is 0 |
//! | no `output.weight` | head tied to the embeddings |

mod config;

use crate::arch::{self, Arch};
use crate::hf::{Parsed, parse_config};
use crate::load::{self, Cut, Loaded, Location, Tensors, load};
use crate::stored::{Files, Stored};
use crate::{ImportError, Imported, Kind, Problem, decoder, rope};
use formats::InFile;
use formats::gguf::{Gguf, TensorInfo};
use formats::hf::Json;
use graph::{Body, DecoderConfig, Model, Place, Role, Weight, WeightStore};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Tensors that are read into the config.
const FACTORS: [&str; 3] = ["rope_freqs.weight", "rope_factors_short.weight", "rope_factors_long.weight"];

/// Opens a file, or all files of a split.
pub(crate) fn open(path: &Path) -> Result<Imported, ImportError> {
    let fail = |problems| ImportError { path: path.to_owned(), problems };
    let all = Gguf::open(path).map_err(|e| ImportError::one(path, e))?;
    let tensors = Contents { path: path.to_owned(), all: Arc::new(all) };
    let (model, arch, config, notes) = tensors.model().map_err(fail)?;
    Ok(Imported {
        model,
        kind: Kind::Gguf,
        path: path.to_owned(),
        arch,
        config,
        metadata: Some(tensors.all.metadata().clone()),
        files: tensors.all.files().iter().map(|f| f.path().to_owned()).collect(),
        extras: vec![],
        scattered: vec![],
        notes,
        network: None,
    })
}

/// A model, its family, its config and what to tell the user.
type Opened = (Model, Option<&'static Arch>, Map<String, Value>, Vec<String>);

/// The tensors of a file, or of a split.
struct Contents {
    path: PathBuf,
    all: Arc<Gguf>,
}

impl Contents {
    fn model(&self) -> Result<Opened, Vec<Problem>> {
        let fail = |problem| vec![Problem::Gguf(InFile { file: self.path.clone(), problem })];
        let keys = self.all.metadata();
        let name = keys.need::<&str>("general.architecture").map_err(fail)?;
        let experts = keys.find::<u64>(&format!("{name}.expert_count")).map_err(fail)?;
        let Some(arch) = arch::by_gguf_name(name, experts.is_some_and(|n| n > 0)) else {
            return self.unknown(format!("the architecture `{name}` is not known"), Map::new());
        };
        let config = config::config(&self.all, arch, |name| self.factors(name)).map_err(fail)?;
        let text = Value::Object(config.clone()).to_string();
        let json = Json::parse(&self.path, text.as_bytes()).map_err(|e| vec![e.into()])?;
        match parse_config(&json, &self.path)? {
            Parsed::Decoder(arch, decoder) => self.decoder(arch, decoder, config),
            Parsed::Unknown { reason } => self.unknown(reason, config),
        }
    }

    fn decoder(
        &self,
        arch: &'static Arch,
        mut config: DecoderConfig,
        json: Map<String, Value>,
    ) -> Result<Opened, Vec<Problem>> {
        config.norm_offset = 0.0;
        let Loaded { mut weights, mut rest } = load(self, &config, |place, shape| locate(arch, &config, place, shape))?;
        rest.retain(|tensor| !FACTORS.contains(&tensor.as_str()));
        let mut notes = load::carry(self, rest, "blk.", &mut weights)?;
        notes.extend(rope::note(&config));
        let graph = decoder::build(&config, &weights, &self.path).map_err(|p| vec![p])?;
        Ok((Model { body: Body::Decoder { config, graph }, weights }, Some(arch), json, notes))
    }

    fn unknown(&self, reason: String, config: Map<String, Value>) -> Result<Opened, Vec<Problem>> {
        let weights: WeightStore = load::all(self)?;
        Ok((Model { body: Body::Unknown { reason }, weights }, None, config, vec![]))
    }

    /// A small one-dimensional tensor; its values are checked with the rest of the config.
    fn factors(&self, name: &str) -> Option<Vec<f32>> {
        let tensor = self.find(name)?.ok()?;
        let small = tensor.elements() <= crate::keys::MAX_HEAD_DIM;
        small.then(|| tensor.read().ok()).flatten()
    }

    fn weight(&self, tensor: &TensorInfo) -> Result<Weight, Problem> {
        let encoding = tensor.encoding().map_err(InFile::at(self.all.file(tensor)))?;
        let shape = tensor.shape.clone();
        let rows = shape.split_last().map_or(1, |(_, outer)| outer.iter().product());
        let source = Stored {
            files: Files::Gguf(self.all.clone()),
            name: tensor.name.clone(),
            file: tensor.file,
            range: tensor.range.clone(),
            rows,
        };
        let (name, place) = (tensor.name.clone(), Place::outer(Role::Other));
        Ok(Weight { name, place, shape, encoding, source: Arc::new(source) })
    }
}

impl Tensors for Contents {
    fn find(&self, name: &str) -> Option<Result<Weight, Problem>> {
        Some(self.weight(self.all.get(name)?))
    }

    fn names(&self) -> Vec<&str> {
        self.all.tensors().iter().map(|t| t.name.as_str()).collect()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.all.get(name).map_or(self.path.clone(), |t| self.all.file(t).to_owned())
    }
}

/// Where a weight is. It is called as in a checkpoint, so that recipes and reports read the same for both.
fn locate(arch: &Arch, config: &DecoderConfig, place: Place, shape: &[usize]) -> Vec<Location> {
    let (Some(tensor), Some(name)) = (arch.gguf_name(place), arch.hf_name(place)) else { return vec![] };
    let rows = shape.first().copied().unwrap_or_default();
    let (shape, cut) = match (place.role, place.expert, &config.experts) {
        (_, Some(e), Some(experts)) => ([&[experts.count], shape].concat(), Cut::From(e * rows)),
        (Role::AttnQ | Role::AttnK, _, _) if arch.interleaved => {
            (shape.to_vec(), Cut::Apart { head_dim: config.head_dim })
        }
        _ => (shape.to_vec(), Cut::Whole),
    };
    vec![Location { tensor, shape, cut, name }]
}
