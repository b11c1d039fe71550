//! The text of a training run: read, tokenizer trained (once) or taken from the record, turned into ids.

use super::{Steps, TrainingError, TrainingEvent, TrainingRecipe, Windows};
use flate2::read::GzDecoder;
use formats::atomic::write_file;
use import::tokenizer::Tokenizer;
use rayon::prelude::*;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use train::Batches;

pub const TOKENIZER: &str = "tokenizer.json";

/// The ids of both texts.
pub struct Texts {
    pub train: Vec<u32>,
    pub valid: Vec<u32>,
    paths: [PathBuf; 2],
}

/// Reads both texts and turns them into ids.
pub fn prepare(
    recipe: &TrainingRecipe,
    data: &Path,
    record: &Path,
    hear: &mut dyn FnMut(TrainingEvent<'_>),
) -> Result<Texts, TrainingError> {
    let paths = [data.join(&recipe.data.train), data.join(&recipe.data.valid)];
    let train = read(&paths[0])?;
    let file = record.join(TOKENIZER);
    if !file.exists() {
        hear(TrainingEvent::Stage("training the tokenizer"));
        let json = train::tokenizer::train_bpe(train.lines(), recipe.tokenizer.vocab)?;
        write_file(&file, json.as_bytes())?;
    }
    hear(TrainingEvent::Stage("encoding the text"));
    let json = fs::read(&file).map_err(|e| TrainingError::io(&file, e))?;
    let tokenizer = Tokenizer::from_json(&file, json)?;
    let valid = read(&paths[1])?;
    Ok(Texts { train: encode(&tokenizer, &train)?, valid: encode(&tokenizer, &valid)?, paths })
}

impl Texts {
    /// The windows of both.
    pub fn batches(&self, steps: &Steps) -> Result<Windows<'_>, TrainingError> {
        Ok(Windows {
            train: windows(&self.train, &self.paths[0], steps)?,
            valid: windows(&self.valid, &self.paths[1], steps)?,
        })
    }
}

fn windows<'a>(tokens: &'a [u32], path: &Path, steps: &Steps) -> Result<Batches<'a>, TrainingError> {
    let short = || TrainingError::ShortText { path: path.into(), tokens: tokens.len(), context: steps.context };
    Batches::new(tokens, steps.context, steps.seed).ok_or_else(short)
}

/// A text file, unpacked if it ends in `.gz`.
fn read(path: &Path) -> Result<String, TrainingError> {
    let error = |e| TrainingError::io(path, e);
    let bytes = fs::read(path).map_err(error)?;
    if path.extension().is_none_or(|e| e != "gz") {
        return Ok(import::tokenizer::utf8(path, &bytes)?.to_owned());
    }
    let mut text = String::new();
    GzDecoder::new(&bytes[..]).read_to_string(&mut text).map_err(error)?;
    Ok(text)
}

/// Encodes line by line on all threads; the pre-tokenizer never joins a line's end with what follows.
fn encode(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>, TrainingError> {
    let lines: Vec<_> = text.split_inclusive('\n').collect();
    let parts: Vec<_> = lines
        .par_chunks(1024)
        .map(|lines| lines.iter().map(|line| tokenizer.encode(line)).collect::<Result<Vec<_>, _>>())
        .collect::<Result<_, _>>()?;
    Ok(parts.into_iter().flatten().flatten().collect())
}
