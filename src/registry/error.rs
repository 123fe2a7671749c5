//! What can go wrong between us and a registry.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{ErrorKind, Kinded};

/// Why a registry gave no answer, or no package.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// No connection, or it broke, or it took too long.
    #[error("registry `{registry}` cannot be reached: {reason}")]
    Unreachable {
        /// Its address, without secrets.
        registry: String,
        /// The transport's words.
        reason: String,
    },
    /// An answer that says no.
    #[error("registry `{registry}` answered {status}: {reason}")]
    Status {
        /// Its address, without secrets.
        registry: String,
        /// The HTTP status.
        status: u16,
        /// The registry's own words, one line.
        reason: String,
        /// How long it asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// It does not know us, or we may not.
    #[error("registry `{registry}` refuses the credentials: {reason}")]
    Unauthenticated {
        /// Its address, without secrets.
        registry: String,
        /// The registry's own words, and which settings hold credentials.
        reason: String,
    },
    /// An answer, or a file, that is not what it should be.
    #[error("registry `{registry}` gave what cannot be read: {reason}")]
    Malformed {
        /// Its address, without secrets.
        registry: String,
        /// What was expected, what was found, where.
        reason: String,
    },
    /// No such model, version, alias or artifact.
    #[error("{0}")]
    NotFound(String),
    /// Something that this registry cannot do, or this build does not.
    #[error("{0}")]
    Unsupported(String),
    /// The wish contradicts what is there, such as an alias for a version that does not exist.
    #[error("{0}")]
    Invalid(String),
    /// A local file.
    #[error("`{}`: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        error: std::io::Error,
    },
}

impl SourceError {
    /// For `map_err` of file operations on `path`.
    pub fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::Io { path, error }
    }

    /// Whether trying again without a change on the other side may help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Malformed { .. } | Self::Io { .. } => true,
            Self::Status { status, .. } => *status >= 500 || matches!(status, 408 | 425 | 429),
            Self::Unauthenticated { .. }
            | Self::NotFound(_)
            | Self::Unsupported(_)
            | Self::Invalid(_) => false,
        }
    }

    /// How long the registry asks to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

impl Kinded for SourceError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound(_) => ErrorKind::NotFound,
            Self::Invalid(_) => ErrorKind::InvalidArgument,
            Self::Unsupported(_) => ErrorKind::Unsupported,
            _ => ErrorKind::NotReady,
        }
    }
}
