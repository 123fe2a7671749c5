//! Model registries: what they hold, what of it is wanted, and how its packages are fetched.
//!
//! ```text
//! Source ──snapshot──► RegistryState ──Selection──► DesiredState ──► lifecycle
//!    └────────fetch──► a directory
//! ```
//!
//! A [`Source`] is our adapter to one kind of registry: one file here, one row in the table of `app`, and the
//! conformance suite. It knows nothing of what is wanted; [`Selection`] knows nothing of where it comes from.

pub(crate) mod cache;
mod download;
mod environment;
mod error;
pub(crate) mod files;
mod linger;
mod local_files;
pub(crate) mod local_packages;
mod mlflow;
pub mod notify;
mod object_files;
mod object_url;
mod past;
mod places;
mod pull;
mod selection;
pub mod sources;
mod state;
mod uri;
mod watcher;
mod writer;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Notify;

pub use crate::model::{Alias, Pointer, PointerError, Stage};
pub use crate::registry::cache::{CachedPackage, Lease, Repository, RepositoryConfig};
pub use crate::registry::files::{StoreRegistry, StoredVersion};
pub use environment::Environment;
pub use error::{SourceError, without_paths};
pub use mlflow::{Mlflow, Webhook, WebhookRequest};
pub use object_files::fetch as fetch_objects;
pub(crate) use object_files::store_error;
pub use object_url::{ObjectAccess, without_secrets};
pub use past::{PastRuns, Served};
pub use places::ArtifactPlaces;
pub use pull::{Pull, Pulls};
pub use selection::{DesiredModel, DesiredState, Filter, FilterError, Selection, Target, Wanted};
pub use state::{
    NotLoadable, PackageRef, Query, RegisteredModel, RegisteredVersion, RegistryState,
    VersionStatus,
};
pub use uri::{ModelUri, UriError, Which};
pub use watcher::{FirstLook, KnownState, LastKnown, Watcher, WatcherParts};
pub use writer::RegistryWriter;

/// One registry.
#[async_trait]
pub trait Source: Send + Sync {
    /// Its address for messages, without secrets.
    fn address(&self) -> &str;

    /// What it holds now, as far as `query` asks.
    ///
    /// # Errors
    /// [`SourceError`] when any part cannot be read: half an answer would unload models.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    async fn snapshot(&self, query: &Query) -> Result<RegistryState, SourceError>;

    /// The package of a URI that is not a registered version: a logged model, or artifacts of a run.
    ///
    /// # Errors
    /// [`SourceError::Unsupported`] where the registry has no such thing.
    async fn resolve(&self, uri: &ModelUri) -> Result<PackageRef, SourceError> {
        Err(SourceError::Unsupported(format!(
            "registry `{}` has registered versions only, not `{uri}`",
            self.address()
        )))
    }

    /// Writes all files of a package below `directory`, which exists. It may hold what an earlier attempt at the same
    /// package left: files whose size is right may be kept and shorter ones resumed.
    ///
    /// # Errors
    /// [`SourceError`].
    ///
    /// # Cancel safety
    /// May be dropped at any time; what was written stays.
    async fn fetch(&self, package: &PackageRef, directory: &Path) -> Result<(), SourceError>;

    /// Notified when something may have changed, where the registry supports that. A hint only: the snapshot decides.
    fn changes(&self) -> Option<Arc<Notify>> {
        None
    }
}
