//! Files and folders that appear under their final name complete, or not at all.
//!
//! Data goes to a temporary name in the same directory, is synced, then renamed. A value that is dropped before
//! `commit` removes what it wrote. Nothing that exists is overwritten.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use tempfile::{Builder, NamedTempFile, TempDir};

/// Why something could not be written.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum WriteError {
    #[error("{}: exists already; choose another output or remove it first", path.display())]
    Exists { path: PathBuf },
    #[error("{}: the folder `{}` does not exist; create it first", path.display(), parent.display())]
    NoParent { path: PathBuf, parent: PathBuf },
    #[error("{}: no space left on the device; free some, or write elsewhere", path.display())]
    NoSpace { path: PathBuf },
    #[error("{}: may not be written here; check the permissions, or write elsewhere", path.display())]
    ReadOnly { path: PathBuf },
    #[error("{}: cannot write", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{}: tensor `{tensor}` {problem}", path.display())]
    Tensor { path: PathBuf, tensor: String, problem: TensorProblem },
    #[error("{}: {what}", path.display())]
    Header { path: PathBuf, what: String },
}

/// How a writer's caller broke its promise about a tensor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum TensorProblem {
    #[error("was not announced")]
    Unknown,
    #[error("was announced twice")]
    Duplicate,
    #[error("was written twice")]
    Rewritten,
    #[error("was never written")]
    Missing,
    #[error("has {got} bytes, {expected} were announced")]
    Length { expected: u64, got: u64 },
    #[error("is larger than a file can be")]
    TooLarge,
    #[error("cannot be stored as {encoding} in this format; choose another encoding")]
    Encoding { encoding: String },
    #[error("has rows of {cols} numbers, {encoding} needs multiples of {multiple}; choose another encoding")]
    Columns { encoding: String, multiple: usize, cols: usize },
    #[error("has a name of more than 63 bytes or more than four dimensions, which readers refuse")]
    Limits,
}

impl WriteError {
    /// Sorts an I/O error by what the user can do about it.
    pub fn io(path: &Path, source: io::Error) -> WriteError {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::AlreadyExists => WriteError::Exists { path },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => WriteError::NoSpace { path },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => WriteError::ReadOnly { path },
            _ => WriteError::Io { path, source },
        }
    }
}

/// A file that is not there until [`AtomicFile::commit`].
#[derive(Debug)]
pub struct AtomicFile {
    target: PathBuf,
    temp: NamedTempFile,
}

impl AtomicFile {
    /// Opens a temporary file beside `target`, which must not exist.
    pub fn create(target: &Path) -> Result<AtomicFile, WriteError> {
        let parent = vacant(target)?;
        let temp = temporary(0o666).tempfile_in(&parent).map_err(|e| WriteError::io(target, e))?;
        Ok(AtomicFile { target: target.to_owned(), temp })
    }

    /// The final name.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Writes at the end of what was written last.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.temp.write_all(bytes).map_err(|e| WriteError::io(&self.target, e))
    }

    /// Writes at a position, which may lie beyond the end: the gap reads as zeros.
    pub fn write_at(&mut self, position: u64, bytes: &[u8]) -> Result<(), WriteError> {
        self.temp.seek(SeekFrom::Start(position)).map_err(|e| WriteError::io(&self.target, e))?;
        self.write(bytes)
    }

    /// Sets the length; what was not written reads as zeros.
    pub fn set_len(&mut self, len: u64) -> Result<(), WriteError> {
        self.temp.as_file().set_len(len).map_err(|e| WriteError::io(&self.target, e))
    }

    /// Syncs the data and gives the file its name.
    pub fn commit(self) -> Result<(), WriteError> {
        let AtomicFile { target, temp } = self;
        temp.as_file().sync_all().map_err(|e| WriteError::io(&target, e))?;
        temp.persist_noclobber(&target).map_err(|e| WriteError::io(&target, e.error))?;
        sync_folder(&parent_of(&target), &target)
    }
}

/// Writes a whole file at once, atomically.
pub fn write_file(target: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    let mut file = AtomicFile::create(target)?;
    file.write(bytes)?;
    file.commit()
}

/// A folder that is not there until [`AtomicDir::commit`]. Fill [`AtomicDir::path`] meanwhile.
#[derive(Debug)]
pub struct AtomicDir {
    target: PathBuf,
    temp: TempDir,
}

impl AtomicDir {
    /// Makes a temporary folder beside `target`, which must not exist.
    pub fn create(target: &Path) -> Result<AtomicDir, WriteError> {
        let parent = vacant(target)?;
        let temp = temporary(0o777).tempdir_in(&parent).map_err(|e| WriteError::io(target, e))?;
        Ok(AtomicDir { target: target.to_owned(), temp })
    }

    /// The temporary folder, to be filled.
    pub fn path(&self) -> &Path {
        self.temp.path()
    }

    /// The final name.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Syncs every file in the folder and gives it its name.
    pub fn commit(self) -> Result<(), WriteError> {
        let AtomicDir { target, temp } = self;
        sync_tree(temp.path()).map_err(|e| WriteError::io(&target, e))?;
        vacant(&target)?;
        fs::rename(temp.path(), &target).map_err(|e| match e.kind() {
            io::ErrorKind::DirectoryNotEmpty => WriteError::Exists { path: target.clone() },
            _ => WriteError::io(&target, e),
        })?;
        // The folder has its final name: the temporary one must no longer be removed.
        let _ = temp.keep();
        sync_folder(&parent_of(&target), &target)
    }
}

/// The parent folder of a name that nothing has yet.
fn vacant(target: &Path) -> Result<PathBuf, WriteError> {
    if target.symlink_metadata().is_ok() {
        return Err(WriteError::Exists { path: target.to_owned() });
    }
    let parent = parent_of(target);
    if !parent.is_dir() {
        return Err(WriteError::NoParent { path: target.to_owned(), parent });
    }
    Ok(parent)
}

fn parent_of(target: &Path) -> PathBuf {
    match target.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// A hidden temporary name, with the permissions that any new file or folder gets (`mode` less the umask), not the
/// private ones of `tempfile`.
fn temporary(mode: u32) -> Builder<'static, 'static> {
    let mut builder = Builder::new();
    builder.prefix(".partial-");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(mode));
    #[cfg(not(unix))]
    let _ = mode;
    builder
}

fn sync_tree(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_tree(&entry.path())?;
        } else {
            File::open(entry.path())?.sync_all()?;
        }
    }
    Ok(())
}

/// Makes a rename lasting. Only Unix can sync a folder.
fn sync_folder(folder: &Path, target: &Path) -> Result<(), WriteError> {
    if cfg!(unix) {
        File::open(folder).and_then(|f| f.sync_all()).map_err(|e| WriteError::io(target, e))?;
    }
    Ok(())
}
