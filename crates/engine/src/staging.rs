//! Where an artifact is until it is proven: a hidden folder beside its final name.
//!
//! The exporter writes into the folder, the proof reads from it, and only then the files get their names. A run that
//! fails removes the folder; one that is killed leaves it behind as `.partial-…`, never under the final name. An
//! artifact that is sound but misses its gates is kept in a folder `<name>.rejected`, to be looked at.

use crate::EngineError;
use formats::atomic::WriteError;
use plan::Bytes;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use tempfile::{Builder, TempDir};

/// A folder for an artifact that has no name yet.
pub(crate) struct Staging {
    folder: TempDir,
    target: PathBuf,
    name: PathBuf,
    replace: bool,
}

impl Staging {
    /// Checks that `target` may be written, and makes the folder. `sources` must stay as they are.
    pub fn open(target: &Path, sources: &[&Path], replace: bool) -> Result<Staging, EngineError> {
        let name = target.file_name().map(PathBuf::from).ok_or_else(|| EngineError::NoName { path: target.into() })?;
        let parent = parent_of(target);
        if !parent.is_dir() {
            return Err(WriteError::NoParent { path: target.into(), parent }.into());
        }
        check_apart(&parent.join(&name), sources)?;
        if target.symlink_metadata().is_ok() && !replace {
            return Err(WriteError::Exists { path: target.into() }.into());
        }
        let folder = Builder::new().prefix(".partial-").tempdir_in(&parent).map_err(|e| WriteError::io(target, e))?;
        Ok(Staging { folder, target: target.into(), name, replace })
    }

    /// Where the artifact will be.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// What the exporter is to write.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join(&self.name)
    }

    /// The artifact as it can be opened: [`Staging::path`], or the first file of a split.
    pub fn written(&self) -> Result<PathBuf, EngineError> {
        if self.path().exists() {
            return Ok(self.path());
        }
        let first = self.entries()?.into_iter().next();
        first.map(|name| self.folder.path().join(name)).ok_or_else(|| self.io(ErrorKind::NotFound.into()))
    }

    /// Fails where fewer bytes are free than are needed.
    pub fn check_space(&self, needs: Bytes) -> Result<(), EngineError> {
        match free_bytes(self.folder.path()) {
            Some(free) if free < needs.0 => {
                Err(EngineError::NoSpace { path: self.target.clone(), needs, free: Bytes(free) })
            }
            _ => Ok(()),
        }
    }

    /// Gives the artifact its name, and says under which names its files now are.
    pub fn commit(self) -> Result<Vec<PathBuf>, EngineError> {
        let parent = parent_of(&self.target);
        let names = self.entries()?;
        let finals: Vec<PathBuf> = names.iter().map(|name| parent.join(name)).collect();
        if let Some(taken) = finals.iter().find(|path| !self.replace && path.symlink_metadata().is_ok()) {
            return Err(WriteError::Exists { path: taken.clone() }.into());
        }
        for (name, path) in names.iter().zip(&finals) {
            self.put(&self.folder.path().join(name), path)?;
        }
        Ok(finals)
    }

    /// Keeps the artifact in a folder beside its final name, in place of an older one that was rejected.
    pub fn reject(self) -> Result<PathBuf, EngineError> {
        let mut name = self.name.clone().into_os_string();
        name.push(".rejected");
        let rejected = parent_of(&self.target).join(name);
        self.put(self.folder.path(), &rejected)?;
        Ok(rejected)
    }

    /// Renames; what has the name already steps aside first, and comes back if the rename fails.
    fn put(&self, from: &Path, to: &Path) -> Result<(), EngineError> {
        let aside = self.folder.path().with_extension("old");
        // A file takes another's name in one step; folders do not.
        let taken = to.symlink_metadata().is_ok_and(|m| m.is_dir() || from.is_dir());
        if taken {
            fs::rename(to, &aside).map_err(|e| self.io(e))?;
        }
        if let Err(error) = fs::rename(from, to) {
            if taken {
                fs::rename(&aside, to).map_err(|e| self.io(e))?;
            }
            return Err(self.io(error));
        }
        let removed = match taken {
            true if aside.is_dir() => fs::remove_dir_all(&aside),
            true => fs::remove_file(&aside),
            false => Ok(()),
        };
        removed.map_err(|e| self.io(e))
    }

    /// Names in the folder, in alphabetical order.
    fn entries(&self) -> Result<Vec<PathBuf>, EngineError> {
        let read = || -> std::io::Result<Vec<PathBuf>> {
            fs::read_dir(self.folder.path())?.map(|entry| Ok(PathBuf::from(entry?.file_name()))).collect()
        };
        let mut names = read().map_err(|e| self.io(e))?;
        names.sort();
        Ok(names)
    }

    fn io(&self, error: std::io::Error) -> EngineError {
        WriteError::io(&self.target, error).into()
    }
}

