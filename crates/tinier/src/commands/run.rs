//! `tinier run`: text from a model.

use super::eval::{decoder, running};
use crate::cli::{Common, Run};
use crate::{output, source};
use anyhow::{Result, bail};
use exec::Sampling;
use import::tokenizer::Tokenizer;
use serde_json::json;
use std::io::Write;

pub fn run(args: Run, common: &Common) -> Result<()> {
    let imported = source::open(&args.source, common)?;
    let tokenizer = imported.tokenizer()?;
    let prompt = prompt(&args.prompt, &tokenizer)?;
    let room = decoder(&imported)?.1.context.saturating_sub(prompt.len());
    if room == 0 {
        bail!("the prompt has {} tokens, the model's context is no longer", prompt.len());
    }
    let mut model = running(&imported, args.bf16)?;
    let mut text = Stream { tokenizer: &tokenizer, ids: Vec::new(), said: 0, silent: common.json };
    let (mut failed, stops) = (None, tokenizer.stop_ids());
    let sampling = sampling(&args, common)?;
    exec::generate(model.executor(), &prompt, args.max_tokens.min(room), sampling, &mut |id| {
        if stops.contains(&id) {
            return false;
        }
        failed = text.push(id).err();
        failed.is_none()
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    match common.json {
        true => output::json(&json!({"prompt": args.prompt, "text": tokenizer.decode(&text.ids)?, "ids": text.ids})),
        false => output::text(""),
    }
}

/// The prompt's ids, BOS first where the model has one; an empty prompt needs something to follow.
fn prompt(text: &str, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
    let ids = tokenizer.encode(text)?;
    let bos = tokenizer.bos().filter(|_| tokenizer.add_bos() || ids.is_empty());
    let prompt: Vec<u32> = bos.into_iter().chain(ids).collect();
    if prompt.is_empty() {
        bail!("the model has no token that begins a text; give a --prompt");
    }
    Ok(prompt)
}

fn sampling(args: &Run, common: &Common) -> Result<Sampling> {
    if args.temperature < 0.0 || !args.temperature.is_finite() {
        bail!("--temperature {} makes no sense; take 0 or more", args.temperature);
    }
    if args.temperature == 0.0 {
        return Ok(Sampling::Greedy);
    }
    let top_p = f64::from(args.top_p.unwrap_or(1.0));
    Ok(Sampling::Random { temperature: f64::from(args.temperature), top_k: args.top_k, top_p, seed: common.seed })
}

/// Prints text as its tokens come: whole characters only.
struct Stream<'a> {
    tokenizer: &'a Tokenizer,
    ids: Vec<u32>,
    said: usize,
    silent: bool,
}

impl Stream<'_> {
    fn push(&mut self, id: u32) -> Result<()> {
        self.ids.push(id);
        let text = self.tokenizer.decode(&self.ids)?;
        let whole = text.trim_end_matches('\u{fffd}').len();
        if let Some(new) = text.get(self.said..whole).filter(|new| !self.silent && !new.is_empty()) {
            let mut out = std::io::stdout().lock();
            out.write_all(new.as_bytes())?;
            out.flush()?;
            self.said = whole;
        }
        Ok(())
    }
}
