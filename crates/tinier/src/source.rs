//! Finding the model that a command names: a path, a hub id, or the model that is shipped.

use crate::cli::{Common, Source};
use crate::progress::Bar;
use ::plan::CalibrationSpec;
use anyhow::{Context, Result, bail};
use engine::{Calibration, Progress, Unit};
use import::Imported;
use import::hub::{DEFAULT_REVISION, is_model_id};
use std::path::{Path, PathBuf};

const SHIPPED: &str = "models/novels-4m";

/// Opens the model, fetching it first where it is an id.
pub fn open(source: &Source, common: &Common) -> Result<Imported> {
    match &source.model {
        Some(name) => open_named(name, common),
        None => Ok(import::open(&shipped()?)?),
    }
}

/// Opens a path, or fetches an id and opens that.
pub fn open_named(name: &str, common: &Common) -> Result<Imported> {
    let path = Path::new(name);
    if !path.exists() && is_model_id(name) {
        let mut bar = Download(Bar::new(common.quiet));
        let folder = import::hub::fetch(name, DEFAULT_REVISION, &mut bar)
            .with_context(|| format!("`{name}` is no file or folder here, so it was looked up as a model id"))?;
        return Ok(import::open(&folder)?);
    }
    Ok(import::open(path)?)
}

/// The folder of the shipped model: in a folder above this one, above the program, or where it was built.
fn shipped() -> Result<PathBuf> {
    let above = |path: Option<PathBuf>| {
        path.map(|p| p.ancestors().map(Path::to_path_buf).collect::<Vec<_>>()).unwrap_or_default()
    };
    let mut folders = above(std::env::current_dir().ok());
    folders.extend(above(std::env::current_exe().ok()));
    folders.push(PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")));
    match folders.into_iter().map(|f| f.join(SHIPPED)).find(|f| f.join("config.json").exists()) {
        Some(folder) => Ok(folder),
        None => bail!("the shipped model {SHIPPED} is not above this folder or the program; name a model"),
    }
}

/// What the model is called in names of files.
pub fn name_of(imported: &Imported) -> String {
    let stem = if imported.path.is_dir() { imported.path.file_name() } else { imported.path.file_stem() };
    let hub = imported.path.components().find_map(|c| c.as_os_str().to_str()?.strip_prefix("models--"));
    match hub.and_then(|h| h.split("--").last()) {
        Some(model) => model.to_owned(),
        None => stem.map_or("model".into(), |s| s.to_string_lossy().into_owned()),
    }
}

/// The text to measure on: the user's, or what the source itself says.
pub fn text(file: Option<&Path>, source: &Imported, common: &Common, bar: &Bar) -> Result<Option<engine::Text>> {
    if let Some(path) = file {
        return read_text(path).map(Some);
    }
    if source.model.decoder().is_none() {
        return Ok(None);
    }
    Ok(Some(engine::sampled_text(source, common.seed, bar)?))
}

/// What methods learn from, as far as a recipe names any.
pub fn calibration(spec: &CalibrationSpec, source: &Imported) -> Result<Option<Calibration>> {
    if spec.text.is_empty() {
        return Ok(None);
    }
    if let [path] = &spec.text[..]
        && path.ends_with(".json")
    {
        let path = Path::new(path);
        return Ok(Some(Calibration::from_selection(source, path, &read_text(path)?.text)?));
    }
    let mut texts = Vec::new();
    for path in &spec.text {
        let files = engine::read_texts(Path::new(path), "", "text")?;
        texts.extend(files.into_iter().map(|file| engine::Text { name: file.name, text: file.text }));
    }
    Ok(Some(Calibration::of(source, &texts, spec)?))
}

fn read_text(path: &Path) -> Result<engine::Text> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read the text {}", path.display()))?;
    let name = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    Ok(engine::Text { name, text: import::tokenizer::utf8(path, &bytes)?.to_owned() })
}

struct Download(Bar);

impl import::hub::Progress for Download {
    fn start(&mut self, file: &str, bytes: u64) {
        self.0.begin(file, bytes, Unit::Bytes);
    }

    fn advance(&mut self, bytes: u64) {
        Progress::advance(&self.0, bytes);
    }

    fn finish(&mut self) {
        self.0.end();
    }
}
