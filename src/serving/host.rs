//! What a platform asks of a server whose models come and go by request.

use async_trait::async_trait;

use crate::error::{ErrorKind, Kinded};
use crate::model::ModelName;

/// Serves models that are named with the place of their files. The protocols know no more of it than this.
#[async_trait]
pub trait ModelHost: Send + Sync {
    /// Loads a model and waits until it serves.
    ///
    /// # Errors
    /// [`HostError`]; then it is not there.
    async fn add(&self, model: &ModelName, url: &str) -> Result<(), HostError>;

    /// Unloads a model and waits until its memory is given back.
    ///
    /// # Errors
    /// [`HostError::NotFound`].
    async fn remove(&self, model: &ModelName) -> Result<(), HostError>;

    /// The models that were added, in the order of their names.
    fn models(&self) -> Vec<HostedModel>;
}

/// A model that was added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostedModel {
    /// Its name.
    pub name: ModelName,
    /// Where its files are, as it was said.
    pub url: String,
}

/// Why a model was not added or removed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// There is one of this name.
    #[error("model `{0}` is loaded already; unload it first")]
    Exists(ModelName),
    /// There is none of this name.
    #[error("no model named `{0}` is loaded")]
    NotFound(ModelName),
    /// It does not fit beside the others.
    #[error("{0}")]
    OutOfMemory(String),
    /// Its files are not where they may be, or no model.
    #[error("{0}")]
    Invalid(String),
    /// It came neither on stage nor off it in time.
    #[error("{0}")]
    TimedOut(String),
    /// The server is stopping.
    #[error("the server is stopping")]
    Stopping,
}

impl Kinded for HostError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Exists(_) => ErrorKind::Conflict,
            Self::NotFound(_) => ErrorKind::NotFound,
            Self::OutOfMemory(_) => ErrorKind::OutOfMemory,
            Self::Invalid(_) => ErrorKind::InvalidArgument,
            Self::TimedOut(_) => ErrorKind::DeadlineExceeded,
            Self::Stopping => ErrorKind::NotReady,
        }
    }
}
