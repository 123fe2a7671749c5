//! What is done to the files of the cache. Blocking.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::de::DeserializeOwned;
use tempfile::TempDir;

use super::open_lock;
use crate::model::small_file;
use crate::registry::SourceError;

/// More than any record of the cache has.
const LONGEST_RECORD: u64 = 4 << 20;

/// The age at which an unfinished download is given up.
const ABANDONED: Duration = Duration::from_secs(7 * 24 * 3600);

pub(crate) fn reference(root: &Path, key: &str) -> PathBuf {
    root.join("refs").join(format!("{key}.json"))
}

pub(crate) fn temporary() -> Result<TempDir, SourceError> {
    TempDir::with_prefix("onstage-").map_err(SourceError::io(&std::env::temp_dir()))
}

/// Makes the directory of the cache, where there is none, for this user alone.
pub(crate) fn make_private(root: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(root)
}

/// Takes from others what an earlier release let them see; who shares the cache by a group goes on doing so.
pub(crate) fn close_to_others(directory: &Path) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let Ok(metadata) = fs::metadata(directory) else {
            return;
        };
        let mode = metadata.permissions().mode();
        if mode & 0o007 != 0 {
            // Whoever else owns it has decided otherwise.
            let closed = fs::Permissions::from_mode(mode & 0o7770);
            let _ = fs::set_permissions(directory, closed);
        }
    }
    #[cfg(not(unix))]
    let _ = directory;
}

/// Whether nobody continues a download, and it is too old for that to change.
pub(crate) fn is_abandoned(files: &Path) -> io::Result<bool> {
    if !is_older(files, ABANDONED)? {
        return Ok(false);
    }
    let claim = open_lock(&files.with_extension("lock"))?;
    Ok(claim.try_lock().is_ok())
}

pub(crate) fn is_older(path: &Path, age: Duration) -> io::Result<bool> {
    let since = fs::metadata(path)?.modified()?.elapsed();
    Ok(since.unwrap_or_default() >= age)
}

pub(crate) fn children(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory)?;
    entries.map(|entry| Ok(entry?.path())).collect()
}

pub(crate) fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// What is not there any more need not be removed.
pub(crate) fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// What cannot be removed now is removed by the next process.
pub(crate) fn remove(path: &Path) {
    let _ = fs::remove_dir_all(path).or_else(|_| fs::remove_file(path));
}

pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&small_file::read(path, LONGEST_RECORD).ok()?).ok()
}

/// Sets a file's time of modification to now.
pub(crate) fn touch(path: &Path) -> io::Result<()> {
    let file = File::options().append(true).open(path)?;
    file.set_modified(SystemTime::now())
}

/// Waits until the disk has a directory with all that is in it.
pub(crate) fn sync(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        for child in children(path)? {
            sync(&child)?;
        }
    }
    File::open(path)?.sync_all()
}
