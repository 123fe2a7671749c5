//! The registry of files: a directory, or the same layout in an object store.
//!
//! ```text
//! iris/versions/1/MLmodel …   an immutable package
//! iris/versions/1.json        it exists once this does: created, digest, source
//! iris/versions/1.reserved    the number is taken
//! iris/stages/Production      "1": the version that it points to
//! iris/aliases/champion       likewise
//! iris/history/…              one object for each change
//! ```
//!
//! Each pointer is one small object that is replaced whole, so readers never see half a change and never wait.

mod directory;
mod import;
mod layout;
mod pointer;
mod read;
mod upload;
mod write;

use std::path::{Path as FilePath, PathBuf};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use parking_lot::Mutex;
use tokio::sync::Notify;
use url::Url;

use super::object_url::without_secrets;
use super::{ArtifactPlaces, ObjectAccess, PackageRef, Query, RegistryState, Source, SourceError};
use super::{local_files, object_files};
use crate::model::Conversion;

pub use import::StoredVersion;

/// See the module.
pub struct StoreRegistry {
    access: ObjectAccess,
    store: Arc<dyn ObjectStore>,
    root: Path,
    url: Url,
    address: String,
    /// The directory, when it is one of this machine.
    directory: Option<PathBuf>,
    places: ArtifactPlaces,
    watching: OnceLock<Option<(Arc<Notify>, RecommendedWatcher)>>,
    memory: Mutex<read::Memory>,
}

impl StoreRegistry {
    /// The registry at `uri`: a directory, `file://`, `s3://`, `gs://` or `az://`. A directory that does not exist is made
    /// by the first change.
    ///
    /// # Errors
    /// [`SourceError::Invalid`] and [`SourceError::Unsupported`] for what cannot be one.
    pub fn open(uri: &str, access: ObjectAccess) -> Result<Self, SourceError> {
        let url = match uri.split_once("://") {
            Some(_) => Url::parse(uri).map_err(|error| {
                SourceError::Invalid(format!("invalid registry `{uri}`: {error}"))
            })?,
            None => directory_url(FilePath::new(uri))?,
        };
        let directory = (url.scheme() == "file")
            .then(|| url.to_file_path().ok())
            .flatten();
        if let Some(directory) = &directory {
            refuse_mlflow_store(directory)?;
        }
        let (store, root): (Arc<dyn ObjectStore>, Path) = match &directory {
            // It need not exist yet.
            Some(directory) => {
                let root = Path::from_absolute_path(directory).map_err(|error| {
                    SourceError::Invalid(format!("invalid registry `{uri}`: {error}"))
                })?;
                (Arc::new(LocalFileSystem::new()), root)
            }
            None => access.open(&url)?,
        };
        let address = match &directory {
            Some(directory) => directory.display().to_string(),
            None => without_secrets(&url),
        };
        Ok(Self {
            access,
            store,
            root,
            url,
            address,
            directory,
            places: ArtifactPlaces::default(),
            watching: OnceLock::new(),
            memory: Mutex::default(),
        })
    }

    /// Lets links in its directory lead to these places too.
    ///
    /// # Errors
    /// [`SourceError::Invalid`] for entries that cannot be meant.
    pub fn with_places(self, places: ArtifactPlaces) -> Result<Self, SourceError> {
        places.validate()?;
        Ok(Self { places, ..self })
    }

    fn malformed(&self, path: &Path, reason: impl std::fmt::Display) -> SourceError {
        SourceError::Malformed {
            registry: self.address.clone(),
            reason: format!("`{path}`: {reason}"),
        }
    }

    /// The directory is not mounted, or not there yet.
    fn unmounted(&self) -> SourceError {
        SourceError::Unreachable {
            registry: self.address.clone(),
            reason: "there is no such directory; `onstage registry register` makes one".to_owned(),
        }
    }

    fn failed(&self, error: object_store::Error) -> SourceError {
        object_files::store_error(&self.address, error)
    }

