//! `tinier train`: a small decoder of one's own.

use crate::cli::{Common, Train};
use crate::output;
use crate::progress::Bar;
use anyhow::Result;
use engine::Progress;
use engine::training::{TrainingEvent, TrainingRecipe, train};
use std::path::Path;

pub fn run(args: Train, common: &Common) -> Result<()> {
    let recipe = TrainingRecipe::load(&args.recipe)?;
    let beside = args.recipe.parent().unwrap_or(Path::new("."));
    let data = args.data.as_deref().unwrap_or(beside);
    let bar = Bar::new(common.quiet || common.json);
    let mut stepping = false;
    let trained = train(&recipe, data, &args.output, &mut |event| match event {
        TrainingEvent::Stage(name) => bar.stage(name, 0, ""),
        TrainingEvent::Step(report, steps) => {
            if !stepping {
                stepping = true;
                bar.stage("train", steps as u64, "{pos}/{len} steps  {msg}");
                bar.advance(report.step as u64 - 1);
            }
            bar.message(format!("loss {:.3}, rate {:.1e}", report.loss, report.rate));
            bar.advance(1);
        }
        TrainingEvent::Evaluated(step, loss) => {
            let line = format!("step {step}: held-out loss {loss:.4}, perplexity {:.2}", loss.exp());
            if !common.quiet && !common.json {
                bar.say(&line);
            }
        }
    })?;
    bar.end();
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
