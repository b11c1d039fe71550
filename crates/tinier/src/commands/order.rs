//! `tinier order`: which of two steps goes first.

use super::{Asked, options};
use crate::cli::{Common, Data, Order};
use crate::progress::Bar;
use crate::{output, source};
use ::plan::Ordered;
use anyhow::{Context, Result};
use engine::Samples;
use exec::Examples;

pub fn run(args: Order, common: &Common) -> Result<()> {
    let imported = source::open(&args.source, common)?;
    let bar = Bar::new(common.quiet || common.json);
    let steps = match Asked::read(&args.goal, &args.steps, &args.learn, None)? {
        Asked::Recipe(recipe) => recipe.steps,
        Asked::Plan(plan) => plan.recipe.steps,
    };
    let data = super::accuracy::samples(&args.data, &imported)?;
    let valid = super::accuracy::samples(&Data { data: args.valid, ..args.data }, &imported)?;
    let valid = valid.context("orders are compared on held-out samples; give --valid")?;
    let options = engine::Options {
        data: data.as_ref().map(|d| d as &dyn Samples),
        examples: data.as_ref().map(|d| d as &dyn Examples),
        valid: Some(&valid),
        ..options(common, None)
    };
    let found = engine::order(&imported, &steps, &options, &bar)?;
    if common.json {
        return output::json(&found);
    }
    let rows: Vec<_> = found.alone.iter().chain(&found.orders).map(row).collect();
    output::text(&format!("{}\n\n{found}", output::table(&rows, &[])))
}

/// What an order left, in a line.
fn row(ordered: &Ordered) -> Vec<String> {
    let said = match &ordered.accuracy {
        Some(found) => {
            let right = found.top1.map_or("no labels".into(), |share| share.to_string());
            let lost = found.against.and_then(|a| a.lost);
            let lost = lost
                .map_or(String::new(), |e| format!(", lost {:+.2} points ± {:.2}", 100.0 * e.value, 100.0 * e.error));
            format!("{right}{lost}")
        }
        None => format!("cannot be done: {}", ordered.refused.clone().unwrap_or_default()),
    };
    vec![ordered.steps.clone(), said]
}
