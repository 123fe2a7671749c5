//! The entries of a directory: how many, which belong to a package, and which are versions.

use std::ffi::OsStr;

use crate::model::Version;

/// Entries that are looked at in one package: links to directories can make few files look like very many.
pub(super) const MAX_ENTRIES: usize = 100_000;

/// The version that a directory of this name is.
pub(super) fn version_of(name: Option<&OsStr>) -> Option<Version> {
    name?.to_str()?.parse().ok()
}

/// Whether an entry belongs to tools, Kubernetes (`..data`) or the file system (`lost+found`), not to a model.
pub(crate) fn is_foreign(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".") || name == "lost+found"
}
