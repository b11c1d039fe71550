//! Decoders that go through steps before they are written: they lose layers, experts, heads or channels, or single numbers. Where the recipe
//! asks for encodings too, what is left is planned and encoded as any model is. The artifact is measured against the model as it was.

use crate::compress::{Outcome, Run};
use crate::network::{self, Context};
use crate::staging::Staging;
use crate::{EngineError, Options, Planner, Progress, convert, pool, proof, provenance};
use formats::hf::Json;
use graph::{DecoderConfig, Layer};
use import::{ImportError, Imported, Parsed};
use plan::{
    Container, Counters, Goal, Journal, NetworkEntry, Note, Plan, Provenance, Recipe, Stage, StepEntry, Versus,
    step_names,
};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Carries out a plan with steps.
pub(crate) fn compress(
    imported: &Imported,
    plan: &Plan,
    out: &Path,
    options: &Options<'_>,
    progress: &dyn Progress,
) -> Result<Outcome, EngineError> {
    if options.imatrix.is_some() {
        return Err(EngineError::ImatrixAndSteps);
    }
    let work = Work { imported, plan, out, options, progress };
    pool(options)?.install(|| work.run())
}

/// A run on its way.
struct Work<'a> {
    imported: &'a Imported,
    plan: &'a Plan,
    out: &'a Path,
    options: &'a Options<'a>,
    progress: &'a dyn Progress,
}

