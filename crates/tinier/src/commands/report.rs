//! `tinier report`: a page from its JSON.

use crate::cli::{Common, ReportArgs};
use crate::output;
use anyhow::{Context, Result};
use report::Report;

pub fn run(args: ReportArgs, common: &Common) -> Result<()> {
    let report = Report::from_json(&super::read(&args.report)?).with_context(|| args.report.display().to_string())?;
    if common.json {
        return output::json(&report);
    }
    let page = args.output.unwrap_or_else(|| args.report.with_extension("html"));
    formats::atomic::write_file(&page, report.to_html().as_bytes())?;
    output::text(&format!("wrote {}", page.display()))
}
