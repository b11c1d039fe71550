//! Rewrites a model folder with the matrices of its layers in another encoding, through the library alone:
//!
//! ```text
//! cargo run --release -p export --example pack -- SOURCE ENCODING OUT
//! ```
//!
//! `f32` decodes a packed folder into an ordinary checkpoint.

use codec::{Dtype, Encoding};
use graph::Encoded;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [source, encoding, out] = &args[..] else {
        return fail("usage: pack SOURCE ENCODING OUT");
    };
    match pack(Path::new(source), encoding, Path::new(out)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
    }
}

#[expect(clippy::print_stderr, reason = "a program's errors")]
fn fail(message: &str) -> ExitCode {
    eprintln!("{message}");
    ExitCode::FAILURE
}

fn pack(source: &Path, encoding: &str, out: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let encoding: Encoding = encoding.parse()?;
    let mut model = import::open(source)?;
    let weights: Vec<_> = model.model.weights.iter().map(|(id, w)| (id, w.clone())).collect();
    for (id, weight) in weights {
        let to = match (encoding, weight.encoding) {
            (Encoding::Plain(_), _) => encoding,
            _ if weight.place.layer.is_none() || weight.shape.len() != 2 => continue,
            (Encoding::Packed(packed), Encoding::Plain(dtype)) => Encoding::Packed(packed.following(dtype)),
            (Encoding::Packed(packed), _) => Encoding::Packed(packed.following(Dtype::BF16)),
            (Encoding::Block(_), _) => encoding,
        };
        let encoded = Encoded::new(weight.clone(), to, None, Encoding::encode);
        model.model.weights.replace(id, to, weight.shape.clone(), Arc::new(encoded));
    }
    export::compressed_tensors::write(&model, out, export::compressed_tensors::MAX_SHARD, &|_| {})?;
    Ok(())
}
