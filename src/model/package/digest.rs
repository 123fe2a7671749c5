//! The digest of a package: what it holds, independent of where it is and of when it was copied.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use sha2::{Digest, Sha256};

use super::confine::Confined;
use super::error::PackageError;

/// What a registry client writes beside the manifest; it says where the package came from, not what it is.
const REGISTERED_META: &str = "registered_model_meta";

const MAX_FILES: usize = 100_000;

/// Files by their path relative to the package, so that the order is the same everywhere.
#[derive(Debug, Default)]
pub(crate) struct Files {
    files: BTreeMap<Vec<u8>, PathBuf>,
}

impl Files {
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

    /// Adds the regular files of the whole directory. Entries whose name begins with a dot are skipped: tools and
    /// Kubernetes keep their own state there.
    pub(crate) fn add_directory(&mut self, root: &Confined) -> Result<(), PackageError> {
        self.walk(root, Path::new(""), &mut Vec::new())
    }

    fn walk(
        &mut self,
        root: &Confined,
        relative: &Path,
        above: &mut Vec<PathBuf>,
    ) -> Result<(), PackageError> {
        let path = root.path().join(relative);
        let resolved = path.canonicalize().map_err(PackageError::io(&path))?;
        // A link to a directory above it: everything there is included already.
        if above.contains(&resolved) {
            return Ok(());
        }
        above.push(resolved);
        for entry in fs::read_dir(&path).map_err(PackageError::io(&path))? {
            let name = entry.map_err(PackageError::io(&path))?.file_name();
            let relative = relative.join(&name);
            let hidden = name.as_encoded_bytes().starts_with(b".");
            if hidden || relative == Path::new(REGISTERED_META) {
                continue;
            }
            self.entry(root, &relative, above)?;
        }
        above.pop();
        Ok(())
    }

    fn entry(
        &mut self,
        root: &Confined,
        relative: &Path,
        above: &mut Vec<PathBuf>,
    ) -> Result<(), PackageError> {
        let path = root.path().join(relative);
        let file = match path.canonicalize() {
            Ok(file) => file,
            // A link to nothing holds nothing.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(PackageError::io(&path)(error)),
        };
        if !root.holds(&file) {
            return Err(PackageError::Outside {
                root: root.path().to_owned(),
                part: "file".to_owned(),
                file: relative.to_owned(),
                reason: "is a symbolic link that leads outside",
            });
        }
        let metadata = file.metadata().map_err(PackageError::io(&path))?;
        if metadata.is_dir() {
            return self.walk(root, relative, above);
        }
        if metadata.is_file() {
            self.add(relative, file);
        }
        if self.files.len() > MAX_FILES {
            return Err(PackageError::TooManyFiles {
                root: root.path().to_owned(),
                limit: MAX_FILES,
            });
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
        let hex: String = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
        Ok(format!("sha256:{hex}"))
    }
}

fn hash_file(hash: &mut Sha256, path: &Path, chunk: &mut [u8]) -> io::Result<()> {
    let mut file = File::open(path)?;
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
