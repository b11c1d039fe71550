//! Calibration text: what methods learn from that choose codes by what flows through a model.

use crate::{EngineError, Options, Text};
use graph::Model;
use import::Imported;
use plan::{CalibratedOn, CalibrationSpec, ChosenText, Learning};

/// Windows of text, as ids.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Calibration {
    /// What they were taken from, for the record.
    pub name: String,
    /// Token ids, all windows of one length.
    pub windows: Vec<Vec<u32>>,
    /// What the choice of the windows was worth, where one was made.
    pub chosen: Option<ChosenText>,
}

/// Windows where a recipe does not say how many.
const SAMPLES: usize = 128;
/// Tokens of a window where a recipe does not say, and the model was made for more.
const LENGTH: usize = 512;
/// Bytes of values between blocks that may wait in memory; more wait in files.
const WAITING: u64 = 320 << 20;

/// Text that is tokenized at once: tokenizers take a hundred times the memory of what they read.
const PIECE: usize = 256 << 10;

/// Cuts a text behind the first line end after every so many bytes.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let line_end = rest.bytes().skip(PIECE).position(|b| b == b'\n');
        let (piece, behind) = rest.split_at(line_end.map_or(rest.len(), |at| PIECE + at + 1));
        rest = behind;
        (!piece.is_empty()).then_some(piece)
    })
}

impl Calibration {
    /// Windows at even distances over texts, laid one after the other. Fails where they hold too few.
    pub fn of(imported: &Imported, texts: &[Text], spec: &CalibrationSpec) -> Result<Calibration, EngineError> {
        let tokenizer = imported.tokenizer()?;
        let limit = imported.model.decoder().map_or(LENGTH, |config| config.context);
        let length = spec.length.unwrap_or(LENGTH.min(limit)).clamp(1, limit);
        let samples = spec.samples.unwrap_or(SAMPLES).max(1);
        let mut ids = Vec::new();
        for text in texts {
            for piece in pieces(&text.text) {
                ids.extend(tokenizer.encode(piece)?);
            }
        }
        let name = texts.iter().map(|t| t.name.as_str()).collect::<Vec<_>>().join(", ");
        let bos = tokenizer.bos().filter(|_| tokenizer.add_bos());
        let body = length - usize::from(bos.is_some() && length > 1);
        let most = ids.len() / body.max(1);
        if most < samples {
            return Err(EngineError::CalibrationTooShort { name, samples, length, most });
        }
        let window = |i: usize| {
            let first = i * most / samples * body;
            bos.into_iter().chain(ids[first..first + body].iter().copied()).collect()
        };
        Ok(Calibration { name, windows: (0..samples).map(window).collect(), chosen: None })
    }

    /// What a journal says of it.
    pub(crate) fn record(&self) -> CalibratedOn {
        let length = self.windows.first().map_or(0, Vec::len);
        CalibratedOn { name: self.name.clone(), windows: self.windows.len(), length, chosen: self.chosen.clone() }
    }

    /// What a planner needs to know of it.
    pub(crate) fn learning(&self, model: &Model, options: &Options<'_>) -> Learning {
        let length = self.windows.first().map_or(0, Vec::len);
        let together = calib::windows_together(length).min(self.windows.len());
        let (tokens, batch) = ((length * self.windows.len()) as u64, (length * together) as u64);
        let may_wait = options.max_memory.map_or(WAITING, |limit| (limit.0 / 8).min(WAITING));
        Learning { tokens, batch, spill: 2 * plan::waiting_bytes(model, tokens) > may_wait, refines: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_the_text_and_end_with_lines() {
        let text = "a line of é words\n".repeat(40_000) + "end";
        let pieces: Vec<&str> = pieces(&text).collect();
        assert!(pieces.len() > 2 && pieces.concat() == text);
        assert!(pieces[..pieces.len() - 1].iter().all(|p| p.ends_with('\n') && p.len() < PIECE + 100));
    }
}