/// An output may be neither a source, nor inside one, nor around one.
fn check_apart(target: &Path, sources: &[&Path]) -> Result<(), EngineError> {
    let target = resolved(target);
    for source in sources {
        let resolved = resolved(source);
        if target.starts_with(&resolved) || resolved.starts_with(&target) {
            return Err(EngineError::OutputIsSource { output: target, model: source.to_path_buf() });
        }
    }
    Ok(())
}

/// The path without links; its last part need not exist.
fn resolved(path: &Path) -> PathBuf {
    if let Ok(path) = path.canonicalize() {
        return path;
    }
    let parent = parent_of(path).canonicalize();
    parent.ok().zip(path.file_name()).map_or_else(|| path.into(), |(parent, name)| parent.join(name))
}

fn parent_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent.into(),
        _ => ".".into(),
    }
}

#[cfg(unix)]
fn free_bytes(folder: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(folder).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(not(unix))]
fn free_bytes(_folder: &Path) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn an_artifact_has_its_name_only_after_commit() {
        let home = tempfile::tempdir().unwrap();
        let target = home.path().join("a.gguf");
        let staging = Staging::open(&target, &[], false).unwrap();
        fs::write(staging.path(), "one").unwrap();
        assert!(!target.exists());
        assert_eq!(staging.written().unwrap(), staging.path());
        assert_eq!(staging.commit().unwrap(), std::slice::from_ref(&target));
        assert_eq!(names(home.path()), ["a.gguf"]);
        assert_eq!(fs::read_to_string(target).unwrap(), "one");
    }

    #[test]
    fn a_dropped_artifact_leaves_nothing_and_a_rejected_one_its_folder() {
        let home = tempfile::tempdir().unwrap();
        let target = home.path().join("a.gguf");
        for _ in 0..2 {
            let staging = Staging::open(&target, &[], false).unwrap();
            fs::write(staging.path(), "one").unwrap();
            drop(staging);
            let staging = Staging::open(&target, &[], false).unwrap();
            fs::write(staging.path(), "two").unwrap();
            let kept = staging.reject().unwrap();
            assert_eq!(fs::read_to_string(kept.join("a.gguf")).unwrap(), "two");
            assert_eq!(names(home.path()), ["a.gguf.rejected"]);
        }
    }

    #[test]
    fn what_exists_is_replaced_only_on_request() {
        let home = tempfile::tempdir().unwrap();
        let (file, folder) = (home.path().join("a.gguf"), home.path().join("b"));
        fs::write(&file, "old").unwrap();
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("stale"), "old").unwrap();
        for target in [&file, &folder] {
            let refused = Staging::open(target, &[], false).map(drop);
            assert!(matches!(refused, Err(EngineError::Write(WriteError::Exists { .. }))));
        }
        let staging = Staging::open(&file, &[], true).unwrap();
        fs::write(staging.path(), "new").unwrap();
        staging.commit().unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        let staging = Staging::open(&folder, &[], true).unwrap();
        fs::create_dir(staging.path()).unwrap();
        fs::write(staging.path().join("fresh"), "new").unwrap();
        staging.commit().unwrap();
        assert_eq!(names(&folder), ["fresh"]);
        let staging = Staging::open(&file, &[], true).unwrap();
        fs::create_dir(staging.path()).unwrap();
        staging.commit().unwrap();
        assert!(file.is_dir());
        assert_eq!(names(home.path()), ["a.gguf", "b"]);
    }

    #[test]
    fn an_output_in_or_around_its_source_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let source = home.path().join("model");
        fs::create_dir(&source).unwrap();
        let inside = source.join("out");
        let around = source.join("..").join("model").join("..");
        for target in [&source, &inside, &around, &home.path().to_path_buf()] {
            let refused = Staging::open(target, &[&source], true).map(drop);
            assert!(
                matches!(refused, Err(EngineError::OutputIsSource { .. } | EngineError::NoName { .. })),
                "{target:?}"
            );
        }
        assert!(Staging::open(&home.path().join("model-small"), &[&source], false).is_ok());
    }

    #[test]
    fn a_file_system_without_room_is_said_before_anything_is_written() {
        let home = tempfile::tempdir().unwrap();
        let staging = Staging::open(&home.path().join("a"), &[], false).unwrap();
        assert!(staging.check_space(Bytes(1)).is_ok());
        assert!(matches!(staging.check_space(Bytes(u64::MAX)), Err(EngineError::NoSpace { .. })));
        let nowhere = Staging::open(&home.path().join("no/a"), &[], false).map(drop);
        assert!(matches!(nowhere, Err(EngineError::Write(WriteError::NoParent { .. }))));
    }
}
