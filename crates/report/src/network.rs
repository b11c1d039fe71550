//! What became of a network: counters, outputs, steps, layers, groups, and memory over the run.

use crate::chart::{self, Bar};
use crate::text;
use maud::{Markup, html};
use plan::{Counters, GroupEntry, LayerEntry, NetworkEntry, StepEntry};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 140.0;

/// All of it.
pub fn sections(network: &NetworkEntry) -> Markup {
    html! {
        section { h2 { "What it costs to run" } (costs(&network.before, &network.after)) }
        @if !network.layers.is_empty() { section { h2 { "How far its outputs moved" } (outputs(network)) } }
        section { h2 { "Step by step" } @for step in &network.steps { (of_step(step)) } }
        @if !network.layers.is_empty() { section { h2 { "Every layer" } (layers(&network.layers)) } }
        section { h2 { "Activation memory while it runs" } (timeline(&network.before, &network.after)) }
    }
}

fn costs(before: &Counters, after: &Counters) -> Markup {
    let row = |label: &str, b: u64, a: u64, show: fn(f64) -> String| {
        let share = a as f64 / b.max(1) as f64;
        let note = format!("{} → {}, {}", show(b as f64), show(a as f64), text::percent(share));
        Bar { label: label.into(), before: 1.0, after: share, note }
    };
    let millions = |n: f64| format!("{:.2} M", n / 1e6);
    let rows = [
        row("multiply-adds", before.total_macs(), after.total_macs(), millions),
        row("parameters", before.parameters, after.parameters, millions),
        row("bytes of weights", before.bytes, after.bytes, text::bytes),
        row("activations", before.memory.planned, after.memory.planned, text::bytes),
    ];
    let kinds: Vec<_> = after.macs.iter().map(|(kind, n)| format!("{kind} {}", millions(*n as f64))).collect();
    html! {
        (chart::bars(&rows, ["before", "after"]))
        p class="conditions" { "One sample. Multiply-adds after: " (kinds.join(", ")) ". Activations: one arena, buffers placed first-fit; most at once "
            (text::bytes(after.memory.live as f64)) " at " code { (after.memory.at) } "." }
    }
}

fn outputs(network: &NetworkEntry) -> Markup {
    let Some(difference) = &network.difference else {
        return html! { p { "Not measured: it holds operators that nobody here looks into." } };
    };
    html! {
        table {
            tr { th { "output" } th { "moved by, of its norm" } th { "same largest" } }
            @for o in &difference.outputs {
                tr { td { code { (o.name) } } td class="number" { (text::figure(o.relative)) } td class="number" { (text::percent(o.top1)) } }
            }
        }
        p class="conditions" {
            "From the written bytes, on " (difference.samples) " samples of " (difference.on) ". The file computes what the network in memory did, to "
            (text::figure(difference.written)) " of the largest number."
        }
    }
}

fn of_step(step: &StepEntry) -> Markup {
    html! {
        h3 { (step.name) }
        table {
            @for (name, value) in &step.figures { tr { td { (name) } td class="number" { (text::number(*value)) } } }
            tr { td { "time" } td class="number" { (text::seconds(step.seconds)) } }
        }
        @if !step.groups.is_empty() { (groups(&step.groups)) }
    }
}

fn groups(groups: &[GroupEntry]) -> Markup {
    let measured = groups.iter().any(|g| !g.moved.is_empty());
    html! {
        details {
            summary { (groups.len()) " groups of channels" }
            table class="tensors" {
                tr { th { "made first by" } th { "before" } th { "after" } @if measured { th { "output moves when ¼, ½, ¾ go" } } }
                @for g in groups {
                    tr {
                        td { code { (g.name) } } td class="number" { (g.before) } td class="number" { (g.after) }
                        @if measured { td class="number" { (g.moved.iter().map(|m| text::figure(*m)).collect::<Vec<_>>().join(", ")) } }
                    }
                }
            }
        }
    }
}

fn layers(layers: &[LayerEntry]) -> Markup {
    let shape = |s: &[usize]| s.iter().map(ToString::to_string).collect::<Vec<_>>().join(" × ");
    html! {
        details {
            summary { (layers.len()) " layers that multiply" }
            table class="tensors" {
                tr { th { "node" } th { "op" } th { "weight before" } th { "after" } th { "multiply-adds before" } th { "after" } }
                @for l in layers {
                    tr {
                        td { code { (l.node) } } td { (l.op) } td { (shape(&l.before)) } td { (shape(&l.after)) }
                        td class="number" { (l.macs_before) } td class="number" { (l.macs_after) }
                    }
                }
            }
        }
    }
}

/// Live bytes at every node, before and after, on one scale.
fn timeline(before: &Counters, after: &Counters) -> Markup {
    let most = before.memory.live.max(after.memory.live).max(1) as f64;
    let line = |bytes: &[u64]| {
        let step = WIDTH / bytes.len().max(1) as f64;
        let point = |(n, b): (usize, &u64)| {
            let y = HEIGHT - 4.0 - *b as f64 / most * (HEIGHT - 8.0);
            format!("{:.1},{y:.1} {:.1},{y:.1}", n as f64 * step, (n + 1) as f64 * step)
        };
        bytes.iter().enumerate().map(point).collect::<Vec<_>>().join(" ")
    };
    let area = |bytes: &[u64]| format!("0,{HEIGHT} {} {WIDTH},{HEIGHT}", line(bytes));
    html! {
        svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" {
            polygon points=(area(&before.memory.timeline)) class="before" {}
            polygon points=(area(&after.memory.timeline)) class="after" {}
        }
        p class="conditions" { "Live bytes at every node in running order; the paler area is before. Highest: " (text::bytes(most)) "." }
    }
}
