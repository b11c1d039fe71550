//! A run as a person reads it: plan, journal and measurements, to JSON and to one self-contained HTML page.
//!
//! Computes nothing that was not measured: it only adds up, sorts and draws.

mod chart;
mod network;
mod page;
pub mod text;

use plan::{Journal, Plan};
use serde::{Deserialize, Serialize};

/// What a run planned and what it measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Every decision.
    pub plan: Plan,
    /// What happened.
    pub journal: Journal,
}

/// Why a file is not a report.
#[derive(Debug, thiserror::Error)]
#[error("not a report that this version wrote: {0}")]
pub struct ReportError(#[from] serde_json::Error);

impl Report {
    /// Bytes of the source's weights; a plan behind steps counts those that they left.
    pub fn bytes_before(&self) -> u64 {
        self.journal.network.as_ref().map_or(self.plan.bytes_before(), |network| network.before.bytes)
    }

    /// Reads what [`Report::to_json`] wrote.
    pub fn from_json(text: &str) -> Result<Report, ReportError> {
        Ok(serde_json::from_str(text)?)
    }

    /// The report as JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// The report as one HTML page without scripts or outside resources.
    pub fn to_html(&self) -> String {
        page::page(self).into_string()
    }
}
