//! Encoded weights of a run on its way, so that a run that is killed goes on where it was.
//!
//! A folder `<artifact>.checkpoint` beside the artifact holds, for every run of nodes that is done, a safetensors file
//! with the parts of its weights (`<weight>/<part>`) and the scales of its channels (`/<fold>`), and then, as the sign
//! that it is whole, a JSON file that says how they were made. The folder belongs to one run: `run.json` holds a hash of all that its bytes depend on.

use crate::EngineError;
use codec::{Dtype, Encoding, Part, PartSpec};
use formats::atomic::{WriteError, write_file};
use formats::safetensors::{Safetensors, TensorSpec, Writer};
use graph::{Source, SourceError, Weight};
use passes::quantize::sequential::{Job, Scales, Solved};
use plan::Method;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// See the module.
pub(crate) struct Checkpoint {
    folder: PathBuf,
}

/// How a weight was encoded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub name: String,
    pub encoding: String,
    pub method: Method,
    /// Rows of calibration text that it was fitted to.
    pub tokens: u64,
    pub notes: Vec<String>,
}

/// An encoded weight that lies in a checkpoint.
pub(crate) struct Kept {
    pub record: Record,
    pub source: Arc<dyn Source>,
}

/// A run of nodes that is done.
pub(crate) struct Done {
    pub scales: Scales,
    pub weights: Vec<Kept>,
}

#[derive(PartialEq, Serialize, Deserialize)]
struct Run {
    hash: String,
}

/// What lies beside the numbers of a run of nodes.
#[derive(Serialize, Deserialize)]
struct Contents {
    weights: Vec<Record>,
    /// Which folds have scales.
    scaled: Vec<bool>,
}

impl Checkpoint {
    /// The checkpoint of the artifact at `out` for a run with this hash: a new one, or the one that is there.
    pub fn open(out: &Path, hash: &str, replace: bool) -> Result<Checkpoint, EngineError> {
        let mut name = out.as_os_str().to_owned();
        name.push(".checkpoint");
        let folder = PathBuf::from(name);
        let run = folder.join("run.json");
        if folder.exists() && read::<Run>(&run)?.is_none_or(|found| found.hash != hash) {
            if !replace {
                return Err(EngineError::OtherCheckpoint { path: folder });
            }
            fs::remove_dir_all(&folder).map_err(|e| WriteError::io(&folder, e))?;
        }
        if !folder.exists() {
            fs::create_dir(&folder).map_err(|e| WriteError::io(&folder, e))?;
            write(&run, &Run { hash: hash.into() })?;
        }
        Ok(Checkpoint { folder })
    }

    /// Where other files of the run may wait.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The `n`-th run of nodes, if it is done.
    pub fn load(&self, n: usize, find: impl Fn(&str) -> Option<Arc<Weight>>) -> Result<Option<Done>, EngineError> {
        let (tensors, contents) = self.paths(n);
        let Some(Contents { weights, scaled }) = read::<Contents>(&contents)? else { return Ok(None) };
        if weights.is_empty() && !scaled.contains(&true) {
            return Ok(Some(Done { scales: vec![None; scaled.len()], weights: Vec::new() }));
        }
        let broken = |why: String| EngineError::Checkpoint { path: tensors.clone(), why };
        let file = Arc::new(Safetensors::open(&tensors).map_err(|e| broken(e.to_string()))?);
        let kept = |record: Record| {
            let weight = find(&record.name).ok_or_else(|| broken(format!("`{}` is not in the model", record.name)))?;
            let encoding = plan::encoding(&record.encoding).map_err(|e| broken(e.to_string()))?;
            let source = Filed { file: file.clone(), encoding, weight };
            Ok::<_, EngineError>(Kept { record, source: Arc::new(source) })
        };
        let missing = |fold: usize| broken(format!("the scales {fold} are not there"));
        let numbers = |bytes: &[u8]| bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        let scale = |fold| file.bytes(&scale_name(fold)).map(numbers).ok_or_else(|| missing(fold));
        let scales = scaled.iter().enumerate().map(|(fold, has)| has.then(|| scale(fold)).transpose());
        let scales = scales.collect::<Result<_, _>>()?;
        Ok(Some(Done { scales, weights: weights.into_iter().map(kept).collect::<Result<_, _>>()? }))
    }

