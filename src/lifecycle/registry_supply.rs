//! Packages of a registry, through the cache.

use std::sync::Arc;

use async_trait::async_trait;

use super::Supply;
use crate::model::ModelId;
use crate::registry::{CachedPackage, PackageRef, Query, Repository, Source, SourceError};

/// Gets packages out of a registry and its fallback, through the cache.
pub struct RegistrySupply {
    pub(crate) source: Arc<dyn Source>,
    pub(crate) fallback: Option<Arc<dyn Source>>,
    pub(crate) repository: Repository,
}

impl std::fmt::Debug for RegistrySupply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegistrySupply").finish_non_exhaustive()
    }
}

#[async_trait]
impl Supply for RegistrySupply {
    async fn fetch(&self, package: &PackageRef) -> Result<CachedPackage, SourceError> {
        match (
            self.repository.get(&*self.source, package).await,
            &self.fallback,
        ) {
            (Err(SourceError::Unreachable { .. }), Some(fallback)) => {
                self.repository.get(&**fallback, package).await
            }
            (fetched, _) => fetched,
        }
    }

    async fn discard(&self, package: &PackageRef) {
        for source in [&self.source].into_iter().chain(&self.fallback) {
            if let Err(error) = self.repository.discard(source.address(), package).await {
                tracing::warn!(%error, model = %package.id, "cannot remove it from the package cache");
            }
        }
    }

    async fn find(&self, id: &ModelId) -> Result<PackageRef, SourceError> {
        let query = Query {
            models: [id.name.clone()].into(),
            versions: [id.clone()].into(),
            ..Query::default()
        };
        let state = self.source.snapshot(&query).await?;
        let Some(model) = state.models.get(&id.name) else {
            let reason = "the registry has no such model".to_owned();
            return Err(SourceError::NotFound(reason));
        };
        let package = model.package(&id.name, id.version);
        package.map_err(|error| SourceError::NotFound(error.to_string()))
    }
}
