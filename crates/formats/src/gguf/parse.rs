//! The header: parsed, then every claim in it checked against the file.

use super::{Array, DEFAULT_ALIGNMENT, GgufType, Metadata, Problem, TensorInfo, Value};
use crate::shape::elements;
use std::collections::HashSet;

/// How deep arrays may nest.
const MAX_DEPTH: usize = 4;

/// A checked header.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// 2 or 3.
    pub version: u32,
    /// The keys.
    pub metadata: Metadata,
    /// Tensors in the order of the infos; `file` is 0.
    pub tensors: Vec<TensorInfo>,
}

/// Parses and checks the header of a whole file; the data is not read.
pub fn parse(file: &[u8]) -> Result<Header, Problem> {
    let mut cursor = Cursor { file, at: 0 };
    if file.first_chunk() != Some(b"GGUF") {
        return Err(Problem::Magic);
    }
    cursor.at = 4;
    let version = u32::from_le_bytes(cursor.array("the version")?);
    if version != 2 && version != 3 {
        return Err(Problem::Version { version });
    }
    let n_tensors = cursor.u64("the tensor count")?;
    let n_keys = cursor.u64("the key count")?;
    // The smallest key: length, type, one byte. The smallest info: length, dimensions, type, offset.
    let n_keys = cursor.count("keys", n_keys, 13)?;
    let metadata = cursor.metadata(n_keys)?;
    let n_tensors = cursor.count("tensors", n_tensors, 24)?;
    let infos = (0..n_tensors).map(|_| cursor.info()).collect::<Result<Vec<_>, _>>()?;
    let alignment = alignment(&metadata)?;
    let start = cursor.at.next_multiple_of(alignment).min(file.len());
    let data_len = file.len() - start;
    let mut tensors = Vec::with_capacity(n_tensors);
    for info in infos {
        tensors.push(info.check(alignment, start, data_len)?);
    }
    check_distinct(&tensors)?;
    Ok(Header { version, metadata, tensors })
}

fn alignment(metadata: &Metadata) -> Result<usize, Problem> {
    match metadata.find::<u64>("general.alignment")? {
        None => Ok(DEFAULT_ALIGNMENT),
        Some(n) if n.is_power_of_two() && n <= 65536 => Ok(n as usize),
        Some(n) => Err(Problem::Alignment(n)),
    }
}

/// Checks that no two tensors share a name or bytes.
fn check_distinct(tensors: &[TensorInfo]) -> Result<(), Problem> {
    let mut names = HashSet::new();
    if let Some(t) = tensors.iter().find(|t| !names.insert(t.name.as_str())) {
        return Err(Problem::Duplicate { tensor: t.name.clone() });
    }
    let mut order: Vec<&TensorInfo> = tensors.iter().filter(|t| !t.range.is_empty()).collect();
    order.sort_by_key(|t| t.range.start);
    for (a, b) in order.iter().zip(order.iter().skip(1)) {
        if b.range.start < a.range.end {
            return Err(Problem::Overlap { tensor: b.name.clone(), other: a.name.clone() });
        }
    }
    Ok(())
}

/// A tensor info as the file has it.
struct RawInfo {
    name: String,
    /// Innermost first.
    dims: Vec<u64>,
    ty: GgufType,
    offset: u64,
}

impl RawInfo {
    /// Checks one tensor by itself against the data, which lies at `start` and has `data_len` bytes.
    fn check(self, alignment: usize, start: usize, data_len: usize) -> Result<TensorInfo, Problem> {
        let RawInfo { name: tensor, dims, ty, offset } = self;
        let shape: Option<Vec<usize>> = dims.iter().rev().map(|d| usize::try_from(*d).ok()).collect();
        let Some((shape, elements)) = shape.and_then(|s| elements(&s).map(|n| (s, n))) else {
            return Err(Problem::Overflow { tensor, shape: dims });
        };
        if offset % alignment as u64 != 0 {
            return Err(Problem::Unaligned { tensor, offset, alignment });
        }
        let bytes = match ty.block() {
            None => 0,
            Some((len, bytes)) => {
                let cols = shape.last().copied().unwrap_or(1);
                if cols % len != 0 {
                    return Err(Problem::Columns { tensor, ty, cols, multiple: len });
                }
                (elements / len).checked_mul(bytes).ok_or(Problem::Overflow { tensor: tensor.clone(), shape: dims })?
            }
        };
        match usize::try_from(offset).ok().filter(|o| o.checked_add(bytes).is_some_and(|end| end <= data_len)) {
            Some(o) => Ok(TensorInfo { name: tensor, shape, ty, range: start + o..start + o + bytes, file: 0 }),
            None => Err(Problem::Beyond { tensor, offset, bytes, len: data_len }),
        }
    }
}

