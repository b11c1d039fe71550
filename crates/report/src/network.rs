//! What became of a network: counters, outputs, steps, layers, groups, sensitivity, ranges, and memory over the run.

use crate::chart::{self, Bar, Dot};
use crate::text;
use maud::{Markup, html};
use plan::{
    Accuracy, Counters, EnergyBy, Fusion, GroupEntry, LayerEntry, NetworkEntry, RangeEntry, Runs, SensitivityEntry,
    StepEntry, To,
};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 140.0;

/// All of it.
pub fn sections(network: &NetworkEntry) -> Markup {
    html! {
        section { h2 { "What it costs to run" } (costs(network)) }
        @if !network.layers.is_empty() { section { h2 { "How far its outputs moved" } (outputs(network)) } }
        section { h2 { "Step by step" } @for step in &network.steps { (of_step(step)) } }
        @if !network.layers.is_empty() { section { h2 { "Every layer" } (layers(&network.layers)) } }
        @if let Some(fusion) = &network.fusion { section { h2 { "What onnxruntime makes of it" } (fused(fusion)) } }
        section { h2 { "Activation memory while it runs" } (timeline(&network.before, &network.after)) }
    }
}

fn costs(network: &NetworkEntry) -> Markup {
    let (before, after) = (&network.before, &network.after);
    let row = |label: &str, b: u64, a: u64, show: fn(f64) -> String| {
        let share = a as f64 / b.max(1) as f64;
        let note = format!("{} → {}, {}", show(b as f64), show(a as f64), text::percent(share));
        Bar { label: label.into(), before: 1.0, after: share, note }
    };
    let millions = |n: f64| format!("{:.2} M", n / 1e6);
    let mut rows = vec![
        row("multiply-adds", before.total_macs(), after.total_macs(), millions),
        row("parameters", before.parameters, after.parameters, millions),
        row("bytes of weights", before.bytes, after.bytes, text::bytes),
        row("activations", before.memory.planned, after.memory.planned, text::bytes),
    ];
    let ratio =
        |label: &str, b: f64, a: f64, note: String| Bar { label: label.into(), before: 1.0, after: a / b, note };
    if let Some(energy) = network.energy.filter(|e| e.before > 0.0) {
        let known = if energy.by == EnergyBy::Counters { "counted" } else { "estimate" };
        let joules = |j: f64| format!("{} mJ", text::figure(1e3 * j));
        rows.push(ratio(
            "energy",
            energy.before,
            energy.after,
            format!("{} → {}, {known}", joules(energy.before), joules(energy.after)),
        ));
    }
    let seconds = network.layers.iter().filter_map(|l| l.seconds);
    let [b, a] = seconds.fold([0.0; 2], |[b, a], [x, y]| [b + x, a + y]);
    if b > 0.0 {
        let ms = |s: f64| format!("{} ms", text::figure(1e3 * s));
        rows.push(ratio("time of layers", b, a, format!("{} → {}", ms(b), ms(a))));
    }
    let kinds: Vec<_> = after.macs.iter().map(|(kind, n)| format!("{kind} {}", millions(*n as f64))).collect();
    html! {
        (chart::bars(&rows, ["before", "after"]))
        p class="conditions" { "One sample. Multiply-adds after: " (kinds.join(", ")) ". Activations: one arena, buffers placed first-fit; most at once "
            (text::bytes(after.memory.live as f64)) " at " code { (after.memory.at) } "."
            @if network.energy.is_some() {
                " Energy: by the processor's counters where it says counted, else from what is computed and moved, at 45 nm."
            }
            @if b > 0.0 { " Time: as this program runs it, in floats." } }
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
        @if let Some(accuracy) = &network.accuracy { (right(accuracy)) }
    }
}

