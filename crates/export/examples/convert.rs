//! Converts a model to GGUF by a preset, for measurements: `convert MODEL OUT.gguf PRESET [THREADS]`.

#![allow(clippy::print_stdout)]

use export::gguf::{self, Options};
use import::tokenizer::Tokenizer;
use plan::Preset;
use plan::preset::Facts;
use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [folder, out, preset, rest @ ..] = &args[..] else {
        return Err("usage: convert MODEL OUT.gguf PRESET [THREADS]".into());
    };
    if let [threads] = rest {
        rayon::ThreadPoolBuilder::new().num_threads(threads.parse()?).build_global()?;
    }
    let (folder, preset): (&Path, Preset) = (folder.as_ref(), preset.parse()?);
    let mut model = import::open(folder)?.model;
    let config = model.decoder().ok_or("no known architecture")?;
    let facts = Facts::of(config);
    let weights: Vec<_> = model.weights.iter().map(|(id, w)| (id, preset.encoding(&facts, w))).collect();
    for (id, encoding) in weights {
        model.apply(passes::quantize::round::apply(&model, id, encoding, None))?;
    }
    let Preset::Mix(mix) = preset else { return Err("a preset for GGUF is needed".into()) };
    let name = folder.file_name().and_then(|n| n.to_str()).unwrap_or("model");
    let options = Options { name, file_type: mix.file_type(), split_max_bytes: None };
    let written = gguf::write(&model, &Tokenizer::from_folder(folder)?, out.as_ref(), options, &|_| ())?;
    println!("{} tensors, {} bytes", written.tensors, written.bytes);
    written.notes.iter().for_each(|note| println!("note: {note}"));
    Ok(())
}