    async fn fetch_files(
        &self,
        package: &PackageRef,
        directory: &FilePath,
    ) -> Result<(), SourceError> {
        let url = Url::parse(&package.location).map_err(|error| {
            SourceError::Invalid(format!("invalid location `{}`: {error}", package.location))
        })?;
        if self.directory.is_none() {
            return object_files::fetch(&self.access, &url, directory).await;
        }
        let local = self.local().ok_or_else(|| self.unmounted())?;
        let path = url.to_file_path().map_err(|()| {
            SourceError::Invalid(format!(
                "`{url}` is no place in registry `{}`",
                self.address
            ))
        })?;
        local_files::fetch(&path, local.allowed(), directory).await
    }
}

/// How the user converts a package of such a registry: from the path or the URL where its files are.
fn conversion(package: &PackageRef) -> Conversion {
    let url = Url::parse(&package.location).ok();
    let path = url.as_ref().and_then(|url| url.to_file_path().ok());
    let place = match (path, url) {
        (Some(path), _) => path.display().to_string(),
        (None, Some(url)) => without_secrets(&url),
        (None, None) => package.location.clone(),
    };
    Conversion::of_uri(&place, &package.id.name)
}

fn directory_url(path: &FilePath) -> Result<Url, SourceError> {
    let absolute = std::path::absolute(path).map_err(SourceError::io(path))?;
    Url::from_directory_path(&absolute)
        .map_err(|()| SourceError::Invalid(format!("`{}` is no directory", path.display())))
}

/// MLflow keeps its own store of files in another layout.
fn refuse_mlflow_store(directory: &FilePath) -> Result<(), SourceError> {
    let is_mlflow = directory.join("0/meta.yaml").exists() || directory.join("mlflow.db").exists();
    if !is_mlflow {
        return Ok(());
    }
    let shown = directory.display();
    Err(SourceError::Unsupported(format!(
        "`{shown}` is a store of MLflow, which belongs to its server: start it with `mlflow server --backend-store-uri \
         {shown}` and give its address, such as `http://127.0.0.1:5000`"
    )))
}

#[async_trait]
impl Source for StoreRegistry {
    fn address(&self) -> &str {
        &self.address
    }

    async fn snapshot(&self, query: &Query) -> Result<RegistryState, SourceError> {
        if let Some(directory) = &self.directory
            && !directory.is_dir()
        {
            // An empty answer would unload everything.
            return Err(self.unmounted());
        }
        self.read(query).await
    }

    async fn fetch(&self, package: &PackageRef, directory: &FilePath) -> Result<(), SourceError> {
        let fetched = self.fetch_files(package, directory).await;
        fetched.map_err(|error| error.named(|| conversion(package)))
    }

    /// Events of the file system, for a directory of this machine; network mounts send none, so polling goes on.
    fn changes(&self) -> Option<Arc<Notify>> {
        let directory = self.directory.as_ref()?;
        let watching = self.watching.get_or_init(|| {
            let changed = Arc::new(Notify::new());
            let described = Arc::clone(&changed);
            let tell = move |event: notify::Result<notify::Event>| {
                // Our own reading is an event too.
                if event.is_ok_and(|event| !event.kind.is_access()) {
                    described.notify_one();
                }
            };
            // A link could lead to anywhere, and as much as there is.
            let config = notify::Config::default().with_follow_symlinks(false);
            let watcher = RecommendedWatcher::new(tell, config);
            let watching = watcher.and_then(|mut watcher| {
                watcher.watch(directory, RecursiveMode::Recursive)?;
                Ok(watcher)
            });
            match watching {
                Ok(watcher) => Some((changed, watcher)),
                Err(error) => {
                    tracing::warn!(registry = self.address, %error, "no file events; polling alone");
                    None
                }
            }
        });
        watching.as_ref().map(|(changed, _)| Arc::clone(changed))
    }
}

impl std::fmt::Debug for StoreRegistry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreRegistry")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