impl Work<'_> {
    fn run(&self) -> Result<Outcome, EngineError> {
        let sources: Vec<&Path> =
            self.imported.files.iter().map(PathBuf::as_path).chain([&*self.imported.path]).collect();
        let staging = Staging::open(self.out, &sources, self.options.replace)?;
        let begun = Instant::now();
        let (pruned, steps) = self.steps()?;
        let (before, after) = (Counters::of(&self.imported.model)?, Counters::of(&pruned.model)?);
        let (layers, difference, accuracy, energy, fusion) = (Vec::new(), None, None, None, None);
        let network = NetworkEntry { before, after, steps, layers, difference, accuracy, energy, fusion };
        let recipe = &self.plan.recipe;
        let done = Stage { name: step_names(&recipe.steps), seconds: begun.elapsed().as_secs_f64() };
        if recipe.goal == Goal::Keep && recipe.rules.is_empty() {
            return self.write(&pruned, network, done, staging);
        }
        drop(staging);
        self.encode(&pruned, network, done)
    }

    /// The decoder after every step, its configuration following.
    fn steps(&self) -> Result<(Imported, Vec<StepEntry>), EngineError> {
        let mut pruned = self.imported.clone();
        let context = Context::new(self.imported, self.options, self.progress, self.out);
        let mut entries = Vec::new();
        for step in &self.plan.recipe.steps {
            let (pass, start) = (step.name(), Instant::now());
            let unsound = |when| move |source| EngineError::Unsound { pass, when, source };
            pruned.model.check().map_err(unsound("before"))?;
            let done = network::run(&mut pruned.model, step, &context)?;
            passes::prune::configure(&mut pruned.model).map_err(|e| EngineError::Pass { pass, source: e.into() })?;
            pruned.model.check().map_err(unsound("after"))?;
            let (after, seconds) = (Counters::of(&pruned.model)?, start.elapsed().as_secs_f64());
            entries.push(done.entry(pass, after, seconds));
        }
        if let (Some(old), Some(new)) = (self.imported.model.decoder(), pruned.model.decoder()) {
            resize(&mut pruned.config, old, new);
            if let (true, Some(last)) = (old.layers.len() != new.layers.len() && uneven(new), entries.last_mut()) {
                let what = "which layers slide is said by `layer_types`, or by a list in GGUF: transformers before 4.53 goes by \
                            the layers' numbers, and runs another model";
                last.notes.push(Note { weight: None, what: what.into() });
            }
            if self.plan.container != Container::Gguf {
                check_config(&pruned.config, new)?;
            }
        }
        Ok((pruned, entries))
    }

    /// Plans what is left, and encodes it.
    fn encode(&self, pruned: &Imported, network: NetworkEntry, done: Stage) -> Result<Outcome, EngineError> {
        let rest = Recipe { steps: Vec::new(), ..self.plan.recipe.clone() };
        let plan = Planner::new(pruned, &rest, self.options, self.progress)?.plan()?;
        let plan = Plan { recipe: self.plan.recipe.clone(), ..plan };
        let run = Run::new(pruned, &plan, self.out, self.options, self.progress)?;
        let mut made = run.against(&self.imported.model).finish()?;
        made.plan.mix = format!("{}-{}", done.name, plan.mix);
        let journal = &mut made.journal;
        journal.notes.extend(notes_of(&network.steps));
        journal.seconds.measured = journal.seconds.measured.map(|seconds| seconds + done.seconds);
        journal.stages.insert(0, done);
        journal.network = Some(network);
        made.settle()
    }

    /// Writes what is left as plain numbers.
    fn write(
        &self,
        pruned: &Imported,
        network: NetworkEntry,
        done: Stage,
        staging: Staging,
    ) -> Result<Outcome, EngineError> {
        let start = Instant::now();
        let plan = Planner::new(pruned, &self.plan.recipe, self.options, self.progress)?.plan()?;
        let written = convert::write(pruned, plan.container, &staging.path(), self.progress)?;
        let tokenizer = self.imported.tokenizer()?;
        let source = proof::Source { reference: &self.imported.model, tokenizer: &tokenizer, target: &pruned.model };
        let (spec, artifact) = (&plan.recipe.proof, staging.written()?);
        let (proof, tensors) = proof::prove(&source, &artifact, None, spec, self.options, self.progress)?;
        let violations = proof.quality.as_ref().map_or(Vec::new(), |quality| spec.violations(quality));
        let written = written.notes.into_iter().map(|what| Note { weight: None, what });
        let rest = Stage { name: "write, check and measure".into(), seconds: start.elapsed().as_secs_f64() };
        let seconds = Versus { predicted: plan.prediction.seconds(), measured: Some(done.seconds + rest.seconds) };
        let memory = eval::peak_memory().map(|b| b as f64);
        let journal = Journal {
            calibration: None,
            provenance: self.provenance()?,
            tensors,
            notes: written.chain(notes_of(&network.steps)).collect(),
            stages: vec![done, rest],
            size: Versus { predicted: network.after.bytes as f64, measured: Some(proof.bytes as f64) },
            memory: Versus { predicted: plan.prediction.memory.0 as f64, measured: memory },
            seconds,
            proof,
            network: Some(network),
        };
        if !violations.is_empty() {
            let (rejected, plan, journal) = (staging.reject()?, Box::new(plan), Box::new(journal));
            return Err(EngineError::Gates { rejected, violations, plan, journal });
        }
        Ok(Outcome { plan, journal, files: staging.commit()? })
    }

    fn provenance(&self) -> Result<Provenance, EngineError> {
        Ok(Provenance {
            tool: concat!("tinier ", env!("CARGO_PKG_VERSION")).into(),
            source: provenance::hashes(&self.imported.path, &self.imported.files, self.progress)?,
            recipe: self.plan.recipe.to_toml(),
            seed: self.options.seed,
            threads: self.options.threads(),
            machine: eval::machine(),
        })
    }
}

fn notes_of(steps: &[StepEntry]) -> Vec<Note> {
    steps.iter().flat_map(|step| step.notes.clone()).collect()
}

