//! A registry of files in a directory of this machine, read without a look at its packages.
//!
//! What decides something is read here and not by the store, which would follow links to anywhere and wait for pipes.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path as FilePath, PathBuf};

use object_store::path::Path;

use super::StoreRegistry;
use super::layout::{self, Meaning, child};
use super::read::{LONGEST_POINTER, LONGEST_RECORD};
use crate::model::ModelName;
use crate::registry::{SourceError, local_files};

/// The folders of objects that decide something.
const KINDS: [&str; 3] = ["versions", "stages", "aliases"];

/// What was read of an object; `None` when it is not there any more.
pub(crate) type Text = Result<Option<String>, SourceError>;

/// A registry in a directory.
#[derive(Debug, Clone)]
pub(crate) struct Directory {
    path: PathBuf,
    root: Path,
    /// Below which links may lead, without links themselves.
    allowed: Vec<PathBuf>,
}

impl StoreRegistry {
    /// The directory that it is, if it is one that exists.
    pub(crate) fn local(&self) -> Option<Directory> {
        let path = self.directory.clone()?;
        let own = path.canonicalize().ok()?;
        Some(Directory {
            path,
            root: self.root.clone(),
            allowed: self.places.roots().chain([own]).collect(),
        })
    }
}

impl Directory {
    /// Below which files may be.
    pub(crate) fn allowed(&self) -> &[PathBuf] {
        &self.allowed
    }

    /// The models that have a directory. Blocking.
    pub(crate) fn models(&self) -> Result<BTreeSet<ModelName>, SourceError> {
        let mut names = BTreeSet::new();
        for name in names_in(&self.path)? {
            names.extend(layout::name(&name));
        }
        Ok(names)
    }

    /// What decides something about a model, with its text. Blocking.
    pub(crate) fn model(
        &self,
        name: &ModelName,
    ) -> Result<Vec<(Meaning, Path, Text)>, SourceError> {
        let model = layout::model(&self.root, name);
        let mut found = Vec::new();
        for kind in KINDS {
            let folder = child(&model, kind);
            let place = self.place(&folder);
            match local_files::refuse_outside(&place, &self.allowed) {
                Ok(_) => {}
                Err(error) => return Err(error),
            }
            let names = match names_in(&place) {
                Err(SourceError::Io { error, .. }) if error.kind() == ErrorKind::NotFound => {
                    continue;
                }
                names => names?,
            };
            for object in names {
                let path = child(&folder, &object);
                let Some((_, meaning)) = layout::meaning(&self.root, &path) else {
                    continue;
                };
                let longest = match meaning {
                    Meaning::Version(_) => LONGEST_RECORD,
                    Meaning::Stage(_) | Meaning::Alias(_) => LONGEST_POINTER,
                };
                let text = local_files::small(&self.place(&path), &self.allowed, longest);
                found.push((meaning, path, text));
            }
        }
        Ok(found)
    }

    /// The text of an object. Blocking.
    pub(crate) fn text(&self, path: &Path) -> Text {
        local_files::small(&self.place(path), &self.allowed, LONGEST_RECORD)
    }

    fn place(&self, path: &Path) -> PathBuf {
        let parts = path.prefix_match(&self.root).into_iter().flatten();
        parts.fold(self.path.clone(), |path, part| path.join(part.as_ref()))
    }
}

/// The names in a folder, without those of files that are being written.
fn names_in(folder: &FilePath) -> Result<Vec<String>, SourceError> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(SourceError::io(folder))? {
        let entry = entry.map_err(SourceError::io(folder))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !local_files::is_unfinished(&name) {
            names.push(name);
        }
    }
    Ok(names)
}
