//! `tinier plan`: what compressing would do, before it is done.

use super::{Asked, options};
use crate::cli::{Common, PlanArgs};
use crate::progress::Bar;
use crate::{output, source};
use ::plan::{Bytes, ExpertTokens, Plan};
use anyhow::Result;
use report::text::seconds;

pub fn run(args: PlanArgs, common: &Common) -> Result<()> {
    let imported = source::open(&args.source, common)?;
    let asked = Asked::read(&args.goal, &args.steps, &args.learn, args.max_kld)?;
    let calibration = source::calibration(asked.calibration(), &imported)?;
    let options = engine::Options { calibration: calibration.as_ref(), ..options(common, None) };
    let bar = Bar::new(common.quiet || common.json);
    let mut plan = asked.resolve(&imported, &options, &bar)?;
    plan.experts = engine::expert_tokens(&imported, &options, &bar)?;
    if let Some(path) = &args.output {
        formats::atomic::write_file(path, plan.to_toml().as_bytes())?;
    }
    if common.json {
        return output::json(&plan);
    }
    output::text(&tensors(&plan))?;
    output::text(&format!("\n{}", summary(&plan)))?;
    if args.smoke {
        let smoke = engine::smoke(&imported, &plan, &options, &Bar::new(common.quiet))?;
        output::text(&format!("\n{}", tried(&smoke)))?;
    }
    Ok(())
}

/// What the calibration text leaves unknown of experts.
fn experts(layers: &[ExpertTokens]) -> Option<Vec<String>> {
    let all: usize = layers.iter().map(|l| l.tokens.len()).sum();
    let least = layers.iter().flat_map(|l| &l.tokens).min()?;
    let unseen: Vec<String> = layers
        .iter()
        .filter(|layer| !layer.unseen().is_empty())
        .map(|layer| {
            let numbers: Vec<String> = layer.unseen().iter().map(usize::to_string).collect();
            format!("{} of layer {}", numbers.join(", "), layer.layer)
        })
        .collect();
    let told = match unseen.is_empty() {
        true => format!("each of {all} sees at least {least} tokens of the calibration text"),
        false => format!(
            "no token reaches {}, which would be rounded: give more text, or take --all-experts",
            unseen.join("; ")
        ),
    };
    Some(vec!["experts".into(), told])
}

/// What a trial of one block found.
fn tried(smoke: &engine::Smoke) -> String {
    let memory = smoke.memory.map_or("not measured".into(), |b| Bytes(b).to_string());
    let worst = smoke.weights.iter().max_by(|a, b| a.1.total_cmp(&b.1));
    let worst = worst.map_or(String::new(), |(name, error)| format!(", farthest {name}: {:.2} %", 100.0 * error));
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let mut rows = vec![
        row("tried", format!("{}: {} weights encoded, valid and decoded{worst}", smoke.block, smoke.weights.len())),
        row("took", format!("{} over {} tokens, peak memory {memory}", seconds(smoke.seconds), smoke.tokens)),
    ];
    rows.extend(smoke.notes.iter().map(|note| row("note", note.clone())));
    output::table(&rows, &[])
}

fn tensors(plan: &Plan) -> String {
    let header = ["tensor", "shape", "from", "to", "before", "after", "why"].map(str::to_owned).to_vec();
    let rows = plan.tensors.iter().map(|t| {
        let shape = t.shape.iter().map(ToString::to_string).collect::<Vec<_>>().join("×");
        let (before, after) = (Bytes(t.bytes_before).to_string(), Bytes(t.bytes_after).to_string());
        vec![t.name.clone(), shape, t.from.to_string(), t.to.to_string(), before, after, t.reason.clone()]
    });
    output::table(&[header].into_iter().chain(rows).collect::<Vec<_>>(), &[4, 5])
}

/// What the plan comes to, in a few lines.
pub fn summary(plan: &Plan) -> String {
    let p = &plan.prediction;
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let sizes = format!("{} → {} ({:.2} bits per weight)", Bytes(plan.bytes_before()), p.artifact, plan.bpw());
    // Steps decide as they run, so what they take cannot be told before.
    let behind = if plan.recipe.steps.is_empty() { "" } else { ", the steps not counted" };
    let times = format!("about {} to write, {} to prove", seconds(p.encode_seconds), seconds(p.proof_seconds));
    let mut rows = vec![
        row("artifact", format!("{} as {}", plan.container, plan.mix)),
        row("size", sizes),
        row("memory", format!("at most about {}{behind}", p.memory)),
        row("disk", format!("{} free", p.disk)),
        row("time", format!("{times}{behind}")),
    ];
    if let Some(spent) = &plan.spent {
        let v = &spent.validation;
        let (loss, bound) = (spent.loss, spent.bound);
        rows.insert(2, row("losses", format!("{loss:.2e} nats together, no choice of these bytes below {bound:.2e}")));
        let fisher = v.fisher.map_or(String::new(), |r| format!("; Fisher information alone: {r:.3}"));
        let checked = format!(
            "rank correlation {:.3} with {} measurements, half within a factor of {:.2}{fisher}",
            v.rank_correlation, v.pairs, v.typical_factor
        );
        rows.insert(3, row("predicted", checked));
    }
    rows.extend(experts(&plan.experts));
    if !plan.recipe.transforms.is_empty() {
        let names: Vec<_> = plan.recipe.transforms.iter().map(|t| t.name()).collect();
        rows.insert(1, row("transforms", names.join(", ")));
    }
    output::table(&rows, &[])
}
