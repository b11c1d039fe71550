//! Streaming writer: keys and tensor infos up front, then the bytes of one tensor at a time.

use super::{Array, DEFAULT_ALIGNMENT, GgufType, Metadata, Value, split_name};
use crate::atomic::{TensorProblem, WriteError};
use crate::shape::elements;
use crate::stream::{Place, Stream, tensor_error};
use codec::Encoding;
use std::path::Path;

/// Longest tensor name that ggml reads, in bytes.
const MAX_NAME: usize = 63;

/// A tensor that will be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Its name, at most 63 bytes.
    pub name: String,
    /// Outermost dimension first, at most four.
    pub shape: Vec<usize>,
    /// How its numbers lie in bytes: plain or block.
    pub encoding: Encoding,
}

/// Writes one file, or the files of a split. Tensors may come in any order; nothing is buffered.
#[derive(Debug)]
pub struct Writer(Stream);

/// A checked tensor.
struct Checked<'a> {
    spec: &'a TensorSpec,
    ty: GgufType,
    len: u64,
}

impl Writer {
    /// Starts one file. It appears at [`Writer::finish`].
    pub fn file(path: &Path, metadata: &Metadata, tensors: &[TensorSpec]) -> Result<Writer, WriteError> {
        let mut stream = Stream::new(path);
        start(&mut stream, path, metadata, &check_all(path, tensors)?)?;
        Ok(Writer(stream))
    }

    /// Bytes of the file that [`Writer::file`] starts, or of all files of [`Writer::split`], headers and padding counted.
    pub fn bytes(
        path: &Path,
        metadata: &Metadata,
        tensors: &[TensorSpec],
        max_bytes: Option<u64>,
    ) -> Result<u64, WriteError> {
        let whole =
            |keys: &Metadata, part: &[Checked<'_>]| header(path, keys, part).map(|h| h.bytes.len() as u64 + h.end);
        let all = check_all(path, tensors)?;
        let Some(max) = max_bytes else { return whole(metadata, &all) };
        split_keys(path, metadata, parts(all, max))?.iter().map(|(keys, part)| whole(keys, part)).sum()
    }

    /// Starts the files `stem-00001-of-000NN.gguf` of a split (`path` is `…/stem.gguf`), each with at most `max_bytes`
    /// of tensors (a larger tensor has a file of its own). The first also has the keys.
    pub fn split(
        path: &Path,
        metadata: &Metadata,
        tensors: &[TensorSpec],
        max_bytes: u64,
    ) -> Result<Writer, WriteError> {
        let parts = split_keys(path, metadata, parts(check_all(path, tensors)?, max_bytes))?;
        let stem = path.file_stem().and_then(|s| s.to_str()).unwrap_or("model");
        let mut stream = Stream::new(path);
        for (i, (keys, part)) in parts.iter().enumerate() {
            start(&mut stream, &path.with_file_name(split_name(stem, i + 1, parts.len())), keys, part)?;
        }
        Ok(Writer(stream))
    }

    /// Writes a tensor's encoded bytes.
    pub fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), WriteError> {
        self.0.write(name, bytes)
    }

    /// Writes the next of a tensor's bytes: a tensor may come in pieces, in order.
    pub fn append(&mut self, name: &str, bytes: &[u8]) -> Result<(), WriteError> {
        self.0.append(name, bytes)
    }

    /// The names that the files will have, in order.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.paths()
    }

    /// Syncs and names the files. Fails where a tensor was never written.
    pub fn finish(self) -> Result<(), WriteError> {
        self.0.finish()
    }
}

/// All that stands before the tensors, where each of them lies behind it, and where they end.
struct Header<'a> {
    bytes: Vec<u8>,
    places: Vec<Place<'a>>,
    end: u64,
}

