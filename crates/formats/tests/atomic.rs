//! Nothing appears under its final name before it is complete, and nothing is overwritten.

use formats::atomic::{AtomicDir, AtomicFile, WriteError, write_file};
use std::fs;
use std::path::Path;

fn count(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count()
}

#[test]
fn file_appears_at_commit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    let mut file = AtomicFile::create(&path).unwrap();
    file.write_at(4, b"data").unwrap();
    assert!(!path.exists());
    file.commit().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"\0\0\0\0data");
    assert_eq!(count(dir.path()), 1);
    drop(AtomicFile::create(&dir.path().join("dropped")).unwrap());
    assert_eq!(count(dir.path()), 1, "a dropped file leaves nothing");
}

#[test]
fn folder_appears_at_commit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    let folder = AtomicDir::create(&path).unwrap();
    write_file(&folder.path().join("inside"), b"data").unwrap();
    assert!(!path.exists());
    folder.commit().unwrap();
    assert_eq!(fs::read(path.join("inside")).unwrap(), b"data");
    drop(AtomicDir::create(&dir.path().join("dropped")).unwrap());
    assert_eq!(count(dir.path()), 1, "a dropped folder leaves nothing");
}

#[test]
fn nothing_is_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    let (late_file, late_dir) = (AtomicFile::create(&path).unwrap(), AtomicDir::create(&path).unwrap());
    fs::write(&path, "the user's").unwrap();
    assert!(matches!(AtomicFile::create(&path), Err(WriteError::Exists { .. })));
    assert!(matches!(AtomicDir::create(&path), Err(WriteError::Exists { .. })));
    assert!(matches!(late_file.commit(), Err(WriteError::Exists { .. })), "made meanwhile");
    assert!(matches!(late_dir.commit(), Err(WriteError::Exists { .. })), "made meanwhile");
    assert_eq!(fs::read(&path).unwrap(), b"the user's");
    assert_eq!(count(dir.path()), 1);
}

#[test]
fn unwritable_places_say_why() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(write_file(&dir.path().join("no/x"), b""), Err(WriteError::NoParent { .. })));
    // Root may write anywhere but into the kernel's own file systems.
    if cfg!(target_os = "linux") {
        let e = write_file(Path::new("/proc/x"), b"").unwrap_err();
        assert!(matches!(e, WriteError::ReadOnly { .. } | WriteError::Io { .. }), "{e}");
    }
}

/// A full device cannot be had without privileges, but its error number can.
#[test]
fn full_and_read_only_devices_are_told_apart() {
    let full = std::io::Error::from_raw_os_error(28);
    let e = WriteError::io(Path::new("x"), full);
    assert!(e.to_string().contains("no space left"), "{e}");
    let e = WriteError::io(Path::new("x"), std::io::ErrorKind::ReadOnlyFilesystem.into());
    assert!(e.to_string().contains("permissions"), "{e}");
}
