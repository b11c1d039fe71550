//! The page: what was made, what it cost, and how it is known.

use crate::chart::{self, Bar, Dot};
use crate::{Report, text};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use plan::{ChosenText, Comparison, Estimate, Spent, Versus};
use std::collections::BTreeMap;

const STYLE: &str = include_str!("style.css");

pub fn page(report: &Report) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "tinier: " (report.plan.mix) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header { h1 { "Made tinier, with proof" } p { (lead(report)) } }
                (tiles(report))
                @if report.journal.network.is_none() || report.journal.proof.quality.is_some() { (quality(report)) }
                @if let Some(network) = &report.journal.network { (crate::network::sections(network)) }
                @if encoded(report) { (sizes(report)) (errors(report)) (prediction(report)) }
                (notes(report))
                (provenance(report))
                @if let Some(experts) = experts(report) { (experts) }
                @if encoded(report) { (tensors(report)) }
            }
        }
    }
}

/// Whether there is something to say of each tensor: not where steps alone decided.
fn encoded(report: &Report) -> bool {
    report.journal.network.is_none() || report.plan.tensors.iter().any(|t| t.from != t.to)
}

fn lead(report: &Report) -> String {
    let plan = &report.plan;
    if let Some(network) = &report.journal.network {
        let (steps, tool) = (plan.mix.replace('-', ", "), &report.journal.provenance.tool);
        return format!(
            "{} of {} weights are left: {steps}, by {tool}.",
            network.after.parameters, network.before.parameters
        );
    }
    let tool = &report.journal.provenance.tool;
    let lead = format!("{} weights as {} in {}, by {tool}.", plan.parameters, plan.mix, plan.container);
    match &report.journal.calibration {
        Some(on) => {
            let chosen = on.chosen.as_ref().map_or(String::new(), chosen);
            format!("{lead} Calibrated on {} windows of {} tokens of {}.{chosen}", on.windows, on.length, on.name)
        }
        None => lead,
    }
}

/// What the choice of calibration windows was worth.
fn chosen(text: &ChosenText) -> String {
    let words = format!(" They hold {:.1} % of the different words of the rest", 100.0 * text.words);
    let least = text.random.iter().copied().reduce(f64::min);
    match (least, text.random.iter().copied().reduce(f64::max)) {
        (Some(least), Some(most)) => format!(
            "{words}; as many at random, over {} seeds, {:.1} to {:.1} %.",
            text.random.len(),
            100.0 * least,
            100.0 * most
        ),
        _ => format!("{words}."),
    }
}

fn section(title: &str, body: Markup) -> Markup {
    html! { section { h2 { (title) } (body) } }
}

fn tiles(report: &Report) -> Markup {
    let proof = &report.journal.proof;
    let tile = |value: String, name: &str| html! { div { strong { (value) } span { (name) } } };
    let before = report.bytes_before() as f64;
    html! {
        div class="tiles" {
            (tile(format!("{} → {}", text::bytes(before), text::bytes(proof.bytes as f64)), "size"))
            (tile(format!("{:.2}×", before / proof.bytes.max(1) as f64), "smaller"))
            @match &report.journal.network {
                Some(network) => {
                    @let fewer = network.before.total_macs() as f64 / network.after.total_macs().max(1) as f64;
                    (tile(format!("{fewer:.2}×"), "fewer multiply-adds"))
                }
                None => { (tile(format!("{:.2}", proof.bpw), "bits per weight")) }
            }
            @if let Some(quality) = &proof.quality {
                (tile(text::figure(quality.kld.mean.value), "mean KL divergence, nats"))
                (tile(text::percent(quality.top1.value), "same top-1 token"))
                (tile(format!("{:+.2} %", 100.0 * quality.ppl_increase.value), "perplexity"))
            }
        }
    }
}

fn quality(report: &Report) -> Markup {
    let proof = &report.journal.proof;
    let body = match &proof.quality {
        Some(quality) => measured(quality),
        None => html! { p { "Not measured: the architecture has no graph here, or no text was given." } },
    };
    section(
        "What was lost",
        html! {
            (body)
            ul class="checks" {
                @for check in &proof.checks { li { (check.name) " " span { (check.over) } } }
            }
        },
    )
}

