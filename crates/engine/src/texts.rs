//! Reading the texts that a model learns from: plain files, JSON lines, either packed by gzip, and folders of them.

use crate::EngineError;
use crate::provenance::files_below;
use flate2::read::GzDecoder;
use import::tokenizer::Tokenizer;
use rayon::prelude::*;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fs;
use std::io::Read;
use std::path::Path;

/// A file's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextFile {
    /// Its path, as it was named.
    pub name: String,
    /// What it belongs to, where several domains are told apart.
    pub domain: String,
    /// SHA-256 of its bytes, in hex.
    pub sha256: String,
    /// Its contents: all of it, or the texts of all lines, a line's end between two.
    pub text: String,
}

/// Reads a file, or every file below a folder in the order of names. In files that end in `.jsonl` (or `.jsonl.gz`) every
/// line is an object whose `field` is a text.
///
/// # Errors
/// The file, and the byte or line that is no text.
pub fn read_texts(path: &Path, domain: &str, field: &str) -> Result<Vec<TextFile>, EngineError> {
    files_below(path)?.iter().map(|file| read_text(file, domain, field)).collect()
}

fn read_text(path: &Path, domain: &str, field: &str) -> Result<TextFile, EngineError> {
    let failed = |source| EngineError::Read { path: path.into(), source };
    let bytes = fs::read(path).map_err(failed)?;
    let sha256 = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
    let name = path.display().to_string();
    let (bytes, inner) = match name.strip_suffix(".gz") {
        Some(inner) => {
            let mut unpacked = Vec::new();
            GzDecoder::new(&bytes[..]).read_to_end(&mut unpacked).map_err(failed)?;
            (unpacked, inner)
        }
        None => (bytes, name.as_str()),
    };
    let text = import::tokenizer::utf8(path, &bytes)?;
    let text = match inner.ends_with(".jsonl") {
        true => fields(path, text, field)?,
        false => text.to_owned(),
    };
    Ok(TextFile { domain: domain.into(), sha256, text, name })
}

/// The field of every line that is not blank.
fn fields(path: &Path, text: &str, field: &str) -> Result<String, EngineError> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let texts = lines.map(|(i, line)| {
        let object: Option<Value> = serde_json::from_str(line).ok();
        let text = object.as_ref().and_then(|o| o.get(field)).and_then(Value::as_str);
        let wrong = || EngineError::Line { path: path.into(), line: i + 1, field: field.into() };
        text.map(str::to_owned).ok_or_else(wrong)
    });
    Ok(texts.collect::<Result<Vec<_>, _>>()?.join("\n"))
}

/// Letters that are encoded together.
const PIECE: usize = 256 << 10;

/// The ids of a text, encoded in pieces on all threads. Pieces end where lines do.
pub(crate) fn encode(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>, EngineError> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while rest.len() > PIECE {
        let end = rest.as_bytes()[PIECE..].iter().position(|b| *b == b'\n').map_or(rest.len(), |at| PIECE + at + 1);
        let (piece, after) = rest.split_at(end);
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    let ids = pieces.par_iter().map(|piece| tokenizer.encode(piece)).collect::<Result<Vec<_>, _>>()?;
    Ok(ids.concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn folders_lines_and_packed_files_are_read_alike() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        fs::write(at("a.txt"), "one\n").unwrap();
        let lines = "{\"text\": \"two\", \"id\": 1}\n\n{\"text\": \"three\"}\n";
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(lines.as_bytes()).unwrap();
        fs::write(at("b.jsonl.gz"), packed.finish().unwrap()).unwrap();
        let texts = read_texts(home.path(), "both", "text").unwrap();
        assert_eq!(texts.iter().map(|t| t.text.as_str()).collect::<Vec<_>>(), ["one\n", "two\nthree"]);
        assert!(texts.iter().all(|t| t.domain == "both" && t.sha256.len() == 64));
        let says = |e: EngineError| format!("{e}");
        let missing = says(read_texts(&at("b.jsonl.gz"), "", "body").unwrap_err());
        assert!(missing.contains("b.jsonl.gz: line 1") && missing.contains("`body`"), "{missing}");
        fs::write(at("c.txt"), b"ok \xff").unwrap();
        let bytes = says(read_texts(&at("c.txt"), "", "text").unwrap_err());
        assert!(bytes.contains("c.txt: byte 3 is not UTF-8"), "{bytes}");
        fs::write(at("d.gz"), b"not packed").unwrap();
        assert!(matches!(read_texts(&at("d.gz"), "", "text"), Err(EngineError::Read { .. })));
    }
}
