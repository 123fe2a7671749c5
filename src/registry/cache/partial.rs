//! Unfinished downloads: they take room as packages do, and are the first to go.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::entries::{children, file_name};
use super::open_lock;

/// What an attempt at a package left, or is fetching now; the oldest first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Partial {
    changed: SystemTime,
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
}

impl Partial {
    /// Those in the directory of downloads, but for what is on its way out.
    pub(crate) fn all(downloads: &Path, trash: &str) -> io::Result<Vec<Self>> {
        let mut partials = Vec::new();
        for path in children(downloads)? {
            if file_name(&path).starts_with(trash) {
                continue;
            }
            let metadata = match fs::symlink_metadata(&path) {
                Ok(metadata) if metadata.is_dir() => metadata,
                // A lock, or gone meanwhile.
                _ => continue,
            };
            partials.push(Self {
                changed: metadata.modified()?,
                bytes: bytes(&path),
                path,
            });
        }
        partials.sort();
        Ok(partials)
    }

    /// Whether nobody fetches it now.
    pub(crate) fn is_left(&self) -> bool {
        let claim = open_lock(&self.path.with_extension("lock"));
        claim.is_ok_and(|claim| claim.try_lock().is_ok())
    }
}

/// The bytes of the files in a directory; those that go meanwhile count for nothing.
fn bytes(directory: &Path) -> u64 {
    let children = children(directory).unwrap_or_default().into_iter();
    let sizes = children.map(|path| match fs::symlink_metadata(&path) {
        Ok(metadata) if metadata.is_dir() => bytes(&path),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    sizes.sum()
}
