//! The one table of kinds of registries.

use std::sync::Arc;

use anyhow::bail;

use super::{
    ArtifactPlaces, Environment, Mlflow, ObjectAccess, RegistryWriter, Source, StoreRegistry,
};
use crate::network::{self, NetworkConfig};

/// How registries may be reached, whichever it is.
#[derive(Debug, Clone)]
pub struct RegistryAccess {
    /// How other servers are called.
    pub network: NetworkConfig,
    /// Where a registry may send onstage beside its own place.
    pub places: ArtifactPlaces,
    /// Credentials, in the variables of each kind of registry.
    pub environment: Arc<Environment>,
}

/// The source for an address.
///
/// # Errors
/// When no kind of registry has such addresses.
pub fn source(uri: &str, access: &RegistryAccess) -> anyhow::Result<Arc<dyn Source>> {
    Ok(match open(uri, access)? {
        Registry::Mlflow(mlflow) => Arc::from(mlflow as Box<dyn Source>),
        Registry::Store(store) => Arc::from(store as Box<dyn Source>),
    })
}

/// The same, to be changed.
///
/// # Errors
/// When no kind of registry has such addresses.
pub fn writer(uri: &str, access: &RegistryAccess) -> anyhow::Result<Box<dyn RegistryWriter>> {
    Ok(match open(uri, access)? {
        Registry::Mlflow(mlflow) => mlflow,
        Registry::Store(store) => store,
    })
}

/// A registry of files, in a directory or an object store.
///
/// # Errors
/// When the address is that of another kind of registry.
pub fn store(uri: &str, access: &RegistryAccess) -> anyhow::Result<StoreRegistry> {
    match open(uri, access)? {
        Registry::Store(store) => Ok(*store),
        Registry::Mlflow(_) => bail!(
            "`{uri}` is an MLflow server; expected a directory or an object store (`s3://`, `gs://`, `az://`)"
        ),
    }
}

/// One row per kind of registry.
enum Registry {
    Mlflow(Box<Mlflow>),
    Store(Box<StoreRegistry>),
}

/// Whether an address is a directory of this machine.
pub fn is_directory(uri: &str) -> bool {
    uri.starts_with("file:") || !uri.contains(':')
}

fn open(uri: &str, access: &RegistryAccess) -> anyhow::Result<Registry> {
    if Mlflow::is_meant(uri) {
        let mlflow = Mlflow::new(uri, &access.network, Arc::clone(&access.environment))?;
        let mlflow = mlflow.with_places(access.places.clone())?;
        return Ok(Registry::Mlflow(Box::new(mlflow)));
    }
    let scheme = uri.split_once(':').map_or("", |(scheme, _)| scheme);
    match scheme {
        "sqlite" | "postgresql" | "mysql" | "mssql" => bail!(
            "registry `{scheme}:…` is the database behind an MLflow server, which belongs to that server: start it with \
             `mlflow server --backend-store-uri …` and give its address, such as `http://127.0.0.1:5000`"
        ),
        "" | "file" | "s3" | "gs" | "az" => {
            let client = network::client(&access.network)?;
            let objects = ObjectAccess::new(client, Arc::clone(&access.environment));
            let store = StoreRegistry::open(uri, objects)?;
            Ok(Registry::Store(Box::new(
                store.with_places(access.places.clone())?,
            )))
        }
        _ => bail!(
            "registry `{uri}` is of a kind that onstage does not know: expected a directory, an MLflow server such as \
             `http://127.0.0.1:5000`, or an object store (`s3://`, `gs://`, `az://`)"
        ),
    }
}
