//! A package on disk: found, confined to its directory, read and digested.

use std::path::{Path, PathBuf};

use crate::error::{ErrorKind, Kinded};
use crate::model::{Graph, Manifest, ModelId};

/// One version of a model on disk, read but not loaded.
#[derive(Debug, Clone)]
pub struct Package {
    /// Which model and version it is.
    pub id: ModelId,
    /// The directory, symbolic links resolved.
    pub root: PathBuf,
    /// The model file, absolute, inside `root`.
    pub model_file: PathBuf,
    /// What the `MLmodel` file says, or what was derived from the graph.
    pub manifest: Manifest,
    /// What the model file says.
    pub graph: Graph,
    /// SHA-256 over the package's files, as `sha256:<hex>`.
    pub digest: String,
    /// Bytes of the model file and its external data.
    pub weight_bytes: u64,
}

/// Why a directory is no package that can be served.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {}

impl Kinded for PackageError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidArgument
    }
}

impl Package {
    /// Opens the package directory or `.onnx` file at `path`.
    ///
    /// # Errors
    /// [`PackageError`].
    pub fn open(_path: &Path) -> Result<Self, PackageError> {
        unimplemented!()
    }

    /// A ready scoring request (an MLflow `/invocations` JSON body) from the package's input example.
    ///
    /// # Errors
    /// [`PackageError`] when the example is named in the manifest but cannot be read.
    pub fn serving_input(&self) -> Result<Option<Vec<u8>>, PackageError> {
        unimplemented!()
    }
}

/// The packages that a TARGET stands for: itself, or each version of a `name/version/` tree, or each package in a
/// directory of packages.
///
/// # Errors
/// [`PackageError`] when there is none.
pub fn discover(_target: &Path) -> Result<Vec<PathBuf>, PackageError> {
    unimplemented!()
}
