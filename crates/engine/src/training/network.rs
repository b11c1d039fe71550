//! Recipes of networks that name classes, and the run from data to an ONNX file.
//!
//! ```toml
//! [network]                     # built here, from random weights; or start = "net.onnx"
//! input = [1, 28, 28]
//! classes = 10
//! widths = [16, 32, 64]
//! blocks = 1
//!
//! [data]
//! train = ["train-images-idx3-ubyte.gz"]
//! valid = ["t10k-images-idx3-ubyte.gz"]
//! preprocess = { scale = 0.00392156862745098, mean = [0.1307], std = [0.3081] }
//!
//! [training]
//! epochs = 3
//! rate = 0.1
//! ```

use super::fit::{Lesson, fit};
use super::{TrainingError, TrainingEvent, open_record};
use crate::images::{Images, PREPROCESS, preprocess_of};
use formats::atomic::WriteError;
use formats::images::Preprocess;
use graph::Model;
use import::onnx::Network;
use plan::{Share, TrainingSpec};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use train::Residual;

/// All that the training of a network follows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct NetworkRecipe {
    /// A network that is built with random weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Residual>,
    /// An ONNX file to go on from instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<PathBuf>,
    /// An ONNX file whose answers are learned, too, where `training.distill` says how.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teacher: Option<PathBuf>,
    /// What it learns from.
    pub data: NetworkData,
    /// How it learns.
    #[serde(default)]
    pub training: TrainingSpec,
}

/// Sets of samples; relative names stand beside the recipe, or in the folder that the caller names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct NetworkData {
    /// Learned from, one behind the other.
    pub train: Vec<PathBuf>,
    /// Held out.
    #[serde(default)]
    pub valid: Vec<PathBuf>,
    /// How stored numbers come into the network's range; what the file to start from says, else as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preprocess: Option<Preprocess>,
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrainedNetwork {
    /// The ONNX file.
    pub model: PathBuf,
    /// Its weights' elements.
    pub parameters: usize,
    /// Samples that it learned from.
    pub samples: usize,
    /// Steps.
    pub steps: usize,
    /// On what was held out.
    pub accuracy: Option<Share>,
}

/// The network that a run starts from.
struct Start {
    model: Model,
    network: Arc<Network>,
    preprocess: Preprocess,
}

/// Trains a network into the ONNX file `output`, which must not exist. Checkpoints stand in `<output>.training`; a run that was
/// killed goes on from there to the same bytes. Relative files are looked up in `data`.
///
/// # Errors
/// What [`TrainingError`] lists.
pub fn train_network(
    recipe: &NetworkRecipe,
    data: &Path,
    output: &Path,
    hear: &mut dyn FnMut(TrainingEvent<'_>),
) -> Result<TrainedNetwork, TrainingError> {
    if output.exists() {
        return Err(WriteError::Exists { path: output.into() }.into());
    }
    if recipe.training.distill.is_some() != recipe.teacher.is_some() {
        let why = "`teacher` and `training.distill` go together: one says from whom to learn, the other how";
        return Err(TrainingError::Model(why.into()));
    }
    let record = open_record(recipe, output)?;
    let Start { mut model, network, preprocess } = start(recipe, data)?;
    let open = |files: &[PathBuf]| {
        let files: Vec<PathBuf> = files.iter().map(|file| data.join(file)).collect();
        let graph = model.graph().ok_or_else(|| TrainingError::Model("the network has no graph".into()))?;
        Ok::<_, TrainingError>(Images::open(&files, graph, &preprocess)?)
    };
    let samples = open(&recipe.data.train)?;
    let valid = if recipe.data.valid.is_empty() { None } else { Some(open(&recipe.data.valid)?) };
    let teacher = recipe.teacher.as_ref().map(|file| import::open(&data.join(file))).transpose()?;
    let lesson = Lesson {
        spec: &recipe.training,
        samples: &samples,
        valid: valid.as_ref().map(|v| v as &dyn exec::Examples),
        teacher: teacher.as_ref().map(|t| &t.model),
        fading: None,
        masking: None,
        record: Some(&record),
    };
    let learned = fit(&mut model, &lesson, hear)?;
    export::onnx::write(&model, &network, output)?;
    let (parameters, samples) = (model.parameters(), exec::Examples::len(&samples));
    Ok(TrainedNetwork { model: output.into(), parameters, samples, steps: learned.steps, accuracy: learned.accuracy })
}

fn start(recipe: &NetworkRecipe, data: &Path) -> Result<Start, TrainingError> {
    match (&recipe.network, &recipe.start) {
        (Some(shape), None) => {
            let preprocess = recipe.data.preprocess.clone().unwrap_or_default();
            let model = shape.build(recipe.training.seed)?;
            let graph = model.graph().ok_or_else(|| TrainingError::Model("the network has no graph".into()))?;
            let metadata = [(PREPROCESS, serde_json::to_string(&preprocess).unwrap_or_default())];
            let network = Network::blank(graph, "residual", &metadata)?;
            Ok(Start { network: Arc::new(network), model, preprocess })
        }
        (None, Some(file)) => {
            let opened = import::open(&data.join(file))?;
            let not_onnx = || TrainingError::Model(format!("{} is no ONNX file", file.display()));
            let network = opened.network.ok_or_else(not_onnx)?;
            let preprocess = recipe.data.preprocess.clone().or_else(|| preprocess_of(&network.file));
            Ok(Start { model: opened.model, network, preprocess: preprocess.unwrap_or_default() })
        }
        _ => Err(TrainingError::Model("give either `[network]`, to be built, or `start`, a file to go on from".into())),
    }
}