fn measured(quality: &Comparison) -> Markup {
    let with_error = |e: Estimate| format!("{} ± {}", text::figure(e.value), text::figure(e.error));
    let kld = &quality.kld;
    let rows = [
        ("Perplexity of the source", with_error(quality.reference)),
        ("Perplexity of the artifact", with_error(quality.model)),
        (
            "Perplexity increase",
            format!("{:+.3} % ± {:.3}", 100.0 * quality.ppl_increase.value, 100.0 * quality.ppl_increase.error),
        ),
        ("KL divergence, mean", with_error(kld.mean)),
        ("KL divergence, median", text::figure(kld.median)),
        ("KL divergence, 99 % of tokens below", text::figure(kld.p99)),
        ("KL divergence, 99.9 % of tokens below", text::figure(kld.p999)),
        ("KL divergence, worst token", text::figure(kld.max)),
        ("Same most probable token", with_error(quality.top1)),
    ];
    let c = &quality.conditions;
    html! {
        table { @for (name, value) in rows { tr { td { (name) } td class="number" { (value) } } } }
        p class="conditions" {
            "From the written bytes, over " (c.data) ": " (c.scored) " tokens scored of " (c.tokens) ", protocol " (c.protocol)
            ", BOS " @match c.bos { Some(id) => { (id) }, None => { "none" } }
            ", " (c.compute) ", " (c.threads) " threads, seed " (c.seed) ", " (c.machine.cpu) ". Divergences in nats per token."
        }
    }
}

fn sizes(report: &Report) -> Markup {
    let rows: Vec<_> = report
        .plan
        .by_role()
        .into_iter()
        .map(|(role, s)| {
            let encodings: Vec<_> = s.encodings.iter().map(|(name, n)| format!("{n}× {name}")).collect();
            let (before, after) = (s.bytes_before as f64, s.bytes_after as f64);
            Bar { label: role.into(), before, after, note: format!("{}  {}", text::bytes(after), encodings.join(", ")) }
        })
        .collect();
    section("Where the bytes are", chart::bars(&rows, ["before", "after"]))
}

fn errors(report: &Report) -> Markup {
    let mut series: Vec<String> = Vec::new();
    let outside = report.plan.tensors.iter().filter_map(|t| t.layer).max().map_or(0, |last| last + 1);
    let dots: Vec<_> = (report.plan.tensors.iter().zip(&report.journal.tensors))
        .filter(|(_, entry)| entry.relative_error > 0.0)
        .map(|(tensor, entry)| {
            let known = series.iter().position(|s| *s == tensor.role);
            let series = known.unwrap_or_else(|| {
                series.push(tensor.role.clone());
                series.len() - 1
            });
            let title = format!(
                "{}: {} as {}",
                entry.name,
                text::figure(entry.relative_error),
                plan::encoding_name(&entry.encoding)
            );
            Dot { x: tensor.layer.unwrap_or(outside) as f64, y: entry.relative_error, series, title }
        })
        .collect();
    section(
        "Error of each weight",
        html! {
            (chart::dots(&dots, &series, "layer (what is outside the layers stands last)", "‖Q − W‖ / ‖W‖"))
            p class="conditions" { "Read back from the artifact. Weights that kept every bit are not drawn." }
        },
    )
}

fn prediction(report: &Report) -> Markup {
    let journal = &report.journal;
    let bar = |label: &str, v: &Versus, show: fn(f64) -> String| {
        let note = v
            .measured
            .map_or("not measured".into(), |m| format!("{} predicted, {} measured", show(v.predicted), show(m)));
        let scale = v.predicted.max(v.measured.unwrap_or(0.0)).max(f64::MIN_POSITIVE);
        Bar { label: label.into(), before: v.predicted / scale, after: v.measured.unwrap_or(0.0) / scale, note }
    };
    let rows = [
        bar("artifact", &journal.size, text::bytes),
        bar("peak memory", &journal.memory, text::bytes),
        bar("time", &journal.seconds, text::seconds),
    ];
    section(
        "What it took",
        html! {
            (chart::bars(&rows, ["predicted", "measured"]))
            p class="conditions" {
                @if journal.network.is_some() { "Predicted without the steps. " }
                @for (i, stage) in journal.stages.iter().enumerate() {
                    @if i > 0 { ", " } (stage.name) " " (text::seconds(stage.seconds))
                }
            }
            @if let Some(spent) = &report.plan.spent { (budget(spent)) }
        },
    )
}