/// Makes a `config.json` say what the decoder has become: numbers that were the old ones become the new ones.
fn resize(config: &mut Map<String, Value>, old: &DecoderConfig, new: &DecoderConfig) {
    let text = match config.get_mut("text_config") {
        Some(Value::Object(text)) => text,
        _ => config,
    };
    let of_expert = |c: &DecoderConfig| c.experts.as_ref().map_or(c.ffn, |e| e.ffn);
    let experts = |c: &DecoderConfig| c.experts.as_ref().map_or(0, |e| e.count);
    let sizes = [
        ("num_hidden_layers", old.layers.len(), new.layers.len()),
        ("num_experts", experts(old), experts(new)),
        ("num_local_experts", experts(old), experts(new)),
        ("num_attention_heads", old.heads, new.heads),
        ("num_key_value_heads", old.kv_heads, new.kv_heads),
        ("moe_intermediate_size", of_expert(old), of_expert(new)),
        ("intermediate_size", of_expert(old), of_expert(new)),
        ("intermediate_size", old.ffn, new.ffn),
    ];
    for (key, old, new) in sizes {
        if let Some(value) = text.get_mut(key).filter(|value| value.as_u64() == Some(old as u64)) {
            *value = new.into();
        }
    }
    // Loaders divide the width by the heads where nothing is said.
    text.insert("head_dim".into(), new.head_dim.into());
    if new.layers.len() != old.layers.len() {
        list_layers(text, new);
    }
}

/// Whether some layers slide and some do not.
fn uneven(config: &DecoderConfig) -> bool {
    config.layers.windows(2).any(|pair| pair[0].window.is_some() != pair[1].window.is_some())
}

/// Lists what differs from layer to layer: patterns that go by a layer's number hold no more.
fn list_layers(config: &mut Map<String, Value>, new: &DecoderConfig) {
    if uneven(new) || config.get("layer_types").is_some_and(Value::is_array) {
        let kind = |layer: &Layer| if layer.window.is_some() { "sliding_attention" } else { "full_attention" };
        config.insert("layer_types".into(), new.layers.iter().map(kind).collect());
    }
    if let Some(value) = config.get_mut("max_window_layers") {
        *value = new.layers.iter().take_while(|layer| layer.window.is_none()).count().into();
    }
    if new.layers.iter().any(|layer| layer.moe) && config.contains_key("mlp_only_layers") {
        let dense = new.layers.iter().enumerate().filter(|(_, layer)| !layer.moe).map(|(n, _)| n);
        config.insert("mlp_only_layers".into(), dense.collect());
        config.insert("decoder_sparse_step".into(), 1.into());
    }
}

/// Reads a config again: it must say what the decoder is, in a way that loaders take.
fn check_config(config: &Map<String, Value>, decoder: &DecoderConfig) -> Result<(), EngineError> {
    let path = Path::new(formats::hf::CONFIG);
    let text = Value::Object(config.clone()).to_string();
    let fail = |problems| ImportError { path: path.into(), problems };
    let json = Json::parse(path, text.as_bytes()).map_err(|e| fail(vec![e.into()]))?;
    let differs = match import::parse_config(&json, path).map_err(fail)? {
        Parsed::Unknown { reason } => Some(reason),
        Parsed::Decoder(_, read) => difference(&read, decoder).map(|what| format!("{what} would be read otherwise")),
    };
    let differs = differs.or_else(|| refused(decoder));
    differs.map_or(Ok(()), |what| Err(EngineError::Unsayable { family: decoder.family.clone(), what }))
}

/// What `transformers` refuses though it could run it.
fn refused(c: &DecoderConfig) -> Option<String> {
    let divides = matches!(&*c.family, "llama" | "gemma3_text") && !c.hidden.is_multiple_of(c.heads.max(1));
    divides.then(|| format!("transformers wants a width ({}) that is a multiple of the heads ({})", c.hidden, c.heads))
}

/// In what two decoders differ that loaders build.
fn difference(a: &DecoderConfig, b: &DecoderConfig) -> Option<&'static str> {
    let of_layers = |c: &DecoderConfig| c.layers.iter().map(|l| (l.window, l.moe)).collect::<Vec<_>>();
    let checks = [
        (a.layers.len() != b.layers.len(), "the number of layers"),
        (of_layers(a) != of_layers(b), "which layers slide or have experts"),
        (a.layers.iter().zip(&b.layers).any(|(a, b)| a.rope != b.rope), "how layers are rotated"),
        ((a.heads, a.kv_heads, a.head_dim, a.ffn) != (b.heads, b.kv_heads, b.head_dim, b.ffn), "its widths"),
        (a.experts != b.experts, "its experts"),
    ];
    checks.into_iter().find(|(differ, _)| *differ).map(|(_, what)| what)
}
