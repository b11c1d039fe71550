//! Progress on a terminal; silence elsewhere. Nothing is drawn for what is over within a second.

use engine::{Progress, Unit};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// A bar on standard error that appears when a stage takes longer than a second.
pub struct Bar {
    shown: bool,
    stage: Mutex<Option<Stage>>,
}

struct Stage {
    bar: ProgressBar,
    since: Instant,
    hidden: bool,
}

impl Bar {
    /// Draws only where standard error is a terminal and the user has not asked for quiet.
    pub fn new(quiet: bool) -> Bar {
        Bar { shown: !quiet && std::io::stderr().is_terminal(), stage: Mutex::new(None) }
    }

    /// Begins a stage with a style of its own.
    pub fn stage(&self, name: &str, total: u64, amounts: &str) {
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden());
        let template = match total {
            0 => format!("{{spinner}} {name}  {amounts}"),
            _ => format!("{name}  {{bar:32}} {amounts}  {{eta}} left"),
        };
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style.progress_chars("━╸ "));
        }
        self.with(|stage| *stage = Some(Stage { bar, since: Instant::now(), hidden: true }));
    }

    fn with(&self, f: impl FnOnce(&mut Option<Stage>)) {
        if let Ok(mut stage) = self.stage.lock() {
            f(&mut stage);
        }
    }

    /// Words after the amounts.
    pub fn message(&self, words: String) {
        self.with(|stage| stage.iter().for_each(|s| s.bar.set_message(words.clone())));
    }

    /// A line above the bar.
    pub fn say(&self, line: &str) {
        self.with(|stage| match stage {
            Some(stage) if !stage.hidden => stage.bar.suspend(|| print(line)),
            _ => print(line),
        });
    }
}

/// Progress that cannot be told is no error.
fn print(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

impl Progress for Bar {
    fn begin(&self, stage: &str, total: u64, unit: Unit) {
        let amounts = match unit {
            Unit::Bytes => "{decimal_bytes}/{decimal_total_bytes}  {decimal_bytes_per_sec}",
            Unit::Weights => "{pos}/{len} tensors",
            Unit::Blocks => "{pos}/{len} blocks",
            Unit::Tokens => "{pos}/{len} tokens  {per_sec}",
            Unit::Samples => "{pos}/{len} samples  {per_sec}",
            Unit::Groups => "{pos} groups",
            Unit::Steps => "{pos}/{len} steps  {msg}",
        };
        self.stage(stage, total, amounts);
    }

    fn advance(&self, amount: u64) {
        self.with(|stage| {
            let Some(stage) = stage else { return };
            stage.bar.inc(amount);
            if self.shown && stage.hidden && stage.since.elapsed() > Duration::from_secs(1) {
                stage.bar.set_draw_target(ProgressDrawTarget::stderr());
                stage.hidden = false;
            }
        });
    }

    fn say(&self, words: &str) {
        self.message(words.to_owned());
    }

    fn end(&self) {
        self.with(|stage| {
            if let Some(stage) = stage.take() {
                stage.bar.finish_and_clear();
            }
        });
    }
}
