//! What networks are measured, calibrated and trained on: sets of samples as the readers give them.

use calib::{Batch, Samples};
use exec::{Examples, Intake, SampleError};
use formats::images::{Feed, Preprocess, Set};
use formats::onnx::Onnx;
use graph::Graph;
use std::ops::Range;
use std::path::PathBuf;

/// The key under which an ONNX file says how numbers come into its range.
pub const PREPROCESS: &str = "tinier.preprocess";

/// Why samples cannot be given to a network.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ImagesError {
    #[error(transparent)]
    Set(#[from] formats::images::Error),
    #[error(transparent)]
    Intake(#[from] exec::Error),
}

/// A set of samples, fitted to a network.
#[derive(Debug)]
pub struct Images {
    feed: Feed,
    intake: Intake,
    name: String,
}

impl Images {
    /// Opens sets, one behind the other, for a network with one input.
    ///
    /// # Errors
    /// Files that cannot be read, samples that do not fit the network.
    pub fn open(paths: &[PathBuf], graph: &Graph, preprocess: &Preprocess) -> Result<Images, ImagesError> {
        let intake = Intake::of(graph)?;
        let feed = Set::open_all(paths)?.fit(&intake.shape, preprocess)?;
        let name = feed.path().file_name().unwrap_or(feed.path().as_os_str()).to_string_lossy().into_owned();
        Ok(Images { feed, intake, name })
    }
}

impl Examples for Images {
    fn len(&self) -> usize {
        self.feed.len()
    }

    fn shape(&self) -> &[usize] {
        self.feed.shape()
    }

    fn read(&self, index: usize, out: &mut [f32]) -> Result<(), SampleError> {
        Ok(self.feed.read(index, out)?)
    }

    fn labels(&self) -> Option<&[u32]> {
        self.feed.labels()
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

impl Samples for Images {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> usize {
        self.feed.len()
    }

    fn batch(&self, range: Range<usize>) -> Result<Batch, SampleError> {
        let indices: Vec<usize> = range.clone().collect();
        let inputs = vec![self.intake.batch(self, &indices)?];
        Ok(Batch { inputs, labels: self.feed.labels().and_then(|l| l.get(range)).unwrap_or_default().to_vec() })
    }
}

/// How a file says that numbers come into its range; none where it does not.
pub fn preprocess_of(file: &Onnx) -> Option<Preprocess> {
    let entry = file.envelope().metadata_props.iter().find(|e| e.key.as_deref() == Some(PREPROCESS))?;
    serde_json::from_str(entry.value.as_deref()?).ok()
}
