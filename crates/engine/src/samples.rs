//! What networks are measured, calibrated and trained on: sets of samples as the readers give them, or noise where there are none.

use exec::{Intake, SampleError, Samples};
use formats::images::{Feed, Preprocess, Set};
use formats::onnx::Onnx;
use graph::Graph;
use std::path::PathBuf;

/// The key under which an ONNX file says how numbers come into its range.
pub const PREPROCESS: &str = "tinier.preprocess";

/// Why samples cannot be given to a network.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum SamplesError {
    #[error(transparent)]
    Set(#[from] formats::images::Error),
    #[error(transparent)]
    Intake(#[from] exec::Error),
}

/// A set of samples, fitted to a network.
pub struct Images(Feed);

impl Images {
    /// Opens sets, one behind the other, for a network with one input.
    ///
    /// # Errors
    /// Files that cannot be read, samples that do not fit the network.
    pub fn open(paths: &[PathBuf], graph: &Graph, preprocess: &Preprocess) -> Result<Images, SamplesError> {
        let intake = Intake::of(graph)?;
        Ok(Images(Set::open_all(paths)?.fit(&intake.shape, preprocess)?))
    }
}

impl Samples for Images {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn shape(&self) -> &[usize] {
        self.0.shape()
    }

    fn read(&self, index: usize, out: &mut [f32]) -> Result<(), SampleError> {
        Ok(self.0.read(index, out)?)
    }

    fn labels(&self) -> Option<&[u32]> {
        self.0.labels()
    }

    fn name(&self) -> String {
        let path = self.0.path();
        path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
    }
}

/// Standard normal numbers, the same for the same seed: something to run a network on where there is no data.
pub struct Noise {
    /// Of one sample.
    pub shape: Vec<usize>,
    /// Samples.
    pub count: usize,
    /// Of everything drawn.
    pub seed: u64,
}

impl Samples for Noise {
    fn len(&self) -> usize {
        self.count
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn read(&self, index: usize, out: &mut [f32]) -> Result<(), SampleError> {
        let mut rng = train::Rng::new(self.seed, index as u64);
        out.iter_mut().for_each(|x| *x = rng.normal());
        Ok(())
    }

    fn labels(&self) -> Option<&[u32]> {
        None
    }

    fn name(&self) -> String {
        format!("{} samples of noise, seed {}", self.count, self.seed)
    }
}

/// How a file says that numbers come into its range; none where it does not.
pub fn preprocess_of(file: &Onnx) -> Option<Preprocess> {
    let entry = file.envelope().metadata_props.iter().find(|e| e.key.as_deref() == Some(PREPROCESS))?;
    serde_json::from_str(entry.value.as_deref()?).ok()
}
