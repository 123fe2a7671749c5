//! How registries may be reached, by the settings.

use std::path::PathBuf;
use std::sync::Arc;

use super::Settings;
use crate::registry::sources::RegistryAccess;
use crate::registry::{ArtifactPlaces, Environment};

/// How registries may be reached.
pub(crate) fn registry_access(
    settings: &Settings,
    environment: &Arc<Environment>,
) -> RegistryAccess {
    let local = settings.registry.local_artifacts.iter();
    RegistryAccess {
        network: settings.network.config(),
        places: ArtifactPlaces {
            local: local.map(PathBuf::from).collect(),
            hosts: settings.registry.artifact_hosts.clone(),
        },
        environment: Arc::clone(environment),
    }
}
