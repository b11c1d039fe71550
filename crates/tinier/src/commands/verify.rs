//! `tinier verify`: an artifact looked at again.

use super::{options, proof_spec};
use crate::cli::{Common, Verify};
use crate::output::{Broken, Missed};
use crate::progress::Bar;
use crate::{output, source};
use ::plan::{Bytes, ProofSpec};
use anyhow::Result;
use engine::EngineError;
use serde_json::json;
use std::path::Path;

pub fn run(args: Verify, common: &Common) -> Result<()> {
    let bar = Bar::new(common.quiet || common.json);
    let reference = args.reference.as_deref().map(|name| source::open_named(name, common)).transpose()?;
    let text = match &reference {
        Some(reference) => source::text(args.text.text.as_deref(), reference, common, &bar)?,
        None => None,
    };
    let spec = proof_spec(&args.text, &args.gates, &ProofSpec::default());
    let options = options(common, text.as_ref());
    let found = engine::verify(Path::new(&args.artifact), reference.as_ref(), &spec, &options, &bar).map_err(broken)?;
    if common.json {
        output::json(&json!({"proof": found.proof, "tensors": found.tensors, "violations": found.violations}))?;
    } else {
        let row = |name: &str, value: String| vec![name.to_owned(), value];
        let size = format!("{}, {:.2} bits per weight", Bytes(found.proof.bytes), found.proof.bpw);
        let checks = found.proof.checks.iter().map(|c| row("checked", format!("{}, {}", c.name, c.over)));
        let lost = found.proof.quality.iter().flat_map(super::compress::lost);
        output::text(&output::table(
            &[row("size", size)].into_iter().chain(lost).chain(checks).collect::<Vec<_>>(),
            &[],
        ))?;
    }
    if found.violations.is_empty() { Ok(()) } else { Err(Missed(found.violations).into()) }
}

/// What says that the artifact itself is at fault.
fn broken(error: EngineError) -> anyhow::Error {
    match error {
        EngineError::Import(_) | EngineError::Contract { .. } | EngineError::Reopen { .. } | EngineError::Source(_) => {
            Broken(error).into()
        }
        other => other.into(),
    }
}
