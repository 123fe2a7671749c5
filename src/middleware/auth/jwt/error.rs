//! Why the keys of tokens stay as they are.

use std::io;

use super::key_set::KeySetError;

/// Why a source has no set of keys.
#[derive(Debug, thiserror::Error)]
pub enum KeySourceError {
    /// A file cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The provider cannot be reached; in the words of the transport.
    #[error("{0}")]
    Unreachable(String),
    /// The provider is too slow.
    #[error("no answer in time")]
    Timeout,
    /// The provider answers with an error.
    #[error("status {0}")]
    Status(u16),
    /// The answer is too large.
    #[error("more than {} KiB", limit >> 10)]
    TooLarge {
        /// In bytes.
        limit: usize,
    },
}

/// Why the keys were not renewed.
#[derive(Debug, thiserror::Error)]
pub enum RefreshError {
    /// There is nothing to read.
    #[error(transparent)]
    Source(#[from] KeySourceError),
    /// What was read is no set of keys.
    #[error(transparent)]
    KeySet(#[from] KeySetError),
}