    /// Keeps the scales and weights of the `n`-th run of nodes.
    pub fn save(&self, n: usize, scales: &Scales, solved: &[(Record, Vec<Part>)]) -> Result<(), EngineError> {
        let (tensors, contents) = self.paths(n);
        // Files of a run that was killed between the two are made anew.
        if tensors.exists() {
            fs::remove_file(&tensors).map_err(|e| WriteError::io(&tensors, e))?;
        }
        let named = |(record, parts): &'_ (Record, Vec<Part>)| {
            parts.iter().map(|p| (format!("{}/{}", record.name, p.spec.suffix), p.clone())).collect::<Vec<_>>()
        };
        let scale = |(fold, scale): (usize, &Option<Vec<f32>>)| Some((scale_name(fold), numbers(scale.as_ref()?)));
        let scales_named = scales.iter().enumerate().filter_map(scale);
        let parts: Vec<(String, Part)> = solved.iter().flat_map(named).chain(scales_named).collect();
        if !parts.is_empty() {
            let spec = |(name, p): &(String, Part)| TensorSpec {
                name: name.clone(),
                dtype: p.spec.dtype,
                shape: p.spec.shape.clone(),
            };
            let mut writer = Writer::file(&tensors, &parts.iter().map(spec).collect::<Vec<_>>())?;
            parts.iter().try_for_each(|(name, part)| writer.write(name, &part.bytes))?;
            writer.finish()?;
        }
        let weights = solved.iter().map(|(record, _)| record.clone()).collect();
        write(&contents, &Contents { weights, scaled: scales.iter().map(Option::is_some).collect() })
    }

    /// Removes it: the artifact is there.
    pub fn remove(self) -> Result<(), EngineError> {
        fs::remove_dir_all(&self.folder).map_err(|e| WriteError::io(&self.folder, e).into())
    }

    fn paths(&self, n: usize) -> (PathBuf, PathBuf) {
        let with = |extension| self.folder.join(format!("part-{n:05}.{extension}"));
        (with("safetensors"), with("json"))
    }
}

/// No weight has such a name.
fn scale_name(fold: usize) -> String {
    format!("/{fold}")
}

fn numbers(scale: &[f32]) -> Part {
    let bytes = scale.iter().flat_map(|s| s.to_le_bytes()).collect();
    Part { spec: PartSpec { suffix: "scale", dtype: Dtype::F32, shape: vec![scale.len()] }, bytes }
}

impl Record {
    /// What is worth keeping of a solved weight.
    pub fn of(name: &str, solved: &Solved) -> Record {
        let Job { encoding, method, .. } = solved.job;
        let encoding = plan::encoding_name(&encoding);
        Record { name: name.into(), encoding, method, tokens: solved.tokens, notes: solved.notes.clone() }
    }
}

/// The parts of a weight in a file.
struct Filed {
    file: Arc<Safetensors>,
    encoding: Encoding,
    weight: Arc<Weight>,
}

impl Filed {
    fn part(&self, suffix: &str) -> Result<&[u8], SourceError> {
        let missing = || SourceError::Read { name: self.weight.name.clone(), why: format!("`{suffix}` is not there") };
        self.file.bytes(&format!("{}/{suffix}", self.weight.name)).ok_or_else(missing)
    }
}

impl Source for Filed {
    fn rows(&self, rows: Range<usize>) -> Result<Cow<'_, [u8]>, SourceError> {
        let name = self.weight.name.clone();
        if matches!(self.encoding, Encoding::Packed(_)) {
            return Err(SourceError::NotByRows { name, encoding: self.encoding.to_string() });
        }
        let (bytes, count) = (self.part("weight")?, self.weight.rows());
        let row = bytes.len() / count.max(1);
        let outside = SourceError::Rows { name, start: rows.start, end: rows.end, rows: count };
        bytes.get(rows.start * row..rows.end * row).map(Cow::Borrowed).ok_or(outside)
    }

    fn parts(&self) -> Result<Vec<Cow<'_, [u8]>>, SourceError> {
        let codec = |source| SourceError::Codec { name: self.weight.name.clone(), source };
        let specs = self.encoding.parts(self.weight.rows(), self.weight.cols()).map_err(codec)?;
        specs.iter().map(|spec| self.part(spec.suffix).map(Cow::Borrowed)).collect()
    }
}

fn read<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Option<T>, EngineError> {
    let text = match fs::read_to_string(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(|source| EngineError::Read { path: path.into(), source })?,
    };
    let broken = |e: serde_json::Error| EngineError::Checkpoint { path: path.into(), why: e.to_string() };
    serde_json::from_str(&text).map(Some).map_err(broken)
}

fn write<T: Serialize>(path: &Path, value: &T) -> Result<(), EngineError> {
    let text = serde_json::to_string_pretty(value).unwrap_or_default();
    Ok(write_file(path, text.as_bytes())?)
}
