//! A file as a slice of bytes, paged in as it is read.

use memmap2::{Mmap, UncheckedAdvice};
use std::fs::File;
use std::io;
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};

/// A read-only mapped file.
#[derive(Debug)]
pub struct Mapped {
    path: PathBuf,
    map: Mmap,
}

/// Bytes that Linux maps around a page that is read (`fault_around_bytes`).
#[cfg(unix)]
const AROUND: usize = 64 << 10;

impl Mapped {
    /// Maps a file; reads nothing yet.
    pub fn open(path: &Path) -> io::Result<Mapped> {
        let file = File::open(path)?;
        if file.metadata()?.is_dir() {
            return Err(io::Error::new(io::ErrorKind::IsADirectory, "is a folder, a file was expected"));
        }
        // SAFETY: the map is read-only and private. A process that truncates the file meanwhile ends this one with
        // SIGBUS, as for every program that maps files; our writers never change a file under its final name.
        let map = unsafe { Mmap::map(&file)? };
        Ok(Mapped { path: path.to_owned(), map })
    }

    /// Gives the pages of a range back to the system; the next read pages them in again. A pass that streams through
    /// a model larger than memory stays small with it. A read brings neighbours in as well, so some on both sides go too.
    pub fn release(&self, range: Range<usize>) {
        #[cfg(unix)]
        if range.start < range.end && range.end <= self.map.len() {
            let range = range.start.saturating_sub(AROUND)..self.map.len().min(range.end + AROUND);
            // SAFETY: the map is read-only and backed by a file, so pages that are dropped come back with the same
            // bytes. Failing changes nothing: the pages stay.
            let _ = unsafe { self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, range.start, range.len()) };
        }
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        &self.map
    }
}
