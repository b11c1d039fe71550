//! Checkpoints: one safetensors file each, named by its step, with every weight and its moments in f32.

use super::TrainingError;
use codec::Dtype;
use formats::safetensors::{Safetensors, TensorSpec, Writer};
use std::path::{Path, PathBuf};
use train::{Moments, State};

const PREFIX: &str = "checkpoint-";
const SUFFIX: &str = ".safetensors";
const PARTS: [&str; 3] = ["weight", "first", "second"];

/// Writes the checkpoint of a step, then removes older ones.
pub fn save(folder: &Path, step: usize, state: &[State]) -> Result<(), TrainingError> {
    let parts = |s: &State| [s.weight.clone(), s.moments.first.clone(), s.moments.second.clone()];
    let spec = |s: &State, part: &str, length: usize| TensorSpec {
        name: format!("{part}.{}", s.name),
        dtype: Dtype::F32,
        shape: vec![length],
    };
    let specs = |s: &State| -> Vec<TensorSpec> {
        PARTS.iter().zip(parts(s)).map(|(part, numbers)| spec(s, part, numbers.len())).collect()
    };
    let specs: Vec<_> = state.iter().flat_map(specs).collect();
    let path = folder.join(format!("{PREFIX}{step:08}{SUFFIX}"));
    let mut writer = Writer::file(&path, &specs)?;
    for line in state {
        for (part, numbers) in PARTS.iter().zip(parts(line)) {
            let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
            writer.write(&format!("{part}.{}", line.name), &bytes)?;
        }
    }
    writer.finish()?;
    for (old, path) in all(folder)? {
        if old < step {
            std::fs::remove_file(&path).map_err(|e| TrainingError::io(&path, e))?;
        }
    }
    Ok(())
}

/// The latest checkpoint, if there is one, with the weights in the order of `names`.
pub fn latest(folder: &Path, names: &[String]) -> Result<Option<(usize, Vec<State>)>, TrainingError> {
    let Some((step, path)) = all(folder)?.into_iter().max() else { return Ok(None) };
    let file = Safetensors::open(&path)?;
    let read = |part: &str, name: &str| {
        let name = format!("{part}.{name}");
        let bytes = file.bytes(&name).ok_or(TrainingError::Checkpoint { path: path.clone(), name })?;
        Ok::<Vec<f32>, TrainingError>(bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
    };
    let line = |name: &String| {
        let [weight, first, second] = [read(PARTS[0], name)?, read(PARTS[1], name)?, read(PARTS[2], name)?];
        Ok(State { name: name.clone(), weight, moments: Moments { first, second } })
    };
    Ok(Some((step, names.iter().map(line).collect::<Result<_, TrainingError>>()?)))
}

fn all(folder: &Path) -> Result<Vec<(usize, PathBuf)>, TrainingError> {
    let entries = std::fs::read_dir(folder).map_err(|e| TrainingError::io(folder, e))?;
    let step = |path: &Path| {
        let name = path.file_name()?.to_str()?;
        name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.parse().ok()
    };
    Ok(entries.flatten().filter_map(|e| Some((step(&e.path())?, e.path()))).collect())
}
