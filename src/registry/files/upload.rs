//! Packages on their way into the registry.

use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use object_store::buffered::BufWriter;
use object_store::path::Path;
use tokio::io::{AsyncWriteExt, BufReader};

use super::StoreRegistry;
use super::layout::child;
use crate::model::{Content, Package};
use crate::registry::SourceError;
use crate::signing;

/// What is read of a file at a time.
const CHUNK: usize = 1 << 20;

/// Files up to this size are sent in one piece, larger ones in pieces of it.
const PIECE: usize = 16 << 20;

/// The package at `path`: a directory, or a graph alone.
pub(crate) fn package(path: &FilePath) -> Result<Package, SourceError> {
    Package::open(path).map_err(|error| {
        SourceError::Invalid(format!(
            "`{}` cannot be registered: {error}",
            path.display()
        ))
    })
}

impl StoreRegistry {
    /// Copies the files of a package to `place`.
    pub(crate) async fn upload(&self, package: &Package, place: &Path) -> Result<(), SourceError> {
        let root = &package.root;
        for file in files(package)? {
            let relative = file.strip_prefix(root).unwrap_or(&file);
            let target = relative.iter().fold(place.clone(), |path, part| {
                child(&path, &part.to_string_lossy())
            });
            self.upload_file(&file, target).await?;
        }
        Ok(())
    }

    /// The same, and the signature that lies beside the package as `model.sig`. Answers the digest of what is there then.
    pub(crate) async fn upload_sealed(
        &self,
        package: &Package,
        place: &Path,
    ) -> Result<String, SourceError> {
        self.upload(package, place).await?;
        let beside = signing::find(&package.root).filter(|seal| !seal.starts_with(&package.root));
        let Some(beside) = beside else {
            return Ok(package.digest.clone());
        };
        let content = Content::with(&package.root, signing::SEAL, beside.clone())
            .map_err(|error| SourceError::Invalid(error.to_string()))?;
        let target = child(place, signing::SEAL);
        self.upload_file(&beside, target).await?;
        Ok(content.digest)
    }

    /// Never the whole file in memory: models are large.
    async fn upload_file(&self, file: &FilePath, target: Path) -> Result<(), SourceError> {
        let opened = tokio::fs::File::open(file).await;
        let mut input = BufReader::with_capacity(CHUNK, opened.map_err(SourceError::io(file))?);
        let mut output = BufWriter::with_capacity(Arc::clone(&self.store), target, PIECE);
        let copied = async {
            tokio::io::copy_buf(&mut input, &mut output).await?;
            output.shutdown().await
        };
        let copied: std::io::Result<()> = copied.await;
        copied.map_err(|error| match error.downcast::<object_store::Error>() {
            Ok(error) => self.failed(error),
            Err(error) => SourceError::io(file)(error),
        })
    }
}

/// The files of a package, without those of tools. Of a graph alone those that it names: whatever else is beside it is not
/// ours to copy.
fn files(package: &Package) -> Result<Vec<PathBuf>, SourceError> {
    if package.is_bare {
        let used = package.uses().into_iter();
        return Ok(used.map(|file| package.root.join(file)).collect());
    }
    let mut files = Vec::new();
    let mut directories = vec![package.root.clone()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).map_err(SourceError::io(&directory))? {
            let path = entry.map_err(SourceError::io(&directory))?.path();
            let name = path.file_name().unwrap_or_default().as_encoded_bytes();
            if name.starts_with(b".") || name == b"__pycache__" {
                continue;
            }
            if path.is_dir() {
                directories.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}
