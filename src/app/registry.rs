//! The registry that `serve` follows.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};

use crate::config::{Settings, registry_access};
use crate::lifecycle::RegistrySupply;
use crate::registry::{
    Environment, LastKnown, PastRuns, Repository, RepositoryConfig, Selection, Source, sources,
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
        let access = registry_access(settings, environment);
        let source = sources::source(uri, &access)?;
        let default = if sources::is_directory(uri) {
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
                .map(|uri| sources::source(uri, &access))
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

/// The directory of the package cache: the chosen one, else one of the user's; `None` where there is no user.
pub(crate) fn cache_directory(settings: &Settings, environment: &Environment) -> Option<PathBuf> {
    let chosen = settings.registry.cache_dir.clone();
    let caches = || environment.get("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || Some(PathBuf::from(environment.get("HOME")?).join(".cache"));
    let local = || environment.get("LOCALAPPDATA").map(PathBuf::from);
    chosen.or_else(|| Some(caches().or_else(home).or_else(local)?.join("onstage")))
}