/// Opens a file and writes its header.
fn start(stream: &mut Stream, path: &Path, metadata: &Metadata, tensors: &[Checked<'_>]) -> Result<(), WriteError> {
    let header = header(path, metadata, tensors)?;
    stream.start(path, &header.bytes, header.end, &header.places)
}

fn header<'a>(path: &Path, metadata: &Metadata, tensors: &[Checked<'a>]) -> Result<Header<'a>, WriteError> {
    let alignment = alignment(path, metadata)?;
    let mut header = b"GGUF\x03\0\0\0".to_vec();
    header.extend((tensors.len() as u64).to_le_bytes());
    header.extend((metadata.iter().len() as u64).to_le_bytes());
    for (key, value) in metadata.iter() {
        put_string(&mut header, key);
        put_value(&mut header, value);
    }
    let mut places: Vec<Place<'a>> = Vec::with_capacity(tensors.len());
    let mut end = 0u64;
    for t in tensors {
        put_info(&mut header, t, end);
        places.push((&t.spec.name, end, t.len));
        end = end
            .checked_add(t.len)
            .and_then(|n| n.checked_next_multiple_of(alignment as u64))
            .ok_or_else(|| tensor_error(path, &t.spec.name, TensorProblem::TooLarge))?;
    }
    header.resize(header.len().next_multiple_of(alignment), 0);
    Ok(Header { bytes: header, places, end })
}

/// The keys of every file of a split, beside its tensors.
fn split_keys<'a>(
    path: &Path,
    metadata: &Metadata,
    parts: Vec<Vec<Checked<'a>>>,
) -> Result<Vec<(Metadata, Vec<Checked<'a>>)>, WriteError> {
    let (files, tensors) = (fit::<u16>(path, parts.len())?, fit::<i32>(path, parts.iter().map(Vec::len).sum())?);
    let keyed = |(i, part)| {
        let mut keys = if i == 0 { metadata.clone() } else { alignment_only(metadata) };
        keys.set("split.no", fit::<u16>(path, i)?);
        keys.set("split.count", files);
        keys.set("split.tensors.count", tensors);
        Ok((keys, part))
    };
    parts.into_iter().enumerate().map(keyed).collect()
}

fn header_error(path: &Path, what: impl Into<String>) -> WriteError {
    WriteError::Header { path: path.to_owned(), what: what.into() }
}

/// Turns a count into a narrower type.
fn fit<T: TryFrom<usize>>(path: &Path, n: usize) -> Result<T, WriteError> {
    T::try_from(n).map_err(|_| header_error(path, format!("{n} files or tensors are too many for a split")))
}

fn alignment(path: &Path, metadata: &Metadata) -> Result<usize, WriteError> {
    match metadata.find::<u32>("general.alignment") {
        Ok(None) => Ok(DEFAULT_ALIGNMENT),
        Ok(Some(n)) if n.is_power_of_two() && n <= 65536 => Ok(n as usize),
        _ => Err(header_error(path, "`general.alignment` is not a power of two up to 65536")),
    }
}

/// The keys that every file of a split needs: only the alignment.
fn alignment_only(metadata: &Metadata) -> Metadata {
    let mut keys = Metadata::default();
    if let Some(value) = metadata.get("general.alignment") {
        keys.set("general.alignment", value.clone());
    }
    keys
}

fn check_all<'a>(path: &Path, tensors: &'a [TensorSpec]) -> Result<Vec<Checked<'a>>, WriteError> {
    tensors.iter().map(|t| check(t).map_err(|problem| tensor_error(path, &t.name, problem))).collect()
}

/// Finds a tensor's type and length, and refuses what ggml would.
fn check(spec: &TensorSpec) -> Result<Checked<'_>, TensorProblem> {
    let ty = GgufType::of(spec.encoding).ok_or(TensorProblem::Encoding { encoding: spec.encoding.to_string() })?;
    let (len, bytes) = ty.block().ok_or(TensorProblem::Encoding { encoding: spec.encoding.to_string() })?;
    if spec.name.len() > MAX_NAME || spec.shape.len() > 4 {
        return Err(TensorProblem::Limits);
    }
    let cols = spec.shape.last().copied().unwrap_or(1);
    if cols % len != 0 {
        return Err(TensorProblem::Columns { encoding: spec.encoding.to_string(), multiple: len, cols });
    }
    let elements = elements(&spec.shape).ok_or(TensorProblem::TooLarge)?;
    let len = (elements / len).checked_mul(bytes).ok_or(TensorProblem::TooLarge)? as u64;
    Ok(Checked { spec, ty, len })
}

