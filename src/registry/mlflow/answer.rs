//! Why the answer of a server is not the one that was expected.

use crate::model::Version;

/// See the module.
#[derive(Debug, thiserror::Error)]
pub(super) enum AnswerError {
    #[error("more than {0} bytes")]
    TooLarge(usize),
    /// Not even an object: its first words, and what it calls itself.
    #[error("`{words}` ({kind})")]
    NotAnObject { words: String, kind: String },
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error("another object, without `{expected}`")]
    OtherObject { expected: &'static str },
    #[error("`{name}`: {error}")]
    Field {
        name: &'static str,
        error: serde_json::Error,
    },
    /// A model or a version, in a few words of the parser.
    #[error("{0}")]
    Unreadable(String),
    #[error("it has the version `{0}`, expected a number")]
    VersionNumber(String),
    #[error("asked for version {0}, the registry answers with another one")]
    OtherVersion(Version),
}
