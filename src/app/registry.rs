//! The registry that `serve` follows. The one table of sources.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use async_trait::async_trait;

use crate::config::Settings;
use crate::lifecycle::Supply;
use crate::model::ModelId;
use crate::network::{self, NetworkConfig};
use crate::registry::{
    ArtifactPlaces, Environment, Held, LastKnown, Mlflow, ObjectAccess, PackageRef, PastRuns,
    Query, RegistryWriter, Repository, RepositoryConfig, Selection, Source, SourceError,
    StoreRegistry,
};
use crate::telemetry::Metrics;

/// A registry that is followed.
pub(super) struct Followed {
    pub(super) source: Arc<dyn Source>,
    pub(super) fallback: Option<Arc<dyn Source>>,
    pub(super) interval: Duration,
    pub(super) unload_delay: Duration,
    pub(super) memory: Option<Arc<dyn LastKnown>>,
    repository: Repository,
}

/// The variables that MLflow's own client reads for the registry's address, first one first.
const VARIABLES: [&str; 2] = ["MLFLOW_REGISTRY_URI", "MLFLOW_TRACKING_URI"];

/// The time between two looks at an MLflow server or an object store.
const INTERVAL: Duration = Duration::from_secs(5);

/// The time between two looks at a directory, whose changes are told by the file system too.
const FILE_INTERVAL: Duration = Duration::from_secs(1);

/// Polls for which a version is served on whose pointer has gone, unless `registry.unload_delay` says something else.
const POLLS_UNTIL_UNLOAD: u32 = 2;

