//! Writes a model: atomically, and with its large tensors in a file beside it where they came from one, or where the model
//! would exceed what protobuf can hold (2 GiB).

use super::external::Location;
use super::proto::{GraphProto, ModelProto, TensorProto};
use crate::atomic::{AtomicFile, WriteError};
use prost::Message;
use std::path::{Path, PathBuf};

/// The largest message.
const LIMIT: usize = i32::MAX as usize;
/// Smaller tensors stay in the model.
const SMALL: usize = 1024;
/// External tensors begin at multiples of this, so that they can be mapped.
const ALIGN: u64 = 4096;

/// Where tensors go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Into the model, unless it would exceed 2 GiB.
    Inline,
    /// Into a file beside the model, `<name>.data`.
    Beside,
}

/// Writes a model whose tensors all hold their numbers themselves, and says which files it made.
pub fn write(target: &Path, mut model: ModelProto, layout: Layout) -> Result<Vec<PathBuf>, WriteError> {
    if layout == Layout::Inline && model.encoded_len() <= LIMIT {
        write_model(target, &model)?;
        return Ok(vec![target.to_owned()]);
    }
    let mut beside = target.as_os_str().to_owned();
    beside.push(".data");
    let beside = PathBuf::from(beside);
    let name = beside.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let (mut data, mut end) = (AtomicFile::create(&beside)?, 0);
    for tensor in model.graph.iter_mut().flat_map(initializers) {
        end = move_out(tensor, &mut data, &name, end)?;
    }
    if model.encoded_len() > LIMIT {
        let what = "the model exceeds 2 GiB even without its initialisers".into();
        return Err(WriteError::Header { path: target.to_owned(), what });
    }
    data.commit()?;
    write_model(target, &model)?;
    Ok(vec![target.to_owned(), beside])
}

fn initializers(graph: &mut GraphProto) -> impl Iterator<Item = &mut TensorProto> {
    graph.initializer.iter_mut()
}

/// Moves a large tensor's bytes behind `end`, and returns the new end.
fn move_out(tensor: &mut TensorProto, data: &mut AtomicFile, file: &str, end: u64) -> Result<u64, WriteError> {
    match tensor.raw_data.take() {
        Some(raw) if raw.len() >= SMALL => {
            let offset = end.next_multiple_of(ALIGN);
            data.write_at(offset, &raw)?;
            let location = Location { file: file.to_owned(), offset, length: Some(raw.len() as u64) };
            tensor.external_data = location.entries();
            tensor.data_location = Some(1);
            Ok(offset + raw.len() as u64)
        }
        small => {
            tensor.raw_data = small;
            Ok(end)
        }
    }
}

fn write_model(target: &Path, model: &ModelProto) -> Result<(), WriteError> {
    let mut file = AtomicFile::create(target)?;
    file.write(&model.encode_to_vec())?;
    file.commit()
}
