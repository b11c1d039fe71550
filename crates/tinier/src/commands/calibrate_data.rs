//! `tinier calibrate-data`: choosing the text that a model is calibrated on, and keeping the choice with where it came from.

use crate::cli::{CalibrateData, Common};
use crate::progress::Bar;
use crate::{output, source};
use anyhow::{Context, Result, anyhow};
use engine::data::{Choice, Coverage, Selection};
use engine::{Texts, read_texts};
use formats::atomic::{WriteError, write_file};
use import::Imported;
use serde::Serialize;
use std::path::Path;

/// Tokens of a window where the model was made for more.
const LENGTH: usize = 512;

/// What is said of a choice.
#[derive(Serialize)]
struct Report {
    output: String,
    windows: usize,
    of: usize,
    length: usize,
    coverage: Coverage,
    /// What random windows would have covered, seed by seed.
    random: Vec<Coverage>,
}

pub fn run(args: CalibrateData, common: &Common) -> Result<()> {
    let imported = source::open_named(&args.model, common)?;
    let bar = Bar::new(common.quiet || common.json);
    let mut files = Vec::new();
    for word in &args.texts {
        let (domain, path) = domain_of(word);
        files.extend(read_texts(Path::new(path), domain, &args.field)?);
    }
    let length = args.length.unwrap_or_else(|| imported.model.decoder().map_or(LENGTH, |c| c.context.min(LENGTH)));
    let texts = Texts::new(&imported, &files, length, &bar)?;
    let choice = Choice { method: args.method, mix: args.mix, samples: args.samples, seed: common.seed };
    let mut selection = texts.choose(choice, args.block.unwrap_or_else(|| middle(&imported)), &bar)?;
    selection.random = texts.at_random(choice, args.compare_seeds)?;
    write(&args, &selection)?;
    let output = args.output.display().to_string();
    let (windows, coverage) = (selection.windows.len(), selection.coverage);
    let report = Report { output, windows, of: texts.windows(), length, coverage, random: selection.random };
    if common.json { output::json(&report) } else { say(&report) }
}

/// `NAME=PATH`, or a path that is a domain of its own.
fn domain_of(word: &str) -> (&str, &str) {
    match word.split_once('=') {
        Some((name, path)) if !Path::new(word).exists() => (name, path),
        _ => (word, word),
    }
}

fn middle(imported: &Imported) -> usize {
    imported.model.graph().map_or(0, |graph| graph.blocks().len().saturating_sub(1) / 2)
}

fn write(args: &CalibrateData, selection: &Selection) -> Result<()> {
    if args.force && args.output.exists() {
        std::fs::remove_file(&args.output).with_context(|| args.output.display().to_string())?;
    }
    write_file(&args.output, serde_json::to_string(selection)?.as_bytes()).map_err(|error| match error {
        WriteError::Exists { .. } => anyhow!("{error}, or replace it with --force"),
        error => error.into(),
    })
}

fn say(report: &Report) -> Result<()> {
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let Report { output, windows, of, length, coverage, random } = report;
    let mut rows = vec![
        row("chosen", format!("{windows} of {of} windows of {length} tokens")),
        row("vocabulary", format!("{} of the text's {} different words", coverage.words, coverage.of)),
        row("of the rest", share(coverage)),
    ];
    if let (Some(least), Some(most)) = (best(random, false), best(random, true)) {
        let seeds = random.len();
        rows.push(row("at random", format!("{} to {} words over {seeds} seeds", least.words, most.words)));
        rows.push(row("of the rest", format!("{}; at best {}", share(least), share(most))));
    }
    output::text(&format!("{}\nwrote {output}", output::table(&rows, &[])))
}

fn share(coverage: &Coverage) -> String {
    format!(
        "{:.2} % of the words, {:.3} % of the tokens were seen",
        100.0 * coverage.rest,
        100.0 * coverage.rest_tokens
    )
}

fn best(all: &[Coverage], most: bool) -> Option<&Coverage> {
    let order = |a: &&Coverage, b: &&Coverage| a.words.cmp(&b.words);
    if most { all.iter().max_by(order) } else { all.iter().min_by(order) }
}
