//! `tinier imatrix`: how much each input column matters, in a file that llama-quantize and `compress --imatrix` read.

use crate::cli::{Common, ImatrixArgs};
use crate::progress::Bar;
use crate::{output, source};
use ::plan::CalibrationSpec;
use anyhow::{Context, Result};
use engine::gather_imatrix;
use formats::imatrix::Layout;
use serde::Serialize;

/// What was found.
#[derive(Serialize)]
struct Found {
    output: String,
    matrices: usize,
    windows: u32,
    length: u32,
    /// Tensors with experts that no token reached, and how many these are.
    unseen: Vec<(String, usize)>,
}

pub fn run(args: ImatrixArgs, common: &Common) -> Result<()> {
    let imported = source::open_named(&args.model, common)?;
    let text = args.text.iter().map(|path| path.display().to_string()).collect();
    let spec = CalibrationSpec { text, samples: args.samples, length: args.length, ..CalibrationSpec::default() };
    let calibration = source::calibration(&spec, &imported)?.context("there is no text to run")?;
    let imatrix = gather_imatrix(&imported, &calibration, &Bar::new(common.quiet || common.json))?;
    if args.force && args.output.exists() {
        std::fs::remove_file(&args.output).with_context(|| args.output.display().to_string())?;
    }
    let legacy = args.output.extension().is_some_and(|e| e.eq_ignore_ascii_case("dat"));
    imatrix.write(&args.output, if legacy { Layout::Legacy } else { Layout::Gguf })?;
    let unseen = imatrix.entries.iter().map(|(name, e)| (name.clone(), e.counts.iter().filter(|n| **n == 0).count()));
    let found = Found {
        output: args.output.display().to_string(),
        matrices: imatrix.entries.values().map(|e| e.counts.len()).sum(),
        windows: imatrix.chunks,
        length: imatrix.chunk_size,
        unseen: unseen.filter(|(_, n)| *n > 0).collect(),
    };
    if common.json { output::json(&found) } else { say(&found) }
}

fn say(found: &Found) -> Result<()> {
    let Found { output, matrices, windows, length, unseen } = found;
    for (name, experts) in unseen {
        output::text(&format!("note: no token reached {experts} experts of {name}; give more text"))?;
    }
    output::text(&format!("wrote {output}: {matrices} matrices over {windows} windows of {length} tokens"))
}
