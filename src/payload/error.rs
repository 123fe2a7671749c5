//! Why the log cannot begin, or cannot be read.

use std::path::{Path, PathBuf};

use crate::error::{ErrorKind, Kinded};
use crate::registry::SourceError;

/// Why the log cannot begin, or cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// The place makes no sense.
    #[error("invalid place `{uri}`: {reason}")]
    Place {
        /// As it was given.
        uri: String,
        /// What was expected.
        reason: String,
    },
    /// The store.
    #[error("{}", without_registry(.0))]
    Store(#[from] SourceError),
    /// A local file.
    #[error("`{}`: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        error: std::io::Error,
    },
    /// No Parquet file, or not one of a log.
    #[error("`{file}` {reason}")]
    File {
        /// The file.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// What was asked for is not there, or not of the right kind.
    #[error("{0}")]
    Unfit(String),
}

impl PayloadError {
    /// For `map_err` of file operations on `path`.
    pub(super) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::Io { path, error }
    }

    /// For `map_err` of readers and writers of `file`.
    pub(super) fn file<E: ToString>(file: &str) -> impl FnOnce(E) -> Self {
        let file = file.to_owned();
        move |error| Self::File {
            file,
            reason: format!("cannot be read: {}", error.to_string()),
        }
    }
}

/// The store's words: it is no registry here.
fn without_registry(error: &SourceError) -> String {
    let words = error.to_string();
    words.strip_prefix("registry ").unwrap_or(&words).to_owned()
}

impl Kinded for PayloadError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Place { .. } | Self::File { .. } | Self::Unfit(_) => ErrorKind::InvalidArgument,
            Self::Store(error) => error.kind(),
            Self::Io { .. } => ErrorKind::Internal,
        }
    }
}
