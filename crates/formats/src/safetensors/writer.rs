//! Streaming writer: all headers up front, then the bytes of one tensor at a time.

use super::{INDEX, MAX_HEADER, SINGLE, header::byte_len};
use crate::atomic::{TensorProblem, WriteError, write_file};
use crate::stream::{Place, Stream, tensor_error};
use codec::Dtype;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

/// A tensor that will be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Its name.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Outermost dimension first.
    pub shape: Vec<usize>,
}

/// Writes one file, or a folder's files. Tensors may come in any order; nothing is buffered.
#[derive(Debug)]
pub struct Writer {
    stream: Stream,
    index: Option<(PathBuf, Vec<u8>)>,
}

impl Writer {
    /// Starts one file. It appears at [`Writer::finish`].
    pub fn file(path: &Path, tensors: &[TensorSpec]) -> Result<Writer, WriteError> {
        let mut stream = Stream::new(path);
        start(&mut stream, path, &tensors.iter().collect::<Vec<_>>())?;
        Ok(Writer { stream, index: None })
    }

    /// Starts the files of a model folder, which must exist: [`SINGLE`] where everything fits into `max_shard` bytes,
    /// else shards of at most that size (a larger tensor has a shard of its own) and [`INDEX`].
    pub fn folder(folder: &Path, tensors: &[TensorSpec], max_shard: u64) -> Result<Writer, WriteError> {
        let shards = shards(folder, tensors, max_shard)?;
        if shards.len() == 1 {
            return Writer::file(&folder.join(SINGLE), tensors);
        }
        let mut stream = Stream::new(folder);
        let mut total = 0;
        for (i, shard) in shards.iter().enumerate() {
            total += start(&mut stream, &folder.join(shard_name(i, shards.len())), shard)?;
        }
        Ok(Writer { stream, index: Some((folder.join(INDEX), index(&shards, total))) })
    }

    /// Bytes of the files that [`Writer::folder`] starts, headers and index counted.
    pub fn folder_bytes(folder: &Path, tensors: &[TensorSpec], max_shard: u64) -> Result<u64, WriteError> {
        let shards = shards(folder, tensors, max_shard)?;
        let (mut headers, mut total) = (0, 0);
        for shard in &shards {
            let header = header(folder, shard)?;
            (headers, total) = (headers + header.bytes.len() as u64, total + header.end);
        }
        let index = if shards.len() == 1 { 0 } else { index(&shards, total).len() as u64 };
        Ok(headers + total + index)
    }

    /// Writes a tensor's bytes, little endian, row-major.
    pub fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), WriteError> {
        self.stream.write(name, bytes)
    }

    /// Writes the next of a tensor's bytes: a tensor may come in pieces, in order.
    pub fn append(&mut self, name: &str, bytes: &[u8]) -> Result<(), WriteError> {
        self.stream.append(name, bytes)
    }

    /// The names that the files with tensors will have, in order.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.stream.paths()
    }

    /// Syncs and names the files, the index last. Fails where a tensor was never written.
    pub fn finish(self) -> Result<(), WriteError> {
        self.stream.finish()?;
        match self.index {
            Some((path, bytes)) => write_file(&path, &bytes),
            None => Ok(()),
        }
    }
}

fn shard_name(i: usize, shards: usize) -> String {
    format!("model-{:05}-of-{shards:05}.safetensors", i + 1)
}

/// The file that says which shard has which tensor.
fn index(shards: &[Vec<&TensorSpec>], total: u64) -> Vec<u8> {
    let names = |(i, shard): (usize, &Vec<&TensorSpec>)| {
        let name = shard_name(i, shards.len());
        shard.iter().map(|t| (t.name.clone(), Value::from(name.as_str()))).collect::<Vec<_>>()
    };
    let map: Map<String, Value> = shards.iter().enumerate().flat_map(names).collect();
    format!("{:#}\n", json!({"metadata": {"total_size": total}, "weight_map": map})).into_bytes()
}

/// All that stands before the tensors, where each of them lies behind it, and where they end.
struct Header<'a> {
    bytes: Vec<u8>,
    places: Vec<Place<'a>>,
    end: u64,
}

/// Opens a file and writes its header; gives the bytes of its data.
fn start(stream: &mut Stream, path: &Path, tensors: &[&TensorSpec]) -> Result<u64, WriteError> {
    let header = header(path, tensors)?;
    stream.start(path, &header.bytes, header.end, &header.places)?;
    Ok(header.end)
}

fn header<'a>(path: &Path, tensors: &[&'a TensorSpec]) -> Result<Header<'a>, WriteError> {
    // Wide types first: after the padded header, every tensor is aligned to its element size.
    let mut tensors = tensors.to_vec();
    tensors.sort_by_key(|t| std::cmp::Reverse(t.dtype.bytes()));
    let mut entries = Map::from_iter([("__metadata__".to_owned(), json!({"format": "pt"}))]);
    let mut places: Vec<Place<'a>> = vec![];
    let mut end = 0u64;
    for t in &tensors {
        let (begin, len) = (end, len_of(path, t)?);
        end = begin.checked_add(len).ok_or_else(|| tensor_error(path, &t.name, TensorProblem::TooLarge))?;
        let entry = json!({"dtype": t.dtype.name(), "shape": t.shape, "data_offsets": [begin, end]});
        if entries.insert(t.name.clone(), entry).is_some() {
            return Err(tensor_error(path, &t.name, TensorProblem::Duplicate));
        }
        places.push((&t.name, begin, len));
    }
    Ok(Header { bytes: header_bytes(path, entries)?, places, end })
}

fn len_of(path: &Path, t: &TensorSpec) -> Result<u64, WriteError> {
    byte_len(t.dtype, &t.shape).map(|n| n as u64).ok_or_else(|| tensor_error(path, &t.name, TensorProblem::TooLarge))
}

/// Splits tensors, in order, into runs of at most `max_shard` bytes.
fn shards<'a>(path: &Path, tensors: &'a [TensorSpec], max_shard: u64) -> Result<Vec<Vec<&'a TensorSpec>>, WriteError> {
    let mut shards = vec![vec![]];
    let mut used = 0u64;
    for t in tensors {
        let len = len_of(path, t)?;
        if used > 0 && used.saturating_add(len) > max_shard {
            shards.push(vec![]);
            used = 0;
        }
        used = used.saturating_add(len);
        if let Some(shard) = shards.last_mut() {
            shard.push(t);
        }
    }
    Ok(shards)
}

/// The length and the JSON, padded with spaces to a multiple of eight bytes.
fn header_bytes(path: &Path, entries: Map<String, Value>) -> Result<Vec<u8>, WriteError> {
    let mut json = Value::Object(entries).to_string().into_bytes();
    json.resize(json.len().next_multiple_of(8), b' ');
    if json.len() > MAX_HEADER {
        let what = format!("a header of {} bytes is more than readers accept; use smaller shards", json.len());
        return Err(WriteError::Header { path: path.to_owned(), what });
    }
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.append(&mut json);
    Ok(bytes)
}