/// How often it names the right class.
fn right(accuracy: &Accuracy) -> Markup {
    let against = accuracy.against.as_ref();
    let share = |share: &plan::Share| html! { td class="number" { (share) } };
    html! {
        table {
            @if let Some(top1) = &accuracy.top1 { tr { td { "right" } (share(top1)) } }
            @if let Some(top1) = against.and_then(|a| a.top1.as_ref()) { tr { td { "right before" } (share(top1)) } }
            @if let Some(against) = against { tr { td { "same class as before" } (share(&against.agreement)) } }
            @if let Some(lost) = against.and_then(|a| a.lost) {
                tr { td { "points lost" } td class="number" { (format!("{:.2} ± {:.2}", 100.0 * lost.value, 100.0 * lost.error)) } }
            }
        }
        p class="conditions" { "On " (accuracy.conditions.samples) " samples of " (accuracy.conditions.data) ", held out." }
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
        @if !step.sensitivity.is_empty() { (sensitivity(&step.sensitivity)) }
        @if !step.ranges.is_empty() { (ranges(&step.ranges)) }
    }
}

fn groups(groups: &[GroupEntry]) -> Markup {
    let measured = groups.iter().any(|g| !g.moved.is_empty());
    html! {
        @if measured { (curves(groups)) }
        details {
            summary { (groups.len()) (if groups.len() == 1 { " group" } else { " groups" }) }
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

/// How far outputs move when one group alone loses channels.
fn curves(groups: &[GroupEntry]) -> Markup {
    let shares = ["¼ of it gone", "½ gone", "¾ gone"];
    let dots = groups.iter().enumerate().flat_map(|(n, g)| {
        let dot = move |(series, moved): (usize, &f64)| {
            let title = format!("{}: {}, {}", g.name, shares.get(series).unwrap_or(&""), text::figure(*moved));
            Dot { x: n as f64, y: *moved, series, title }
        };
        g.moved.iter().enumerate().map(dot)
    });
    html! {
        h4 { "Sensitivity of each group of channels" }
        (chart::dots(&dots.collect::<Vec<_>>(), &shares.map(String::from), "group, in running order", "‖ŷ − y‖ / ‖y‖"))
        p class="conditions" { "How far the outputs move on samples when this group alone loses its least important channels." }
    }
}

/// How far outputs move when one layer alone is rounded.
fn sensitivity(layers: &[SensitivityEntry]) -> Markup {
    let series: Vec<String> =
        layers.first().map_or(Vec::new(), |l| l.moved.iter().map(|(name, _)| name.clone()).collect());
    let dots = layers.iter().enumerate().flat_map(|(n, layer)| {
        let dot = move |(series, (codes, moved)): (usize, &(String, f64))| {
            let title = format!("{}: {codes}, {}", layer.node, text::figure(*moved));
            Dot { x: n as f64, y: *moved, series, title }
        };
        layer.moved.iter().enumerate().map(dot)
    });
    html! {
        h4 { "Sensitivity of each layer" }
        (chart::dots(&dots.collect::<Vec<_>>(), &series, "layer, in running order", "‖ŷ − y‖ / ‖y‖"))
        p class="conditions" {
            "How far the outputs move on samples when this layer alone is rounded: its weights to these codes, what it reads to its grid."
        }
        details {
            summary { "Layer by layer" }
            table class="tensors" {
                tr { th { "node" } @for name in &series { th { (name) } } }
                @for l in layers {
                    tr { td { code { (l.node) } } @for (_, moved) in &l.moved { td class="number" { (text::figure(*moved)) } } }
                }
            }
        }
    }
}

/// Small multiples of what values were: sizes of the bars are logarithms of counts.
fn ranges(ranges: &[RangeEntry]) -> Markup {
    html! {
        h4 { "Ranges of values" }
        div class="multiples" { @for r in ranges { (histogram(r)) } }
        p class="conditions" {
            "What each value was on the samples; heights are logarithms of counts, zeros are left out. Bars within the grid are dark, what "
            "it clips is pale; the line is zero."
        }
    }
}

fn histogram(entry: &RangeEntry) -> Markup {
    const WIDE: f64 = 190.0;
    const HIGH: f64 = 52.0;
    let most = entry.counts.iter().max().copied().unwrap_or(0).max(1) as f64;
    let [low, high] = entry.seen.map(f64::from);
    let span = (high - low).max(f64::MIN_POSITIVE);
    let step = WIDE / entry.counts.len().max(1) as f64;
    let bar = |(n, count): (usize, &u64)| {
        let height = HIGH * (*count as f64).ln_1p() / most.ln_1p();
        let middle = low + span * (n as f64 + 0.5) / entry.counts.len() as f64;
        let inside = f64::from(entry.kept[0]) <= middle && middle <= f64::from(entry.kept[1]);
        (format!("{:.1}", n as f64 * step), format!("{:.1}", HIGH - height), format!("{height:.1}"), inside)
    };
    let zero = -low / span * WIDE;
    html! {
        figure {
            svg viewBox=(format!("0 0 {WIDE} {HIGH}")) role="img" {
                @for (x, y, height, inside) in entry.counts.iter().enumerate().filter(|(_, n)| **n > 0).map(bar) {
                    rect x=(x) y=(y) width=(format!("{:.1}", step * 0.9)) height=(height) class=(if inside { "after" } else { "before" }) {}
                }
                line x1=(zero) x2=(zero) y1="0" y2=(HIGH) class="zero" {}
            }
            figcaption {
                code { (entry.value) }
                span { (text::figure(low)) " … " (text::figure(high)) ", kept " (text::figure(entry.kept[0].into())) " … " (text::figure(entry.kept[1].into())) }
            }
        }
    }
}

/// The fusion map: every node and on what it runs, and the conversions that stay.
fn fused(fusion: &Fusion) -> Markup {
    let runs = |runs: &Runs| match runs {
        Runs::OnCodes(kernel) => format!("on codes, {kernel}"),
        Runs::MovesCodes => "moves codes".into(),
        Runs::Absorbed => "in the rounding behind it".into(),
        Runs::InFloat { why, fix } => format!("in float: {why} ({fix})"),
    };
    let way = |to: To| if to == To::Codes { "to codes" } else { "to numbers" };
    let inside: Vec<_> = fusion.inside().collect();
    html! {
        p {
            (fusion.nodes.len() - fusion.in_float().count()) " of " (fusion.nodes.len()) " nodes run on codes; "
            (inside.len()) " conversions stay inside the network."
        }
        @if !inside.is_empty() {
            table {
                tr { th { "value" } th { "converted" } th { "for" } }
                @for c in inside {
                    tr { td { code { (c.value) } } td { (way(c.to)) } td { code { (c.beside.as_deref().unwrap_or_default()) } } }
                }
            }
        }
        details {
            summary { "Node by node" }
            table class="tensors" {
                tr { th { "node" } th { "op" } th { "runs" } }
                @for n in &fusion.nodes { tr { td { code { (n.node) } } td { (n.op) } td { (runs(&n.runs)) } } }
            }
        }
        p class="conditions" { "By a model of onnxruntime's rules on its CPU provider, from the written file." }
    }
}

fn layers(layers: &[LayerEntry]) -> Markup {
    let shape = |s: &[usize]| s.iter().map(ToString::to_string).collect::<Vec<_>>().join(" × ");
    html! {
        details {
            summary { (layers.len()) " layers that multiply" }
            table class="tensors" {
                tr { th { "node" } th { "op" } th { "weight before" } th { "after" } th { "multiply-adds before" } th { "after" } th { "ms before" } th { "after" } }
                @for l in layers {
                    tr {
                        td { code { (l.node) } } td { (l.op) } td { (shape(&l.before)) } td { (shape(&l.after)) }
                        td class="number" { (l.macs_before) } td class="number" { (l.macs_after) }
                        @for s in l.seconds.into_iter().flatten() { td class="number" { (text::figure(1e3 * s)) } }
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
