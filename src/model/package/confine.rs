//! A package's directory, and the one way to a file in it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path, PathBuf};

use super::error::PackageError;
use crate::model::{ExternalData, real_path};

/// A directory, symbolic links resolved, that no file of the package may leave.
#[derive(Debug)]
pub(crate) struct Confined {
    root: PathBuf,
}

impl Confined {
    /// The directory `root`, whose symbolic links are resolved already.
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.root
    }

    /// The regular file that the package calls `relative`, symbolic links resolved.
    pub(crate) fn file(&self, part: &str, relative: &Path) -> Result<PathBuf, PackageError> {
        self.file_under(&self.root, part, relative)
    }

    /// Refuses a file that leads out of the package; whether it exists does not matter.
    pub(crate) fn refuse_escape(&self, part: &str, relative: &Path) -> Result<(), PackageError> {
        match self.file(part, relative) {
            Err(error @ PackageError::Outside { .. }) => Err(error),
            _ => Ok(()),
        }
    }

    fn file_under(
        &self,
        base: &Path,
        part: &str,
        relative: &Path,
    ) -> Result<PathBuf, PackageError> {
        let outside = |reason| PackageError::Outside {
            root: self.root.clone(),
            part: part.to_owned(),
            file: relative.to_owned(),
            reason,
        };
        let missing = |reason| PackageError::Missing {
            root: self.root.clone(),
            part: part.to_owned(),
            file: relative.to_owned(),
            reason,
        };
        for component in relative.components() {
            match component {
                Component::Normal(_) | Component::CurDir => {}
                Component::ParentDir => return Err(outside("contains `..`")),
                Component::RootDir | Component::Prefix(_) => {
                    return Err(outside("is an absolute path"));
                }
            }
        }
        let path = base.join(relative);
        let file = real_path(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => missing("is missing"),
            // A NUL in the name.
            io::ErrorKind::InvalidInput => missing("has an impossible name"),
            _ => PackageError::io(&path)(error),
        })?;
        if !self.holds(&file) {
            return Err(outside("is a symbolic link that leads outside"));
        }
        if !file.metadata().map_err(PackageError::io(&path))?.is_file() {
            return Err(missing("is not a regular file"));
        }
        Ok(file)
    }

    /// Whether `resolved`, which has no symbolic links, is inside.
    pub(crate) fn holds(&self, resolved: &Path) -> bool {
        resolved.starts_with(&self.root)
    }

    /// The files of external data, by their paths relative to the root; each reaches as far as its tensors.
    pub(crate) fn external_data(
        &self,
        model: &Path,
        model_file: &Path,
        tensors: &[ExternalData],
    ) -> Result<BTreeMap<PathBuf, PathBuf>, PackageError> {
        // Where the engines look: beside the model file, once its own links are resolved.
        let base = model_file.parent().unwrap_or(&self.root);
        let mut files: BTreeMap<&str, (PathBuf, u64)> = BTreeMap::new();
        for data in tensors {
            let (_, found) = match files.get(data.location.as_str()) {
                Some(known) => known,
                None => {
                    let part = format!("external data of tensor `{}`", data.tensor);
                    let file = self.file_under(base, &part, Path::new(&data.location))?;
                    let metadata = file.metadata().map_err(PackageError::io(&file))?;
                    files
                        .entry(&data.location)
                        .or_insert((file, metadata.len()))
                }
            };
            let needed = data.offset.saturating_add(data.length.unwrap_or(0));
            if needed > *found {
                return Err(PackageError::ExternalData {
                    root: self.root.clone(),
                    tensor: data.tensor.clone(),
                    file: PathBuf::from(&data.location),
                    needed,
                    found: *found,
                });
            }
        }
        let directory = model.parent().unwrap_or(Path::new(""));
        let relative = |location: &str| directory.join(location);
        let files = files.into_iter();
        Ok(files.map(|(at, (file, _))| (relative(at), file)).collect())
    }
}
