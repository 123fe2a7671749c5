//! An MLflow server as a registry, over REST.
//!
//! Stages, aliases and versions are polled: a stage transition fires no webhook, and a webhook is only a reason to look
//! at once. Files come through the server's artifact proxy, by its signed URLs, or directly from where they are.

mod answer;
mod artifacts;
mod auth;
mod client;
mod databricks;
mod registration;
mod snapshot;
mod wire;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use url::Url;

use super::{
    ArtifactPlaces, Environment, ModelUri, ObjectAccess, PackageRef, Query, RegistryState, Source,
    SourceError,
};
use crate::model::{Conversion, ModelId, ModelName, Version};
use crate::network::NetworkConfig;
use artifacts::Artifacts;
use auth::Credentials;
use client::Api;
pub use registration::{Webhook, WebhookRequest};
use snapshot::{Memory, Snapshot};

/// A registry that speaks MLflow's REST API.
#[derive(Debug)]
pub struct Mlflow {
    api: Api,
    /// The server for `mlflow-artifacts:` and runs; usually the same.
    tracking: Api,
    dialect: Dialect,
    objects: ObjectAccess,
    environment: Arc<Environment>,
    places: ArtifactPlaces,
    memory: Memory,
}

/// Which of its two forms the registry part of the API has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    /// `mlflow server`, and the workspace registry of Databricks.
    OpenSource,
    /// Databricks Unity Catalog: other paths, no stages.
    UnityCatalog,
}

impl Dialect {
    fn path(self, call: &str) -> String {
        match self {
            Self::OpenSource => format!("mlflow/{call}"),
            Self::UnityCatalog => format!("mlflow/unity-catalog/{call}"),
        }
    }
}

impl Mlflow {
    /// Whether `uri` names a registry of this kind.
    pub fn is_meant(uri: &str) -> bool {
        uri.starts_with("http://") || uri.starts_with("https://") || databricks::is_meant(uri)
    }

    /// The registry at `uri`: `http(s)://…`, `databricks` or `databricks-uc`. Credentials come from the variables that
    /// MLflow's own client reads. Nothing is sent yet.
    ///
    /// # Errors
    /// [`SourceError::Invalid`] and [`SourceError::Unsupported`] for settings that cannot work.
    pub fn new(
        uri: &str,
        network: &NetworkConfig,
        environment: Arc<Environment>,
    ) -> Result<Self, SourceError> {
        let clients = auth::clients(network, &environment)?;
        let timeout = timeout(&environment)?;
        let outside = crate::network::client(network)
            .map_err(|error| SourceError::Invalid(error.to_string()))?;
        let objects = ObjectAccess::new(outside, environment.clone());
        let headers = auth::headers(&environment)?;
        let api = |url: Url, credentials: Credentials| {
            Api::new(clients.server.clone(), url, credentials)
                .with_outside(clients.outside.clone())
                .with_headers(headers.clone())
                .with_timeout(timeout)
        };
        let (dialect, base, credentials) = if databricks::is_meant(uri) {
            let (dialect, base, token) = databricks::workspace(uri, &environment)?;
            (dialect, base, Credentials::Bearer(token))
        } else {
            let base = server(uri)?;
            (
                Dialect::OpenSource,
                base,
                Credentials::from_environment(&environment)?,
            )
        };
        let tracking = tracking(uri, &environment).map(|base| api(base, credentials.clone()));
        let api = api(base, credentials);
        Ok(Self {
            tracking: tracking.unwrap_or_else(|| api.clone()),
            api,
            dialect,
            objects,
            environment,
            places: ArtifactPlaces::default(),
            memory: Memory::default(),
        })
    }

    /// Lets it name files in these places too.
    ///
    /// # Errors
    /// [`SourceError::Invalid`] for entries that cannot be meant.
    pub fn with_places(self, places: ArtifactPlaces) -> Result<Self, SourceError> {
        places.validate()?;
        Ok(Self { places, ..self })
    }

