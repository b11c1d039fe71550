//! From what an artifact was made: hashes of the source's files.

use crate::{EngineError, Progress, Unit};
use plan::FileHash;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Bytes read at once.
const PIECE: usize = 1 << 20;

/// Hashes files, named relative to `root` where they are in it.
pub(crate) fn hashes(root: &Path, files: &[PathBuf], progress: &dyn Progress) -> Result<Vec<FileHash>, EngineError> {
    progress.begin("hash source", total_bytes(files), Unit::Bytes);
    let hashes = files.iter().map(|file| hash(root, file, progress)).collect();
    progress.end();
    hashes
}

fn hash(root: &Path, file: &Path, progress: &dyn Progress) -> Result<FileHash, EngineError> {
    let failed = |source| EngineError::Read { path: file.into(), source };
    let mut reader = File::open(file).map_err(failed)?;
    let (mut hasher, mut buffer, mut bytes) = (Sha256::new(), vec![0; PIECE], 0);
    loop {
        let read = reader.read(&mut buffer).map_err(failed)?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
        bytes += read as u64;
        progress.advance(read as u64);
    }
    let name = file.strip_prefix(root).ok().filter(|n| *n != Path::new("")).or(file.file_name().map(Path::new));
    Ok(FileHash {
        name: name.unwrap_or(file).display().to_string(),
        bytes,
        sha256: hasher.finalize().iter().map(|b| format!("{b:02x}")).collect(),
    })
}

/// Bytes of files; those that cannot be asked count nothing.
pub(crate) fn total_bytes(files: &[PathBuf]) -> u64 {
    files.iter().filter_map(|f| fs::metadata(f).ok()).map(|m| m.len()).sum()
}

/// Every file below a path, or the path itself if it is one.
pub(crate) fn files_below(path: &Path) -> Result<Vec<PathBuf>, EngineError> {
    let failed = |source| EngineError::Read { path: path.into(), source };
    if !path.is_dir() {
        return Ok(vec![path.into()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        files.extend(files_below(&entry.map_err(failed)?.path())?);
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Quiet;

    #[test]
    fn files_are_named_from_their_root_and_hashed() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("sub")).unwrap();
        fs::write(home.path().join("sub/abc"), "abc").unwrap();
        let files = files_below(home.path()).unwrap();
        let hashes = hashes(home.path(), &files, &Quiet).unwrap();
        // FIPS 180-2, appendix B.1.
        let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad".to_owned();
        assert_eq!(hashes, [FileHash { name: "sub/abc".into(), bytes: 3, sha256 }]);
    }
}
