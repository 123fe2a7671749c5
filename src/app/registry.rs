//! The registry that `serve` follows. The one table of sources.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use async_trait::async_trait;

use crate::config::Settings;
use crate::lifecycle::{Supplied, Supply};
use crate::model::ModelId;
use crate::registry::{LastKnown, PackageRef, Selection, Source, SourceError};

/// A registry that is followed.
pub(super) struct Followed {
    pub(super) source: Arc<dyn Source>,
    pub(super) fallback: Option<Arc<dyn Source>>,
    pub(super) interval: Duration,
    pub(super) memory: Option<Arc<dyn LastKnown>>,
}

impl Followed {
    /// The registry of the settings; `None` when nothing is wanted of one.
    ///
    /// # Errors
    /// When there is none, or its address makes no sense.
    pub(super) fn open(settings: &Settings, selection: &Selection) -> anyhow::Result<Option<Self>> {
        if selection.is_empty() {
            return Ok(None);
        }
        let Some(uri) = &settings.registry.uri else {
            bail!(
                "no registry is configured: name one with `--registry`, `registry.uri`, `MLFLOW_REGISTRY_URI` or `MLFLOW_TRACKING_URI`"
            );
        };
        bail!("registry `{uri}` is of a kind that this build does not read")
    }

    /// The way to its packages.
    pub(super) fn supply(&self) -> RegistrySupply {
        RegistrySupply {
            source: Arc::clone(&self.source),
        }
    }
}

/// Gets packages out of a registry.
pub(super) struct RegistrySupply {
    source: Arc<dyn Source>,
}

#[async_trait]
impl Supply for RegistrySupply {
    async fn fetch(&self, package: &PackageRef) -> Result<Supplied, SourceError> {
        let directory = PathBuf::from(&package.location);
        self.source.fetch(package, &directory).await?;
        Ok(Supplied {
            directory,
            lease: Box::new(()),
        })
    }

    async fn find(&self, id: &ModelId) -> Result<PackageRef, SourceError> {
        Err(SourceError::NotFound(format!("no model {id}")))
    }
}
