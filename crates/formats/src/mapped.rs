//! A file as a slice of bytes, paged in as it is read.

use memmap2::Mmap;
use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};

/// A read-only mapped file.
#[derive(Debug)]
pub struct Mapped {
    path: PathBuf,
    map: Mmap,
}

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