    fn artifacts(&self) -> Artifacts<'_> {
        Artifacts {
            registry: &self.api,
            tracking: &self.tracking,
            objects: &self.objects,
            environment: &self.environment,
            places: &self.places,
        }
    }

    async fn artifact_uri(&self, id: &ModelId) -> Result<String, SourceError> {
        let path = self.dialect.path("model-versions/get-download-uri");
        let version = id.version.to_string();
        let query = [("name", id.name.as_str()), ("version", &version)];
        let found: wire::DownloadUri = self.api.get(&path, &query).await?;
        Ok(found.artifact_uri)
    }

    async fn logged_model(&self, id: &str) -> Result<wire::LoggedModelInfo, SourceError> {
        let path = format!("mlflow/logged-models/{id}");
        let found: wire::GetLoggedModel = self.tracking.get(&path, &[]).await?;
        Ok(found.model.info)
    }

    async fn fetch_files(&self, package: &PackageRef, directory: &Path) -> Result<(), SourceError> {
        let uri = if package.revision.starts_with(UNREGISTERED) {
            package.location.clone()
        } else if self.dialect == Dialect::UnityCatalog {
            let (objects, url) = self.unity_catalog_files(&package.id).await?;
            self.artifacts().check_local(&url)?;
            return super::object_files::fetch(&objects, &url, directory).await;
        } else {
            self.artifact_uri(&package.id).await?
        };
        // Older servers answer with what was registered.
        let uri = match uri.parse() {
            Ok(ModelUri::Logged(id)) => self.logged_model(&id).await?.artifact_uri,
            Ok(ModelUri::Run { run, path }) => self.artifacts().of_run(&run, &path).await?,
            _ => uri,
        };
        self.artifacts().fetch(&uri, directory).await
    }
}

#[async_trait]
impl Source for Mlflow {
    fn address(&self) -> &str {
        self.api.address()
    }

    async fn snapshot(&self, query: &Query) -> Result<RegistryState, SourceError> {
        let snapshot = Snapshot {
            api: &self.api,
            dialect: self.dialect,
            memory: &self.memory,
        };
        snapshot.take(query).await
    }

    async fn resolve(&self, uri: &ModelUri) -> Result<PackageRef, SourceError> {
        let (name, location) = match uri {
            ModelUri::Registered { .. } => {
                return Err(SourceError::Invalid(format!(
                    "`{uri}` is a registered version, which the snapshot tells"
                )));
            }
            ModelUri::Logged(id) => {
                let info = self.logged_model(id).await?;
                if !matches!(info.status.as_str(), "" | "LOGGED_MODEL_READY") {
                    let status = info.status;
                    return Err(SourceError::NotFound(format!(
                        "`{uri}` is {status}, expected LOGGED_MODEL_READY"
                    )));
                }
                (info.name, info.artifact_uri)
            }
            ModelUri::Run { run, path } => {
                let location = self.artifacts().of_run(run, path).await?;
                let name = path.rsplit('/').next().unwrap_or(path);
                (name.to_owned(), location)
            }
        };
        let name = ModelName::new(name).or_else(|_| ModelName::new("model"));
        Ok(PackageRef {
            id: ModelId {
                name: name.expect("`model` is a valid name"),
                version: Version(1),
            },
            location,
            revision: format!("{UNREGISTERED}{uri}"),
            digest: None,
        })
    }

    async fn fetch(&self, package: &PackageRef, directory: &Path) -> Result<(), SourceError> {
        let fetched = self.fetch_files(package, directory).await;
        fetched.map_err(|error| {
            error.named(|| match package.revision.strip_prefix(UNREGISTERED) {
                Some(uri) => Conversion::of_uri(uri, &package.id.name),
                None => Conversion::of_version(&package.id),
            })
        })
    }
}

/// Begins the revision of a package whose location is its artifact URI.
const UNREGISTERED: &str = "unregistered ";

fn server(uri: &str) -> Result<Url, SourceError> {
    let url = Url::parse(uri).ok().filter(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.host_str().is_some_and(|host| !host.is_empty())
    });
    url.ok_or_else(|| {
        SourceError::Invalid(
            "invalid address of a registry: expected `https://host[:port][/prefix]`".to_owned(),
        )
    })
}

/// The tracking server, when the registry is another one.
fn tracking(registry: &str, environment: &Environment) -> Option<Url> {
    let is_from_environment = environment.get("MLFLOW_REGISTRY_URI") == Some(registry);
    let tracking = environment.get("MLFLOW_TRACKING_URI")?;
    let is_other = is_from_environment && tracking != registry && !databricks::is_meant(registry);
    is_other.then(|| server(tracking).ok()).flatten()
}

fn timeout(environment: &Environment) -> Result<Duration, SourceError> {
    const NAME: &str = "MLFLOW_HTTP_REQUEST_TIMEOUT";
    match environment.get(NAME) {
        None => Ok(client::TIMEOUT),
        Some(text) => match text.parse() {
            Ok(seconds @ 1..=86_400) => Ok(Duration::from_secs(seconds)),
            _ => Err(SourceError::Invalid(format!(
                "invalid value `{text}` for `{NAME}`: expected seconds, at least 1"
            ))),
        },
    }
}
