//! The digest of a package: what it holds, independent of where it is and of when it was copied.

use std::collections::BTreeMap;
use std::fs::{self, DirEntry, FileType};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use sha2::{Digest, Sha256};

use super::confine::Confined;
use super::entries::{MAX_ENTRIES, is_foreign};
use super::error::PackageError;
use crate::model::real_path;
use crate::model::small_file;

/// What a registry client writes beside the manifest; it says where the package came from, not what it is.
const REGISTERED_META: &str = "registered_model_meta";

/// Directories inside each other; MLflow makes two or three.
const MAX_DEPTH: usize = 64;

/// What a directory holds, whether or not it is a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// SHA-256 over its files, as `sha256:<hex>`: that of a [`Package`](crate::model::Package) with a manifest.
    pub digest: String,
    /// The bytes of all files.
    pub bytes: u64,
}

impl Content {
    /// Reads all files of `directory`. Blocking.
    ///
    /// # Errors
    /// [`PackageError`] when one cannot be read, leads outside, or there are too many.
    pub fn read(directory: &Path) -> Result<Self, PackageError> {
        let files = Files::read(directory)?;
        Ok(Self {
            digest: files.digest()?,
            bytes: files.bytes()?,
        })
    }

    /// The same with `file` as if it lay there and were called `name`. Blocking.
    ///
    /// # Errors
    /// [`PackageError`], likewise.
    pub fn with(directory: &Path, name: &str, file: PathBuf) -> Result<Self, PackageError> {
        let mut files = Files::read(directory)?;
        files.add(Path::new(name), file);
        Ok(Self {
            digest: files.digest()?,
            bytes: files.bytes()?,
        })
    }

    /// The same without the file `left_out`, and whether the name of a file is among those that were digested. Blocking.
    ///
    /// # Errors
    /// [`PackageError`], likewise.
    pub(crate) fn without(
        directory: &Path,
        left_out: &str,
    ) -> Result<(String, impl Fn(&str) -> bool + use<>), PackageError> {
        let mut files = Files::read(directory)?;
        files.files.remove(left_out.as_bytes());
        let digest = files.digest()?;
        let has = move |name: &str| files.files.contains_key(name.as_bytes());
        Ok((digest, has))
    }
}

/// Files by their path relative to the package, so that the order is the same everywhere.
#[derive(Debug, Default)]
pub(crate) struct Files {
    files: BTreeMap<Vec<u8>, PathBuf>,
    entries: usize,
}

impl Files {
    /// Those of a directory.
    fn read(directory: &Path) -> Result<Self, PackageError> {
        let root = real_path(directory);
        let root = root.map_err(PackageError::io(directory))?;
        let mut files = Self::default();
        files.add_directory(&Confined::new(root))?;
        Ok(files)
    }

    /// Adds the file that the package calls `relative`.
    pub(crate) fn add(&mut self, relative: &Path, file: PathBuf) {
        let mut key = Vec::new();
        for component in relative.components() {
            if let Component::Normal(name) = component {
                if !key.is_empty() {
                    key.push(b'/');
                }
                key.extend(name.as_encoded_bytes());
            }
        }
        self.files.insert(key, file);
    }

    /// Adds the regular files of the whole directory, without [entries of the system's own](is_foreign).
    pub(crate) fn add_directory(&mut self, root: &Confined) -> Result<(), PackageError> {
        self.walk(root, Path::new(""), &mut vec![root.path().to_owned()])
    }

    /// Walks the last directory of `above`, which the package calls `relative`; those in `above` have their links
    /// resolved.
    fn walk(
        &mut self,
        root: &Confined,
        relative: &Path,
        above: &mut Vec<PathBuf>,
    ) -> Result<(), PackageError> {
        let directory = above.last().expect("begins with the root").clone();
        for entry in fs::read_dir(&directory).map_err(PackageError::io(&directory))? {
            let entry = entry.map_err(PackageError::io(&directory))?;
            let relative = relative.join(entry.file_name());
            if is_foreign(&entry.file_name()) || relative == Path::new(REGISTERED_META) {
                continue;
            }
            self.entries += 1;
            if self.entries > MAX_ENTRIES {
                return Err(PackageError::TooManyFiles {
                    root: root.path().to_owned(),
                    limit: MAX_ENTRIES,
                });
            }
            self.entry(root, &entry, &relative, above)?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        root: &Confined,
        entry: &DirEntry,
        relative: &Path,
        above: &mut Vec<PathBuf>,
    ) -> Result<(), PackageError> {
        let Some((path, kind)) = resolve(entry)? else {
            return Ok(());
        };
        if !root.holds(&path) {
            return Err(PackageError::Outside {
                root: root.path().to_owned(),
                part: "file".to_owned(),
                file: relative.to_owned(),
                reason: "is a symbolic link that leads outside",
            });
        }
        if kind.is_file() {
            self.add(relative, path);
        // A link to a directory above it: everything there is included already.
        } else if kind.is_dir() && !above.contains(&path) {
            if above.len() == MAX_DEPTH {
                return Err(PackageError::TooDeep {
                    root: root.path().to_owned(),
                    limit: MAX_DEPTH,
                });
            }
            above.push(path);
            self.walk(root, relative, above)?;
            above.pop();
        }
        Ok(())
    }

    /// The bytes of all files.
    pub(crate) fn bytes(&self) -> Result<u64, PackageError> {
        let mut bytes = 0u64;
        for file in self.files.values() {
            let metadata = file.metadata().map_err(PackageError::io(file))?;
            bytes = bytes.saturating_add(metadata.len());
        }
        Ok(bytes)
    }

    /// SHA-256 over each path and content in order, each preceded by its length, so that no two packages read alike.
    pub(crate) fn digest(&self) -> Result<String, PackageError> {
        let mut hash = Sha256::new();
        let mut chunk = vec![0; 128 * 1024];
        for (relative, path) in &self.files {
            hash.update((relative.len() as u64).to_le_bytes());
            hash.update(relative);
            hash_file(&mut hash, path, &mut chunk).map_err(PackageError::io(path))?;
        }
        let hex = hex::encode(hash.finalize());
        Ok(format!("sha256:{hex}"))
    }
}

/// What an entry of a resolved directory is, links followed; `None` for a link to nothing, which holds nothing.
fn resolve(entry: &DirEntry) -> Result<Option<(PathBuf, FileType)>, PackageError> {
    let path = entry.path();
    let kind = entry.file_type().map_err(PackageError::io(&path))?;
    if !kind.is_symlink() {
        return Ok(Some((path, kind)));
    }
    let target = real_path(&path).and_then(|target| Ok((target.metadata()?.file_type(), target)));
    match target {
        Ok((kind, target)) => Ok(Some((target, kind))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(PackageError::io(&path)(error)),
    }
}

fn hash_file(hash: &mut Sha256, path: &Path, chunk: &mut [u8]) -> io::Result<()> {
    let mut file = small_file::open(path)?;
    let length = file.metadata()?.len();
    hash.update(length.to_le_bytes());
    let mut read = 0u64;
    loop {
        match file.read(chunk) {
            Ok(0) if read == length => return Ok(()),
            Ok(0) => return Err(io::Error::other("it changed while it was read")),
            Ok(count) => {
                hash.update(&chunk[..count]);
                read += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
