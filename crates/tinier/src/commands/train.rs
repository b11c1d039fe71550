//! `tinier train`: a small decoder, or a network that names classes, of one's own.

use crate::cli::{Common, Train};
use crate::output;
use crate::progress::Bar;
use anyhow::Result;
use engine::Progress;
use engine::training::{AnyRecipe, NetworkRecipe, TrainingEvent, TrainingRecipe, train, train_network};
use std::path::Path;

pub fn run(args: Train, common: &Common) -> Result<()> {
    let beside = args.recipe.parent().unwrap_or(Path::new("."));
    let data = args.data.as_deref().unwrap_or(beside);
    match AnyRecipe::load(&args.recipe)? {
        AnyRecipe::Decoder(recipe) => decoder(&recipe, data, &args.output, common),
        AnyRecipe::Network(recipe) => network(&recipe, data, &args.output, common),
    }
}

/// A run as it is shown.
pub struct Shown {
    bar: Bar,
    stepping: bool,
    quiet: bool,
}

impl Shown {
    pub fn new(common: &Common) -> Shown {
        let quiet = common.quiet || common.json;
        Shown { bar: Bar::new(quiet), stepping: false, quiet }
    }

    /// A step was done, of so many.
    fn step(&mut self, step: usize, steps: usize, message: String) {
        if !self.stepping {
            self.stepping = true;
            self.bar.stage("train", steps as u64, "{pos}/{len} steps  {msg}");
            self.bar.advance(step as u64 - 1);
        }
        self.bar.message(message);
        self.bar.advance(1);
    }

    fn say(&self, line: &str) {
        if !self.quiet {
            self.bar.say(line);
        }
    }

    pub fn hear(&mut self, event: TrainingEvent<'_>) {
        match event {
            TrainingEvent::Stage(name) => self.bar.stage(name, 0, ""),
            TrainingEvent::Step(report, steps) => {
                self.step(report.step, steps, format!("loss {:.3}, rate {:.1e}", report.loss, report.rate));
            }
            TrainingEvent::Evaluated(step, loss) => {
                self.say(&format!("step {step}: held-out loss {loss:.4}, perplexity {:.2}", loss.exp()));
            }
            TrainingEvent::Learned { report, right, steps } => {
                let message =
                    format!("loss {:.3}, {:.0} % right, rate {:.1e}", report.loss, 100.0 * right, report.rate);
                self.step(report.step, steps, message);
            }
            TrainingEvent::Measured(step, share) => self.say(&format!("step {step}: held-out accuracy {share}")),
        }
    }

    pub fn end(&self) {
        self.bar.end();
    }
}

fn decoder(recipe: &TrainingRecipe, data: &Path, target: &Path, common: &Common) -> Result<()> {
    let mut shown = Shown::new(common);
    let trained = train(recipe, data, target, &mut |event| shown.hear(event))?;
    shown.end();
    if common.json {
        return output::json(&trained);
    }
    output::text(&format!(
        "wrote {}: {} parameters, {} tokens of text, held-out perplexity {:.2}",
        trained.model.display(),
        trained.parameters,
        trained.tokens,
        trained.valid_loss.exp()
    ))
}

fn network(recipe: &NetworkRecipe, data: &Path, target: &Path, common: &Common) -> Result<()> {
    let mut shown = Shown::new(common);
    let trained = train_network(recipe, data, target, &mut |event| shown.hear(event))?;
    shown.end();
    if common.json {
        return output::json(&trained);
    }
    let accuracy = trained.accuracy.map_or("not measured".into(), |share| share.to_string());
    output::text(&format!(
        "wrote {}: {} parameters, {} samples, {} steps, held-out accuracy {accuracy}",
        trained.model.display(),
        trained.parameters,
        trained.samples,
        trained.steps,
    ))
}
