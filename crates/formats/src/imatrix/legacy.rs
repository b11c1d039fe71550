//! The layout before GGUF.

use super::{Entry, Imatrix, LEGACY_CALL, Problem};
use std::collections::BTreeMap;

/// Smallest entry: length, one letter, calls, count, one value.
const SMALLEST: usize = 17;

pub(super) fn parse(file: &[u8]) -> Result<Imatrix, Problem> {
    let mut cursor = Cursor { file, at: 0 };
    let count = cursor.count("entries", SMALLEST)?;
    let mut entries = BTreeMap::new();
    for _ in 0..count {
        let (name, entry) = cursor.entry()?;
        if entries.insert(name.clone(), entry).is_some() {
            return Err(Problem::Duplicate { tensor: name });
        }
    }
    let mut imatrix = Imatrix { entries, chunk_size: LEGACY_CALL, ..Imatrix::default() };
    if cursor.at < file.len() {
        imatrix.chunks = cursor.number("chunks")?.max(0).unsigned_abs();
        let name = cursor.text("the text's name", 0)?;
        imatrix.datasets = Some(name).filter(|n| !n.is_empty()).into_iter().collect();
    }
    Ok(imatrix)
}

/// `None` where a number does not fit.
pub(super) fn write(imatrix: &Imatrix) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    put(&mut out, imatrix.entries.values().filter(|e| seen(e)).count())?;
    for (name, entry) in imatrix.entries.iter().filter(|(_, e)| seen(e)) {
        put_text(&mut out, name)?;
        // Rounded up, so that few tokens are not none.
        let calls = entry.counts.iter().max()?.div_ceil(u64::from(imatrix.chunk_size.max(1)));
        put(&mut out, usize::try_from(calls).ok()?)?;
        put(&mut out, entry.sums.len())?;
        let columns = entry.sums.len() / entry.counts.len();
        for (i, sum) in entry.sums.iter().enumerate() {
            let count = *entry.counts.get(i / columns)? as f32;
            let mean = if count == 0.0 { 1.0 } else { sum / count };
            out.extend((mean * calls as f32).to_le_bytes());
        }
    }
    put(&mut out, imatrix.chunks as usize)?;
    put_text(&mut out, imatrix.datasets.last().map_or("", String::as_str))?;
    Some(out)
}

/// What saw nothing is not stored.
fn seen(entry: &Entry) -> bool {
    entry.counts.iter().any(|n| *n > 0)
}

fn put(out: &mut Vec<u8>, n: usize) -> Option<()> {
    out.extend(i32::try_from(n).ok()?.to_le_bytes());
    Some(())
}

fn put_text(out: &mut Vec<u8>, text: &str) -> Option<()> {
    put(out, text.len())?;
    out.extend(text.as_bytes());
    Some(())
}

/// Reads a file from front to back.
struct Cursor<'a> {
    file: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, n: usize, what: &'static str) -> Result<&'a [u8], Problem> {
        let end = self.at.checked_add(n);
        let bytes = end.and_then(|end| self.file.get(self.at..end)).ok_or(Problem::Truncated { at: self.at, what })?;
        self.at += n;
        Ok(bytes)
    }

    fn number(&mut self, what: &'static str) -> Result<i32, Problem> {
        let at = self.at;
        let bytes = self.take(4, what)?;
        Ok(i32::from_le_bytes(bytes.try_into().map_err(|_| Problem::Truncated { at, what })?))
    }

    /// A count, at least 1, of things of at least `least` bytes.
    fn count(&mut self, what: &'static str, least: usize) -> Result<usize, Problem> {
        let at = self.at;
        let value = self.number(what)?;
        let rest = self.file.len() - self.at;
        let fits = |n: &usize| *n >= 1 && *n <= rest / least;
        usize::try_from(value).ok().filter(fits).ok_or(Problem::Legacy { at, what, value })
    }

    fn text(&mut self, what: &'static str, least: i32) -> Result<String, Problem> {
        let at = self.at;
        let value = self.number(what)?;
        let len = usize::try_from(value).ok().filter(|_| value >= least).ok_or(Problem::Legacy { at, what, value })?;
        let at = self.at;
        let bytes = self.take(len, what)?;
        str::from_utf8(bytes).map(str::to_owned).map_err(|_| Problem::Utf8 { at })
    }

    /// Values are mean squares × calls. A call had some number of tokens; nobody knows how many.
    fn entry(&mut self) -> Result<(String, Entry), Problem> {
        let name = self.text("a name", 1)?;
        let at = self.at;
        let calls = self.number("calls")?;
        let calls = u64::try_from(calls).map_err(|_| Problem::Legacy { at, what: "calls", value: calls })?;
        let values = self.count("values", 4)?;
        let (values, _) = self.take(4 * values, "values")?.as_chunks();
        let call = LEGACY_CALL as f32;
        let sums = values.iter().map(|b| f32::from_le_bytes(*b) * call).collect();
        Ok((name, Entry { sums, counts: vec![calls.max(1) * u64::from(LEGACY_CALL)] }))
    }
}
