//! Changes of a registry, for `onstage registry`.

use std::path::Path;

use async_trait::async_trait;

use super::{Alias, SourceError, Stage};
use crate::model::{ModelId, ModelName, Version};

/// A registry that can be written to.
#[async_trait]
pub trait RegistryWriter: Send + Sync {
    /// Adds the package in `directory` as a new version, also when the same bytes are there already.
    ///
    /// # Errors
    /// [`SourceError::Unsupported`] where that is another tool's work.
    async fn register(&self, name: &ModelName, directory: &Path) -> Result<Version, SourceError>;

    /// Moves a version to a stage. With `archive_existing` those that were in it are archived.
    ///
    /// # Errors
    /// [`SourceError::NotFound`] when there is no such version.
    async fn transition(
        &self,
        version: &ModelId,
        stage: Stage,
        archive_existing: bool,
    ) -> Result<(), SourceError>;

    /// Points an alias to a version, from wherever it points to.
    ///
    /// # Errors
    /// [`SourceError::NotFound`] when there is no such version.
    async fn set_alias(&self, alias: &Alias, version: &ModelId) -> Result<(), SourceError>;

    /// Removes an alias. One that is not there is no error.
    ///
    /// # Errors
    /// [`SourceError::NotFound`] when there is no such model.
    async fn delete_alias(&self, name: &ModelName, alias: &Alias) -> Result<(), SourceError>;
}