/// How a budget was spent.
fn budget(spent: &Spent) -> Markup {
    let v = &spent.validation;
    html! {
        p {
            "The budget was spent by what each encoding of each tensor costs the model: " (text::figure(spent.loss))
            " nats predicted together, and no choice of these bytes below " (text::figure(spent.bound)) ". Over "
            (v.pairs) " pairs that were also measured, predictions have a rank correlation of "
            (format!("{:.3}", v.rank_correlation)) "; half are within a factor of "
            (format!("{:.2}", v.typical_factor)) "."
        }
    }
}

fn notes(report: &Report) -> Markup {
    let notes = &report.journal.notes;
    if notes.is_empty() {
        return html! {};
    }
    let list = html! {
        ul { @for note in notes { li { @if let Some(weight) = &note.weight { code { (weight) } " " } (note.what) } } }
    };
    section("To know", list)
}

fn provenance(report: &Report) -> Markup {
    let p = &report.journal.provenance;
    let body = html! {
        table {
            tr { td { "Tool" } td { (p.tool) } }
            tr { td { "Machine" } td { (p.machine.cpu) ", " (p.machine.cpus) " processors, " (text::bytes(p.machine.memory as f64)) ", " (p.machine.os) } }
            tr { td { "Threads, seed" } td { (p.threads) ", " (p.seed) } }
            @for file in &p.source {
                tr { td { (file.name) } td { (text::bytes(file.bytes as f64)) ", SHA-256 " code { (file.sha256) } } }
            }
        }
        details { summary { "Recipe" } pre { (p.recipe) } }
    };
    section("Where it comes from", body)
}

/// How much of the calibration text reached the experts of each layer.
fn experts(report: &Report) -> Option<Markup> {
    let mut layers: BTreeMap<usize, Vec<(u64, &str)>> = BTreeMap::new();
    for (tensor, entry) in report.plan.tensors.iter().zip(&report.journal.tensors) {
        let fitted = entry.fitted.filter(|_| tensor.role.starts_with("expert_"));
        if let (Some(layer), Some(fitted)) = (tensor.layer, fitted) {
            layers.entry(layer).or_default().push((fitted.tokens, &tensor.name));
        }
    }
    let row = |layer: &usize, seen: &Vec<(u64, &str)>| {
        let mut tokens: Vec<u64> = seen.iter().map(|(tokens, _)| *tokens).collect();
        tokens.sort_unstable();
        let unseen: Vec<&str> = seen.iter().filter(|(tokens, _)| *tokens == 0).map(|(_, name)| *name).collect();
        let (least, most) = (tokens.first().copied().unwrap_or(0), tokens.last().copied().unwrap_or(0));
        html! {
            tr {
                td { (layer) } td class="number" { (least) } td class="number" { (tokens[tokens.len() / 2]) }
                td class="number" { (most) } td { (unseen.join(", ")) }
            }
        }
    };
    let body = html! {
        table {
            tr { th { "layer" } th { "fewest tokens" } th { "median" } th { "most" } th { "matrices without any" } }
            @for (layer, seen) in &layers { (row(layer, seen)) }
        }
    };
    (!layers.is_empty()).then(|| section("What experts saw of the calibration text", body))
}

fn tensors(report: &Report) -> Markup {
    let rows = report.plan.tensors.iter().zip(&report.journal.tensors);
    let body = html! {
        details {
            summary { (report.plan.tensors.len()) " tensors" }
            table class="tensors" {
                tr { th { "tensor" } th { "shape" } th { "from" } th { "to" } th { "bytes" } th { "relative error" } th { "method" } th { "tokens" } th { "why" } }
                @for (tensor, entry) in rows {
                    tr {
                        td { code { (tensor.name) } }
                        td { (tensor.shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(" × ")) }
                        td { (plan::encoding_name(&tensor.from)) }
                        td { (plan::encoding_name(&tensor.to)) }
                        td class="number" { (entry.bytes) }
                        td class="number" { (text::figure(entry.relative_error)) }
                        td { (entry.fitted.map_or(tensor.method, |f| f.method)) }
                        td class="number" { @if let Some(fitted) = entry.fitted { (fitted.tokens) } }
                        td { (tensor.reason) }
                    }
                }
            }
        }
    };
    section("Every tensor", body)
}
