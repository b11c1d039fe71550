//! The header: parsed, then every claim in it checked against the file.

use super::{Problem, TensorInfo};
use crate::shape::elements;
use codec::Dtype;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use std::collections::{BTreeMap, HashSet};
use std::fmt;

/// Longest header that is read, in bytes (the limit of the reference reader).
pub const MAX_HEADER: usize = 100_000_000;

/// A checked header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Tensors in the order of their bytes; `file` is 0.
    pub tensors: Vec<TensorInfo>,
    /// What `__metadata__` holds.
    pub metadata: BTreeMap<String, String>,
}

/// Parses and checks the header of a whole file; the data is not read.
pub fn parse(file: &[u8]) -> Result<Header, Problem> {
    let truncated = Problem::Truncated { len: file.len() };
    let Some((length, rest)) = file.split_first_chunk::<8>() else { return Err(truncated) };
    let claimed = u64::from_le_bytes(*length);
    let n = usize::try_from(claimed).ok().filter(|n| *n <= MAX_HEADER);
    let Some((json, data)) = n.and_then(|n| rest.split_at_checked(n)) else {
        return Err(Problem::HeaderLength { claimed, available: rest.len() });
    };
    let raw: RawHeader = serde_json::from_slice(json).map_err(Problem::Json)?;
    let start = file.len() - data.len();
    let mut tensors = Vec::with_capacity(raw.tensors.len());
    for (name, entry) in raw.tensors {
        tensors.push(check(name, entry, data.len())?);
    }
    tensors.sort_by_key(|t| (t.range.start, t.range.end));
    check_cover(&tensors, data.len())?;
    for tensor in &mut tensors {
        tensor.range = start + tensor.range.start..start + tensor.range.end;
    }
    Ok(Header { tensors, metadata: raw.metadata })
}

/// Checks one tensor by itself. The range still counts from the start of the data.
fn check(tensor: String, entry: RawTensor, data_len: usize) -> Result<TensorInfo, Problem> {
    let RawTensor { dtype, shape, data_offsets: [begin, end] } = entry;
    let Some(dtype) = dtype_by_name(&dtype) else { return Err(Problem::Dtype { tensor, dtype }) };
    if begin > end || end > data_len {
        return Err(Problem::Beyond { tensor, begin, end, len: data_len });
    }
    match byte_len(dtype, &shape) {
        None => Err(Problem::Overflow { tensor, shape }),
        Some(expected) if expected != end - begin => Err(Problem::Size { tensor, expected, got: end - begin }),
        Some(_) => Ok(TensorInfo { name: tensor, dtype, shape, range: begin..end, file: 0 }),
    }
}

/// Checks that sorted tensors cover the data exactly.
fn check_cover(tensors: &[TensorInfo], data_len: usize) -> Result<(), Problem> {
    let mut covered = 0;
    let mut last = "";
    for t in tensors {
        if t.range.start < covered {
            return Err(Problem::Overlap { tensor: t.name.clone(), other: last.to_owned() });
        }
        if t.range.start > covered {
            return Err(Problem::Hole { tensor: t.name.clone(), bytes: t.range.start - covered });
        }
        (covered, last) = (t.range.end, &t.name);
    }
    if covered < data_len { Err(Problem::Trailing { bytes: data_len - covered }) } else { Ok(()) }
}

/// Bytes of a tensor; `None` where the product does not fit.
pub(super) fn byte_len(dtype: Dtype, shape: &[usize]) -> Option<usize> {
    elements(shape)?.checked_mul(dtype.bytes())
}

/// The type that safetensors calls by this name.
fn dtype_by_name(name: &str) -> Option<Dtype> {
    use Dtype::*;
    [F64, F32, F16, BF16, F8E4M3, F8E5M2, I8, U8, I16, U16, I32, U32, I64, U64, Bool]
        .into_iter()
        .find(|d| d.name() == name)
}

/// A tensor as the JSON has it.
#[derive(serde::Deserialize)]
struct RawTensor {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [usize; 2],
}

/// The JSON object, keys in order. By hand, because a map would swallow duplicate keys.
struct RawHeader {
    tensors: Vec<(String, RawTensor)>,
    metadata: BTreeMap<String, String>,
}

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = RawHeader;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with one entry per tensor")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
        let mut header = RawHeader { tensors: vec![], metadata: BTreeMap::new() };
        let mut seen = HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            if !seen.insert(name.clone()) {
                return Err(A::Error::custom(format!("`{name}` appears twice")));
            }
            let in_entry = |e| A::Error::custom(format!("`{name}`: {e}"));
            if name == "__metadata__" {
                header.metadata = map.next_value().map_err(in_entry)?;
            } else {
                let entry = map.next_value().map_err(in_entry)?;
                header.tensors.push((name, entry));
            }
        }
        Ok(header)
    }
}
