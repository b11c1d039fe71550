//! `tinier eval` of networks that name classes.

use crate::cli::{Common, Data, Eval};
use crate::output;
use crate::progress::Bar;
use ::plan::{Accuracy, Share};
use anyhow::{Context, Result};
use engine::{Images, Progress, Unit, preprocess_of};
use eval::Classifier;
use exec::{Examples, Options};
use formats::images::Preprocess;
use import::Imported;

pub fn run(args: &Eval, imported: &Imported, reference: Option<&Imported>, common: &Common) -> Result<()> {
    let samples = samples(&args.data, imported)?.context("accuracy is measured on samples; give --data")?;
    let mut network = classifier(imported)?;
    let mut beside = reference.map(classifier).transpose()?;
    let bar = Bar::new(common.quiet || common.json);
    let count = args.data.count.unwrap_or(usize::MAX);
    bar.begin("evaluate", samples.len().min(count) as u64, Unit::Samples);
    let mut advance = |n| Progress::advance(&bar, n);
    let found = eval::accuracy(&mut network, beside.as_mut(), &samples, count, &mut advance)?;
    bar.end();
    if common.json { output::json(&found) } else { output::text(&output::table(&rows(&found), &[])) }
}

fn classifier(imported: &Imported) -> Result<Classifier> {
    let graph = imported.model.graph().with_context(|| format!("{}: it cannot be run", imported.path.display()))?;
    Ok(Classifier::new(graph, &imported.model.weights, Options::default())?)
}

/// The samples that the command line names, fitted to a network.
pub fn samples(data: &Data, imported: &Imported) -> Result<Option<Images>> {
    let Some(graph) = imported.model.graph().filter(|_| !data.data.is_empty()) else { return Ok(None) };
    let said = imported.network.as_ref().and_then(|network| preprocess_of(&network.file)).unwrap_or_default();
    Ok(Some(Images::open(&data.data, graph, &preprocess(data, said))?))
}

/// What the command line says of preprocessing, over what the file says.
pub fn preprocess(data: &Data, said: Preprocess) -> Preprocess {
    let list = |given: &Vec<f64>, said: Vec<f64>| if given.is_empty() { said } else { given.clone() };
    Preprocess {
        scale: data.scale.unwrap_or(said.scale),
        mean: list(&data.mean, said.mean),
        std: list(&data.std, said.std),
        layout: data.layout.or(said.layout),
        crop: data.crop.unwrap_or(said.crop),
    }
}

/// What was found, line by line.
pub fn rows(found: &Accuracy) -> Vec<Vec<String>> {
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let mut rows = Vec::new();
    let share = |name: &str, share: &Option<Share>| share.map(|s| row(name, s.to_string()));
    rows.extend(share("accuracy", &found.top1));
    rows.extend(share("among five", &found.top5));
    if let Some(against) = &found.against {
        rows.extend(share("reference", &against.top1));
        let lost = |e: &::plan::Estimate| format!("{:+.2} points ± {:.2}", 100.0 * e.value, 100.0 * e.error);
        rows.extend(against.lost.as_ref().map(|e| row("lost", lost(e))));
        rows.push(row("same class", against.agreement.to_string()));
    }
    let c = &found.conditions;
    rows.push(row("measured on", format!("{} samples of {}, {} threads", c.samples, c.data, c.threads)));
    rows
}