impl Followed {
    /// The registry of the settings; `None` when nothing is wanted of one.
    ///
    /// # Errors
    /// When there is none, or its address makes no sense.
    pub(super) fn open(
        settings: &Settings,
        environment: &Arc<Environment>,
        selection: &Selection,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<Option<Self>> {
        if selection.is_empty() {
            return Ok(None);
        }
        let configured = settings.registry.uri.as_deref();
        let uri = configured.or_else(|| VARIABLES.iter().find_map(|name| environment.get(name)));
        let Some(uri) = uri else {
            bail!(
                "no registry is given: name one with `--registry`, `registry.uri`, `MLFLOW_REGISTRY_URI` or \
                 `MLFLOW_TRACKING_URI`"
            );
        };
        let fallback = settings.registry.fallback.as_deref();
        let config = RepositoryConfig {
            directory: cache_directory(settings, environment),
            limit: settings.registry.cache_size,
        };
        let repository = Repository::open(&config, metrics).context(
            "cannot use the package cache: name another directory in `registry.cache_dir`",
        )?;
        let source = source(uri, settings, environment)?;
        let default = if is_directory(uri) {
            FILE_INTERVAL
        } else {
            INTERVAL
        };
        let interval = settings.registry.poll_interval.unwrap_or(default);
        let unload_delay = settings.registry.unload_delay;
        Ok(Some(Self {
            memory: repository.last_known(source.address(), &selection.query()),
            source,
            fallback: fallback
                .map(|uri| self::source(uri, settings, environment))
                .transpose()
                .context("invalid `registry.fallback`")?,
            interval,
            unload_delay: unload_delay.unwrap_or(interval * POLLS_UNTIL_UNLOAD),
            repository,
        }))
    }

    /// What earlier runs left, and the next one will find; `None` where nothing outlives this process.
    pub(super) fn past_runs(&self) -> Option<Arc<dyn PastRuns>> {
        let fallback = self.fallback.as_ref().map(|fallback| fallback.address());
        self.repository.past_runs(self.source.address(), fallback)
    }

    /// The way to its packages.
    pub(super) fn supply(&self) -> RegistrySupply {
        RegistrySupply {
            source: Arc::clone(&self.source),
            fallback: self.fallback.clone(),
            repository: self.repository.clone(),
        }
    }
}

/// The source for an address.
///
/// # Errors
/// When no kind of registry has such addresses.
pub fn source(
    uri: &str,
    settings: &Settings,
    environment: &Arc<Environment>,
) -> anyhow::Result<Arc<dyn Source>> {
    Ok(match open(uri, settings, environment)? {
        Registry::Mlflow(mlflow) => Arc::from(mlflow as Box<dyn Source>),
        Registry::Store(store) => Arc::from(store as Box<dyn Source>),
    })
}

/// The same, to be changed.
///
/// # Errors
/// When no kind of registry has such addresses.
pub fn writer(
    uri: &str,
    settings: &Settings,
    environment: &Arc<Environment>,
) -> anyhow::Result<Box<dyn RegistryWriter>> {
    Ok(match open(uri, settings, environment)? {
        Registry::Mlflow(mlflow) => mlflow,
        Registry::Store(store) => store,
    })
}

/// A registry of files, in a directory or an object store.
///
/// # Errors
/// When the address is that of another kind of registry.
pub fn store(
    uri: &str,
    settings: &Settings,
    environment: &Arc<Environment>,
) -> anyhow::Result<StoreRegistry> {
    match open(uri, settings, environment)? {
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

fn is_directory(uri: &str) -> bool {
    uri.starts_with("file:") || !uri.contains(':')
}

fn open(
    uri: &str,
    settings: &Settings,
    environment: &Arc<Environment>,
) -> anyhow::Result<Registry> {
    let network = NetworkConfig {
        ca_file: settings.network.ca_file.clone(),
    };
    if Mlflow::is_meant(uri) {
        let mlflow = Mlflow::new(uri, &network, Arc::clone(environment))?;
        let mlflow = mlflow.with_places(places(settings))?;
        return Ok(Registry::Mlflow(Box::new(mlflow)));
    }
    let scheme = uri.split_once(':').map_or("", |(scheme, _)| scheme);
    match scheme {
        "sqlite" | "postgresql" | "mysql" | "mssql" => bail!(
            "registry `{scheme}:…` is the database behind an MLflow server, which belongs to that server: start it with \
             `mlflow server --backend-store-uri …` and give its address, such as `http://127.0.0.1:5000`"
        ),
        "" | "file" | "s3" | "gs" | "az" => {
            let client = network::client(&network)?;
            let access = ObjectAccess::new(client, Arc::clone(environment));
            let store = StoreRegistry::open(uri, access)?;
            Ok(Registry::Store(Box::new(
                store.with_places(places(settings))?,
            )))
        }
        _ => bail!(
            "registry `{uri}` is of a kind that onstage does not know: expected a directory, an MLflow server such as \
             `http://127.0.0.1:5000`, or an object store (`s3://`, `gs://`, `az://`)"
        ),
    }
}

/// Where a registry may send us beside its own place.
fn places(settings: &Settings) -> ArtifactPlaces {
    let local = settings.registry.local_artifacts.iter();
    ArtifactPlaces {
        local: local.map(PathBuf::from).collect(),
        hosts: settings.registry.artifact_hosts.clone(),
    }
}

/// The directory of the package cache: the chosen one, else one of the user's; `None` where there is no user.
fn cache_directory(settings: &Settings, environment: &Environment) -> Option<PathBuf> {
    let chosen = settings.registry.cache_dir.clone();
    let caches = || environment.get("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || Some(PathBuf::from(environment.get("HOME")?).join(".cache"));
    let local = || environment.get("LOCALAPPDATA").map(PathBuf::from);
    chosen.or_else(|| Some(caches().or_else(home).or_else(local)?.join("onstage")))
}

/// Gets packages out of a registry and its fallback, through the cache.
pub(super) struct RegistrySupply {
    source: Arc<dyn Source>,
    fallback: Option<Arc<dyn Source>>,
    repository: Repository,
}

#[async_trait]
impl Supply for RegistrySupply {
    async fn fetch(&self, package: &PackageRef) -> Result<Held, SourceError> {
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
        let model = state.models.get(&id.name);
        let package = model.map(|model| model.package(&id.name, id.version));
        package
            .unwrap_or_else(|| Err("the registry has no such model".to_owned()))
            .map_err(SourceError::NotFound)
    }
}
