//! `tinier convert`: the same numbers in another container, or why not.

use super::options;
use crate::cli::{Common, Convert};
use crate::progress::Bar;
use crate::{output, source};
use ::plan::Bytes;
use anyhow::Result;
use serde_json::json;

pub fn run(args: Convert, common: &Common) -> Result<()> {
    let imported = source::open_named(&args.model, common)?;
    let bar = Bar::new(common.quiet || common.json);
    let options = engine::Options { replace: args.force, ..options(common, None) };
    let done = engine::convert(&imported, args.to, &args.output, &options, &bar)?;
    if common.json {
        return output::json(&json!({
            "files": done.files, "weights": done.weights, "encodings": done.encodings, "bytes": done.bytes,
            "notes": done.notes,
        }));
    }
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let encodings: Vec<String> = done.encodings.iter().map(|(encoding, n)| format!("{n} {encoding}")).collect();
    let files: Vec<String> = done.files.iter().map(|f| f.display().to_string()).collect();
    let mut rows = vec![
        row("wrote", format!("{} ({})", files.join(", "), Bytes(done.bytes))),
        row("weights", encodings.join(", ")),
        row("checked", format!("all {} weights decode to the same numbers", done.weights)),
    ];
    rows.extend(done.notes.into_iter().map(|note| row("note", note)));
    output::text(&output::table(&rows, &[]))
}
