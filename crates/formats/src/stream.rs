//! What the streaming writers share: every tensor's place is known up front, its bytes come later, in any order.

use crate::atomic::{AtomicFile, TensorProblem, WriteError};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Files with a place for every tensor.
#[derive(Debug)]
pub(crate) struct Stream {
    target: PathBuf,
    files: Vec<AtomicFile>,
    slots: HashMap<String, Slot>,
}

/// Where a tensor's bytes go.
#[derive(Debug)]
struct Slot {
    file: usize,
    position: u64,
    len: u64,
    written: u64,
}

/// A tensor's place: name, offset from the end of the header, bytes.
pub(crate) type Place<'a> = (&'a str, u64, u64);

impl Stream {
    /// No files yet; `target` is named in errors.
    pub(crate) fn new(target: &Path) -> Stream {
        Stream { target: target.to_owned(), files: vec![], slots: HashMap::new() }
    }

    /// Opens the next file: a header, then `data_len` bytes that hold `places`.
    pub(crate) fn start(
        &mut self,
        path: &Path,
        header: &[u8],
        data_len: u64,
        places: &[Place<'_>],
    ) -> Result<(), WriteError> {
        let start = header.len() as u64;
        for &(name, offset, len) in places {
            let slot = Slot { file: self.files.len(), position: start + offset, len, written: 0 };
            if self.slots.insert(name.to_owned(), slot).is_some() {
                return Err(tensor_error(path, name, TensorProblem::Duplicate));
            }
        }
        let mut out = AtomicFile::create(path)?;
        out.write(header)?;
        out.set_len(start + data_len)?;
        self.files.push(out);
        Ok(())
    }

    /// Writes one tensor's bytes into its place.
    pub(crate) fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), WriteError> {
        match self.slots.get(name) {
            Some(slot) if slot.written > 0 => Err(tensor_error(&self.target, name, TensorProblem::Rewritten)),
            Some(slot) if slot.len != bytes.len() as u64 => Err(self.length_error(name, slot.len, bytes)),
            _ => self.append(name, bytes),
        }
    }

    /// Writes the next bytes of a tensor, after those written before.
    pub(crate) fn append(&mut self, name: &str, bytes: &[u8]) -> Result<(), WriteError> {
        let fail = |problem| Err(tensor_error(&self.target, name, problem));
        let Some(slot) = self.slots.get_mut(name) else { return fail(TensorProblem::Unknown) };
        let (begin, end) = (slot.written, slot.written.saturating_add(bytes.len() as u64));
        if end > slot.len {
            return fail(TensorProblem::Length { expected: slot.len, got: end });
        }
        slot.written = end;
        match self.files.get_mut(slot.file) {
            Some(file) => file.write_at(slot.position + begin, bytes),
            None => fail(TensorProblem::Unknown),
        }
    }

    fn length_error(&self, name: &str, expected: u64, bytes: &[u8]) -> WriteError {
        tensor_error(&self.target, name, TensorProblem::Length { expected, got: bytes.len() as u64 })
    }

    /// The names that the files will have.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(AtomicFile::target)
    }

    /// Syncs and names the files. Fails where a tensor was never written.
    pub(crate) fn finish(self) -> Result<(), WriteError> {
        for (name, slot) in &self.slots {
            let (expected, got) = (slot.len, slot.written);
            match got {
                _ if got == expected => (),
                0 => return Err(tensor_error(&self.target, name, TensorProblem::Missing)),
                _ => return Err(tensor_error(&self.target, name, TensorProblem::Length { expected, got })),
            }
        }
        self.files.into_iter().try_for_each(AtomicFile::commit)
    }
}

pub(crate) fn tensor_error(path: &Path, tensor: &str, problem: TensorProblem) -> WriteError {
    WriteError::Tensor { path: path.to_owned(), tensor: tensor.to_owned(), problem }
}