/// Splits tensors, in order, into runs of at most `max_bytes`.
fn parts(tensors: Vec<Checked<'_>>, max_bytes: u64) -> Vec<Vec<Checked<'_>>> {
    let (mut parts, mut part, mut used) = (vec![], vec![], 0u64);
    for t in tensors {
        if used > 0 && used.saturating_add(t.len) > max_bytes {
            parts.push(std::mem::take(&mut part));
            used = 0;
        }
        used = used.saturating_add(t.len);
        part.push(t);
    }
    parts.push(part);
    parts
}

fn put_info(out: &mut Vec<u8>, t: &Checked<'_>, offset: u64) {
    put_string(out, &t.spec.name);
    out.extend((t.spec.shape.len() as u32).to_le_bytes());
    for d in t.spec.shape.iter().rev() {
        out.extend((*d as u64).to_le_bytes());
    }
    out.extend(t.ty.0.to_le_bytes());
    out.extend(offset.to_le_bytes());
}

fn put_string(out: &mut Vec<u8>, s: &str) {
    out.extend((s.len() as u64).to_le_bytes());
    out.extend(s.as_bytes());
}

/// A value's type and the value.
fn put_value(out: &mut Vec<u8>, value: &Value) {
    let mut put = |ty: u32, bytes: &[u8]| {
        out.extend(ty.to_le_bytes());
        out.extend(bytes);
    };
    match value {
        Value::U8(v) => put(0, &v.to_le_bytes()),
        Value::I8(v) => put(1, &v.to_le_bytes()),
        Value::U16(v) => put(2, &v.to_le_bytes()),
        Value::I16(v) => put(3, &v.to_le_bytes()),
        Value::U32(v) => put(4, &v.to_le_bytes()),
        Value::I32(v) => put(5, &v.to_le_bytes()),
        Value::F32(v) => put(6, &v.to_le_bytes()),
        Value::Bool(v) => put(7, &[u8::from(*v)]),
        Value::U64(v) => put(10, &v.to_le_bytes()),
        Value::I64(v) => put(11, &v.to_le_bytes()),
        Value::F64(v) => put(12, &v.to_le_bytes()),
        Value::String(v) => {
            put(8, &[]);
            put_string(out, v);
        }
        Value::Array(v) => {
            put(9, &[]);
            put_array(out, v);
        }
    }
}

/// An array's element type, its length and its elements.
fn put_array(out: &mut Vec<u8>, array: &Array) {
    match array {
        Array::U8(v) => put_all(out, 0, v, |o, x| o.extend(x.to_le_bytes())),
        Array::I8(v) => put_all(out, 1, v, |o, x| o.extend(x.to_le_bytes())),
        Array::U16(v) => put_all(out, 2, v, |o, x| o.extend(x.to_le_bytes())),
        Array::I16(v) => put_all(out, 3, v, |o, x| o.extend(x.to_le_bytes())),
        Array::U32(v) => put_all(out, 4, v, |o, x| o.extend(x.to_le_bytes())),
        Array::I32(v) => put_all(out, 5, v, |o, x| o.extend(x.to_le_bytes())),
        Array::F32(v) => put_all(out, 6, v, |o, x| o.extend(x.to_le_bytes())),
        Array::Bool(v) => put_all(out, 7, v, |o, x| o.push(u8::from(*x))),
        Array::String(v) => put_all(out, 8, v, |o, x| put_string(o, x)),
        Array::Array(v) => put_all(out, 9, v, put_array),
        Array::U64(v) => put_all(out, 10, v, |o, x| o.extend(x.to_le_bytes())),
        Array::I64(v) => put_all(out, 11, v, |o, x| o.extend(x.to_le_bytes())),
        Array::F64(v) => put_all(out, 12, v, |o, x| o.extend(x.to_le_bytes())),
    }
}

fn put_all<T>(out: &mut Vec<u8>, ty: u32, values: &[T], put: impl Fn(&mut Vec<u8>, &T)) {
    out.extend(ty.to_le_bytes());
    out.extend((values.len() as u64).to_le_bytes());
    values.iter().for_each(|v| put(out, v));
}
