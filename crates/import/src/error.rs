//! Everything that can be wrong with a model, collected before anything fails.

use formats::{gguf, hf, onnx, safetensors};
use graph::GraphError;
use std::fmt;
use std::path::{Path, PathBuf};

/// One thing that is wrong.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Problem {
    #[error("{}: no such file or folder; check the path", .0.display())]
    NotFound(PathBuf),
    #[error("{}: neither a model folder nor a .gguf or .onnx file; give one of these", .0.display())]
    NotAModel(PathBuf),
    #[error(transparent)]
    Config(#[from] hf::Error),
    #[error(transparent)]
    Safetensors(#[from] safetensors::Error),
    #[error(transparent)]
    Gguf(#[from] gguf::Error),
    #[error(transparent)]
    Onnx(#[from] onnx::Error),
    #[error("{}: key `{key}` is {value}, which is not between {min} and {max}; correct it, or download the file again", file.display())]
    Range { file: PathBuf, key: String, value: String, min: usize, max: usize },
    #[error("{}: key `{key}` {why}", file.display())]
    Value { file: PathBuf, key: String, why: String },
    #[error("{}: tensor `{tensor}` is missing; the model is incomplete, or its config is another model's: download both again", file.display())]
    Missing { file: PathBuf, tensor: String },
    #[error("{}: tensor `{tensor}` has shape {got:?}, the config says {expected:?}; one of the two is another model's, download both again", file.display())]
    Shape { file: PathBuf, tensor: String, got: Vec<usize>, expected: Vec<usize> },
    #[error("{}: tensor `{tensor}` holds {encoding}, not fractions; the model is quantized in a way that its config does not tell, give the original", file.display())]
    NotNumbers { file: PathBuf, tensor: String, encoding: String },
    #[error("{}: tensor `{tensor}` is inside the decoder, but the config has no place for it; one of the two is another model's", file.display())]
    Unexpected { file: PathBuf, tensor: String },
    #[error("{}: and more; only the first {listed} wrong tensors are listed", file.display())]
    More { file: PathBuf, listed: usize },
    #[error("{}: tensor `{tensor}`: {why}", file.display())]
    Tensor { file: PathBuf, tensor: String, why: String },
    #[error("{}: the graph does not fit together: {source}", file.display())]
    Graph { file: PathBuf, source: GraphError },
}

/// All that is wrong with a model.
#[derive(Debug)]
pub struct ImportError {
    /// What was opened.
    pub path: PathBuf,
    /// At least one problem.
    pub problems: Vec<Problem>,
}

impl ImportError {
    pub(crate) fn one(path: &Path, problem: impl Into<Problem>) -> ImportError {
        ImportError { path: path.to_owned(), problems: vec![problem.into()] }
    }
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [problem] = &self.problems[..] {
            return write!(f, "{problem}");
        }
        write!(f, "{}: {} problems", self.path.display(), self.problems.len())?;
        self.problems.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl std::error::Error for ImportError {}
