//! What people and programs are told: text or JSON on standard output, errors and their chain on standard error.

use anyhow::{Error, Result};
use engine::EngineError;
use plan::Violation;
use serde::Serialize;
use std::io::{ErrorKind, Write};
use std::process::ExitCode;

/// The artifact was sound but missed a bound.
const EXIT_GATES: u8 = 3;
/// `verify` found the artifact broken.
const EXIT_BROKEN: u8 = 4;

/// A bound that was missed where no artifact is made.
#[derive(Debug, thiserror::Error)]
#[error("the artifact misses its bounds: {}", .0.iter().map(Violation::to_string).collect::<Vec<_>>().join("; "))]
pub struct Missed(pub Vec<Violation>);

/// An artifact that is not what its loader expects.
#[derive(Debug, thiserror::Error)]
#[error("the artifact is broken: {0}")]
pub struct Broken(pub EngineError);

/// Prints a document as JSON.
pub fn json(document: &impl Serialize) -> Result<()> {
    text(&serde_json::to_string_pretty(document)?)
}

/// Prints a line, or several. A reader that has gone away is no error.
pub fn text(lines: &str) -> Result<()> {
    match writeln!(std::io::stdout().lock(), "{lines}") {
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(()),
        done => Ok(done?),
    }
}

/// Says what went wrong, and gives the exit code for it.
pub fn fail(error: &Error, json: bool) -> ExitCode {
    let mut chain: Vec<String> = Vec::new();
    for link in error.chain().map(ToString::to_string) {
        // Errors that quote their source are not said twice.
        if chain.last().is_none_or(|before| !before.contains(&link)) {
            chain.push(link);
        }
    }
    let said = chain.join(": ");
    let line = if json { serde_json::json!({ "error": said }).to_string() } else { format!("error: {said}") };
    let _ = writeln!(std::io::stderr().lock(), "{line}");
    ExitCode::from(code(error))
}

fn code(error: &Error) -> u8 {
    let gates = matches!(error.downcast_ref(), Some(EngineError::Gates { .. })) || error.is::<Missed>();
    match gates {
        true => EXIT_GATES,
        false if error.is::<Broken>() => EXIT_BROKEN,
        false => 1,
    }
}

/// Rows with columns wide enough for all of them; columns in `right` are flush right.
pub fn table(rows: &[Vec<String>], right: &[usize]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|s| s.chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate().map(|(c, (cell, w))| match right.contains(&c) {
            true => format!("{cell:>w$}"),
            false => format!("{cell:<w$}"),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}
