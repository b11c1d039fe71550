//! `tinier compress`: the main job, with its proof.

use super::{Asked, options, proof_spec};
use crate::cli::{Common, Compress, Data};
use crate::progress::Bar;
use crate::{output, source};
use ::plan::{Bytes, Comparison, Container, Goal, NetworkEntry, Plan};
use anyhow::{Result, anyhow};
use engine::{EngineError, Outcome, Samples};
use exec::Examples;
use formats::atomic::{WriteError, write_file};
use formats::imatrix::Imatrix;
use import::Imported;
use report::Report;
use report::text::{number, seconds};
use std::path::{Path, PathBuf};

pub fn run(args: Compress, common: &Common) -> Result<()> {
    let imported = source::open(&args.source, common)?;
    let bar = Bar::new(common.quiet || common.json);
    // Without text to measure encodings on it is a bound, as beside a goal.
    let max_kld = args.gates.max_kld.filter(|_| !args.learn.calibration.is_empty());
    let mut asked = Asked::read(&args.goal, &args.steps, &args.learn, max_kld)?;
    let proof = proof_spec(&args.text, &args.gates, asked.proof());
    let text = source::text(proof.text.as_deref().map(Path::new), &imported, common, &bar)?;
    *asked.proof() = proof;
    let calibration = source::calibration(asked.calibration(), &imported)?;
    let imatrix = args.imatrix.as_deref().map(Imatrix::open).transpose()?;
    let data = super::accuracy::samples(&args.data, &imported)?;
    let valid = super::accuracy::samples(&Data { data: args.valid.clone(), ..args.data.clone() }, &imported)?;
    let options = engine::Options {
        replace: args.force,
        data: data.as_ref().map(|d| d as &dyn Samples),
        examples: data.as_ref().map(|d| d as &dyn Examples),
        valid: valid.as_ref().map(|d| d as &dyn Examples),
        calibration: calibration.as_ref(),
        imatrix: imatrix.as_ref(),
        ..options(common, text.as_ref())
    };
    if let Asked::Recipe(recipe) = &asked
        && let Goal::Divergence(most) = recipe.goal
    {
        let planner = engine::Planner::new(&imported, recipe, &options, &bar)?;
        let plan = planner.plan()?;
        let out = output_of(&args, &imported, &plan);
        return tell(engine::smallest(&planner, most, &out, &bar), &out, &args, common);
    }
    let plan = asked.resolve(&imported, &options, &bar)?;
    let out = output_of(&args, &imported, &plan);
    if !common.json {
        output::text(&super::plan::summary(&plan))?;
    }
    let outcome = engine::compress(&imported, &plan, &out, &options, &bar);
    tell(outcome, &out, &args, common)
}

/// Where the artifact goes.
fn output_of(args: &Compress, imported: &Imported, plan: &Plan) -> PathBuf {
    args.output.clone().unwrap_or_else(|| default_output(&source::name_of(imported), plan))
}

/// Says what came of a run, and writes its report.
fn tell(outcome: Result<Outcome, EngineError>, out: &Path, args: &Compress, common: &Common) -> Result<()> {
    match outcome {
        Ok(Outcome { plan, journal, files }) => {
            let report = Report { plan, journal };
            let page = write_report(&report, args.report.as_deref(), out, args.force)?;
            say(&report, &files, &page, common)
        }
        Err(EngineError::Gates { rejected, violations, plan, journal }) => {
            let report = Report { plan: *plan.clone(), journal: *journal.clone() };
            write_report(&report, args.report.as_deref(), &rejected, true)?;
            Err(EngineError::Gates { rejected, violations, plan, journal }.into())
        }
        Err(error @ EngineError::Write(WriteError::Exists { .. })) => {
            Err(anyhow!("{error}, or replace it with --force"))
        }
        Err(error) => Err(error.into()),
    }
}

fn default_output(name: &str, plan: &Plan) -> PathBuf {
    let stem = format!("{name}-{}", plan.mix);
    PathBuf::from(match plan.container {
        Container::Gguf => format!("{stem}.gguf"),
        Container::Onnx => format!("{stem}.onnx"),
        _ => stem,
    })
}

/// Writes the page and its JSON; both are made anew by every run of the same name.
fn write_report(report: &Report, asked: Option<&Path>, out: &Path, replace: bool) -> Result<PathBuf> {
    let base = asked.map_or_else(|| out.with_extension("report"), |path| path.with_extension(""));
    let with = |extension: &str| {
        let mut name = base.clone().into_os_string();
        name.push(extension);
        PathBuf::from(name)
    };
    for (path, text) in [(with(".json"), report.to_json()), (with(".html"), report.to_html())] {
        if replace && path.exists() {
            std::fs::remove_file(&path)?;
        }
        write_file(&path, text.as_bytes())?;
    }
    Ok(with(".html"))
}

