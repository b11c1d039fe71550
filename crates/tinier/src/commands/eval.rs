//! `tinier eval`: perplexity, divergence from a reference, latency; accuracy of networks stands in `accuracy.rs`.

use crate::cli::{Common, Eval};
use crate::progress::Bar;
use crate::{output, source};
use ::plan::{Bytes, Latency, Protocol};
use anyhow::{Context, Result};
use engine::{Progress, Unit};
use eval::{Running, Setup};
use exec::{Compute, Residency};
use graph::{DecoderConfig, Graph};
use import::Imported;

const CONTEXT: usize = 512;
const LATENCY_PROMPT: usize = 128;
const LATENCY_TOKENS: usize = 128;

pub fn run(args: Eval, common: &Common) -> Result<()> {
    let imported = source::open(&args.source, common)?;
    let reference = args.reference.as_deref().map(|name| source::open_named(name, common)).transpose()?;
    if imported.network.is_some() {
        return super::accuracy::run(&args, &imported, reference.as_ref(), common);
    }
    let bar = Bar::new(common.quiet || common.json);
    let (_, config) = decoder(&imported)?;
    let tokenizer = imported.tokenizer()?;
    let text = source::text(args.text.text.as_deref(), reference.as_ref().unwrap_or(&imported), common, &bar)?;
    let text = text.context("there is no text to measure on")?;
    let mut ids = tokenizer.encode(&text.text)?;
    ids.truncate(args.text.tokens.unwrap_or(usize::MAX));
    let mut model = running(&imported, args.bf16)?;
    if args.latency {
        ids.truncate(LATENCY_PROMPT.min(config.context / 2));
        let found =
            eval::latency(&mut model, &ids, LATENCY_TOKENS.min(config.context / 2), true, compute_name(args.bf16))?;
        return say_latency(&found, common);
    }
    let context = args.text.context.unwrap_or(CONTEXT.min(config.context));
    let protocol = match args.stride {
        Some(stride) => Protocol::Strided { context, stride },
        None => Protocol::Llama { context },
    };
    let setup = Setup {
        bos: tokenizer.bos().filter(|_| tokenizer.add_bos()),
        compute: compute_name(args.bf16).into(),
        seed: common.seed,
        ..Setup::new(&text.name, protocol)
    };
    bar.begin("evaluate", ids.len() as u64, Unit::Tokens);
    let mut advance = |tokens| Progress::advance(&bar, tokens);
    match &reference {
        Some(reference) => {
            let found = eval::compare(&mut running(reference, args.bf16)?, &mut model, &ids, &setup, &mut advance)?;
            bar.end();
            if common.json {
                output::json(&found)
            } else {
                output::text(&output::table(&super::compress::lost(&found), &[]))
            }
        }
        None => {
            let found = eval::perplexity(&mut model, &ids, &setup, &mut advance)?;
            bar.end();
            if common.json { output::json(&found) } else { say_perplexity(&found) }
        }
    }
}

/// The graph of a model that can run, and its configuration.
pub fn decoder(imported: &Imported) -> Result<(&Graph, &DecoderConfig)> {
    let model = &imported.model;
    model.graph().zip(model.decoder()).with_context(|| {
        format!("{}: the architecture is unknown here, so the model cannot be run", imported.path.display())
    })
}

/// The model, ready to run with all weights resident.
pub fn running(imported: &Imported, bf16: bool) -> Result<Running> {
    let compute = if bf16 { Compute::Bf16 } else { Compute::F32 };
    let options = exec::Options { compute, residency: Residency::All };
    Ok(Running::new(decoder(imported)?.0, &imported.model.weights, options)?)
}

fn compute_name(bf16: bool) -> &'static str {
    if bf16 { "bf16" } else { "f32" }
}

fn say_perplexity(found: &::plan::Perplexity) -> Result<()> {
    let c = &found.conditions;
    let bos = c.bos.map_or("none".into(), |id| id.to_string());
    output::text(&format!(
        "perplexity {}\n{} of {} tokens of {}, protocol {}, BOS {bos}, {}, {} threads",
        found.perplexity, c.scored, c.tokens, c.data, c.protocol, c.compute, c.threads
    ))
}

fn say_latency(l: &Latency, common: &Common) -> Result<()> {
    if common.json {
        return output::json(l);
    }
    let ms = |s: f64| format!("{:.2} ms", s * 1000.0);
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    output::text(&output::table(
        &[
            row("first token", format!("{} after {} tokens", ms(l.first_token), l.prompt)),
            row("each token", format!("p50 {}, p95 {}, p99 {}", ms(l.p50), ms(l.p95), ms(l.p99))),
            row("speed", format!("{:.1} tokens/s over {} tokens", l.tokens_per_second, l.generated)),
            row("peak memory", l.peak_memory.map_or("unknown".into(), |b| Bytes(b).to_string())),
            row("on", format!("{}, {} threads, {}", l.compute, l.threads, l.machine.cpu)),
        ],
        &[],
    ))
}