/// Reads a file from front to back.
struct Cursor<'a> {
    file: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn rest(&self) -> usize {
        self.file.len().saturating_sub(self.at)
    }

    fn take(&mut self, n: usize, what: &'static str) -> Result<&'a [u8], Problem> {
        let truncated = Problem::Truncated { at: self.at, what };
        let end = self.at.checked_add(n).ok_or(Problem::Truncated { at: self.at, what })?;
        let bytes = self.file.get(self.at..end).ok_or(truncated)?;
        self.at = end;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Problem> {
        let at = self.at;
        self.take(N, what)?.try_into().map_err(|_| Problem::Truncated { at, what })
    }

    fn u32(&mut self, what: &'static str) -> Result<u32, Problem> {
        self.array(what).map(u32::from_le_bytes)
    }

    fn u64(&mut self, what: &'static str) -> Result<u64, Problem> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A count of things that take at least `least` bytes each: refused where the file cannot hold them.
    fn count(&self, what: &'static str, count: u64, least: usize) -> Result<usize, Problem> {
        let rest = self.rest();
        usize::try_from(count).ok().filter(|n| *n <= rest / least).ok_or(Problem::Count { what, count, rest })
    }

    fn string(&mut self, what: &'static str) -> Result<String, Problem> {
        let n = self.u64(what)?;
        let n = self.count("bytes of text", n, 1)?;
        let at = self.at;
        let bytes = self.take(n, what)?;
        str::from_utf8(bytes).map(str::to_owned).map_err(|_| Problem::Utf8 { what, at })
    }

    fn metadata(&mut self, n: usize) -> Result<Metadata, Problem> {
        let mut metadata = Metadata::default();
        for _ in 0..n {
            let key = self.string("a key")?;
            if metadata.get(&key).is_some() {
                return Err(Problem::DuplicateKey { key });
            }
            let ty = self.u32("a value type")?;
            let value = self.value(ty, &key)?;
            metadata.set(key, value);
        }
        Ok(metadata)
    }

    fn value(&mut self, ty: u32, key: &str) -> Result<Value, Problem> {
        const WHAT: &str = "a value";
        Ok(match ty {
            0 => Value::U8(u8::from_le_bytes(self.array(WHAT)?)),
            1 => Value::I8(i8::from_le_bytes(self.array(WHAT)?)),
            2 => Value::U16(u16::from_le_bytes(self.array(WHAT)?)),
            3 => Value::I16(i16::from_le_bytes(self.array(WHAT)?)),
            4 => Value::U32(u32::from_le_bytes(self.array(WHAT)?)),
            5 => Value::I32(i32::from_le_bytes(self.array(WHAT)?)),
            6 => Value::F32(f32::from_le_bytes(self.array(WHAT)?)),
            7 => Value::Bool(self.array::<1>(WHAT)? != [0]),
            8 => Value::String(self.string(WHAT)?),
            9 => Value::Array(self.values(key, 1)?),
            10 => Value::U64(u64::from_le_bytes(self.array(WHAT)?)),
            11 => Value::I64(i64::from_le_bytes(self.array(WHAT)?)),
            12 => Value::F64(f64::from_le_bytes(self.array(WHAT)?)),
            _ => return Err(Problem::ValueType { key: key.to_owned(), ty }),
        })
    }

    /// An array, at nesting depth `depth`.
    fn values(&mut self, key: &str, depth: usize) -> Result<Array, Problem> {
        if depth > MAX_DEPTH {
            return Err(Problem::Depth { key: key.to_owned(), limit: MAX_DEPTH });
        }
        let ty = self.u32("an array type")?;
        let n = self.u64("an array length")?;
        Ok(match ty {
            0 => Array::U8(self.numbers(n, u8::from_le_bytes)?),
            1 => Array::I8(self.numbers(n, i8::from_le_bytes)?),
            2 => Array::U16(self.numbers(n, u16::from_le_bytes)?),
            3 => Array::I16(self.numbers(n, i16::from_le_bytes)?),
            4 => Array::U32(self.numbers(n, u32::from_le_bytes)?),
            5 => Array::I32(self.numbers(n, i32::from_le_bytes)?),
            6 => Array::F32(self.numbers(n, f32::from_le_bytes)?),
            7 => Array::Bool(self.numbers(n, |b: [u8; 1]| b != [0])?),
            8 => Array::String(self.many(n, 8, |c| c.string("a text in an array"))?),
            9 => Array::Array(self.many(n, 12, |c| c.values(key, depth + 1))?),
            10 => Array::U64(self.numbers(n, u64::from_le_bytes)?),
            11 => Array::I64(self.numbers(n, i64::from_le_bytes)?),
            12 => Array::F64(self.numbers(n, f64::from_le_bytes)?),
            _ => return Err(Problem::ValueType { key: key.to_owned(), ty }),
        })
    }

    fn numbers<T, const N: usize>(&mut self, n: u64, read: impl Fn([u8; N]) -> T) -> Result<Vec<T>, Problem> {
        let n = self.count("array elements", n, N)?;
        let bytes = self.take(n * N, "an array")?;
        let (chunks, _) = bytes.as_chunks();
        Ok(chunks.iter().map(|c| read(*c)).collect())
    }

    /// Elements of no fixed size, each at least `least` bytes.
    fn many<T>(
        &mut self,
        n: u64,
        least: usize,
        mut read: impl FnMut(&mut Self) -> Result<T, Problem>,
    ) -> Result<Vec<T>, Problem> {
        let n = self.count("array elements", n, least)?;
        (0..n).map(|_| read(self)).collect()
    }

    fn info(&mut self) -> Result<RawInfo, Problem> {
        let name = self.string("a tensor name")?;
        let dims = self.u32("a tensor info")?;
        if dims > 4 {
            return Err(Problem::Dimensions { tensor: name, dims });
        }
        let dims = (0..dims).map(|_| self.u64("a tensor info")).collect::<Result<_, _>>()?;
        Ok(RawInfo { name, dims, ty: GgufType(self.u32("a tensor info")?), offset: self.u64("a tensor info")? })
    }
}