fn say(report: &Report, files: &[PathBuf], page: &Path, common: &Common) -> Result<()> {
    if common.json {
        return output::json(report);
    }
    let names: Vec<_> = files.iter().map(|f| f.display().to_string()).collect();
    output::text(&format!("\n{}", summary(report)))?;
    output::text(&format!("\nwrote {}, report {}", names.join(", "), page.display()))
}

fn summary(report: &Report) -> String {
    let Report { plan, journal } = report;
    let proof = &journal.proof;
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let before = report.bytes_before();
    let ratio = before as f64 / proof.bytes.max(1) as f64;
    let bpw =
        if plan.container != Container::Onnx { format!(", {:.2} bits per weight", proof.bpw) } else { String::new() };
    let mut rows = vec![row("size", format!("{} → {}, {ratio:.2}× smaller{bpw}", Bytes(before), Bytes(proof.bytes)))];
    match (&proof.quality, &journal.network) {
        (Some(quality), network) => {
            rows.extend(network.iter().flat_map(changed));
            rows.extend(lost(quality));
        }
        (None, Some(network)) => rows.extend(changed(network)),
        (None, None) => {
            rows.push(row("quality", "not measured: the architecture is unknown, or there was no text".into()))
        }
    }
    rows.extend(proof.checks.iter().map(|check| row("checked", format!("{}, {}", check.name, check.over))));
    let measured = |v: &::plan::Versus, show: fn(f64) -> String| v.measured.map_or("not measured".into(), show);
    let took = measured(&journal.seconds, seconds);
    let memory = measured(&journal.memory, |b| Bytes(b as u64).to_string());
    rows.push(row("took", format!("{took}, peak memory {memory}")));
    rows.extend(journal.notes.iter().map(|note| match &note.weight {
        Some(weight) => row("note", format!("{weight}: {}", note.what)),
        None => row("note", note.what.clone()),
    }));
    output::table(&rows, &[])
}

/// What became of a network, line by line.
fn changed(network: &NetworkEntry) -> Vec<Vec<String>> {
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let (before, after) = (&network.before, &network.after);
    let share = |a: u64, b: u64| format!("{:.1} % left", 100.0 * a as f64 / b.max(1) as f64);
    let millions = |n: u64| format!("{:.2} M", n as f64 / 1e6);
    let count = |b: u64, a: u64| format!("{} → {}, {}", millions(b), millions(a), share(a, b));
    let memory = |b: u64, a: u64| format!("{} → {}, {}", Bytes(b), Bytes(a), share(a, b));
    let mut rows = vec![
        row("multiply-adds", count(before.total_macs(), after.total_macs())),
        row("parameters", count(before.parameters, after.parameters)),
        row("activations", memory(before.memory.planned, after.memory.planned)),
    ];
    for step in &network.steps {
        let figures: Vec<_> = step.figures.iter().map(|(name, value)| format!("{name} {}", number(*value))).collect();
        rows.push(row(&step.name, format!("{} in {}", figures.join(", "), seconds(step.seconds))));
    }
    rows.extend(network.accuracy.iter().flat_map(super::accuracy::rows));
    if let Some(difference) = &network.difference {
        rows.extend(difference.outputs.iter().map(|o| {
            let words = format!("moved by {:.3} of its norm, {:.1} % same largest", o.relative, 100.0 * o.top1);
            row("output", format!("{} {words} ({}, {} samples)", o.name, difference.on, difference.samples))
        }));
    }
    rows
}

/// What was lost, line by line.
pub fn lost(quality: &Comparison) -> Vec<Vec<String>> {
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let c = &quality.conditions;
    let bos = c.bos.map_or("no BOS".into(), |id| format!("BOS {id}"));
    vec![
        row(
            "perplexity",
            format!(
                "{:.3} → {:.3} ({:+.2} % ± {:.2})",
                quality.reference.value,
                quality.model.value,
                100.0 * quality.ppl_increase.value,
                100.0 * quality.ppl_increase.error
            ),
        ),
        row(
            "KL divergence",
            format!("mean {:.5}, 99.9 % of tokens below {:.4}", quality.kld.mean.value, quality.kld.p999),
        ),
        row("same top token", format!("{:.2} % ± {:.2}", 100.0 * quality.top1.value, 100.0 * quality.top1.error)),
        row(
            "measured on",
            format!("{} of {} tokens of {}, {}, {bos}, {}", c.scored, c.tokens, c.data, c.protocol, c.compute),
        ),
    ]
}
