//! What can go wrong between us and a registry.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{ErrorKind, Kinded};
use crate::model::{Conversion, PackageError};

/// The longest time for which a registry is left alone at its own request.
const LONGEST_PAUSE: Duration = Duration::from_secs(5 * 60);

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
    /// It names a place for files that the operator has not allowed.
    #[error("{reason}")]
    Place {
        /// The setting that allows it.
        key: &'static str,
        /// What was named, and what to do.
        reason: String,
    },
    /// The wish contradicts what is there, such as an alias for a version that does not exist.
    #[error("{0}")]
    Invalid(String),
    /// A whole package, of a kind that is not served.
    #[error(transparent)]
    Package(Box<PackageError>),
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

    /// The same about a package that its user knows by another name than the path of its files.
    #[must_use]
    pub(crate) fn named(self, conversion: impl FnOnce() -> Conversion) -> Self {
        match self {
            Self::Package(error) => Self::Package(Box::new(error.named(conversion()))),
            error => error,
        }
    }

    /// Whether trying again without a change on the other side may help.
    pub fn is_transient(&self) -> bool {
        match self {
            // A proxy or a login page may refuse us for a while, in place of the registry.
            Self::Unreachable { .. }
            | Self::Malformed { .. }
            | Self::Io { .. }
            | Self::Unauthenticated { .. } => true,
            Self::Status { status, .. } => {
                *status >= 500 || matches!(status, 300..400 | 404 | 408 | 425 | 429)
            }
            Self::NotFound(_)
            | Self::Unsupported(_)
            | Self::Place { .. }
            | Self::Package(_)
            | Self::Invalid(_) => false,
        }
    }

    /// How long the registry asks to be left alone: at most a few minutes, as what it says may come from anybody in
    /// between, and nobody else would look again.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => retry_after.map(|wait| wait.min(LONGEST_PAUSE)),
            _ => None,
        }
    }
}

/// Where the rest of a message for clients is.
const LOGGED: &str = "the server's log says more";

impl SourceError {
    /// What clients may know of it: nothing that another server said, and no path of this machine.
    pub fn for_clients(&self) -> String {
        let what = match self {
            Self::Unreachable { .. } => "the registry cannot be reached".to_owned(),
            Self::Status { status, .. } => format!("the registry answered {status}"),
            Self::Unauthenticated { .. } => "the registry refuses the credentials".to_owned(),
            Self::Malformed { .. } => "the registry gave what cannot be read".to_owned(),
            Self::NotFound(_) => "the registry does not have it".to_owned(),
            Self::Place { key, .. } => {
                format!("the registry names a place for its files that `{key}` does not allow")
            }
            Self::Unsupported(_) | Self::Invalid(_) => {
                "its files cannot be had from where the registry says".to_owned()
            }
            Self::Package(error) => return without_paths(&error.to_string()),
            Self::Io { error, .. } => format!("the package cache failed: {}", error.kind()),
        };
        format!("{what}; {LOGGED}")
    }
}

/// A text in which absolute paths are only their last part: where something is on this machine is nothing for clients.
pub fn without_paths(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    let mut before = ' ';
    while let Some(character) = rest.chars().next() {
        let begins = character == '/' && (before.is_whitespace() || "`'\"(=[".contains(before));
        if begins {
            let end = match before {
                '`' | '\'' | '"' => rest.find(before),
                _ => rest.find(|c: char| c.is_whitespace() || "`'\"),;:]".contains(c)),
            };
            let path = &rest[..end.unwrap_or(rest.len())];
            if let Some((above, last)) = path.trim_end_matches('/').rsplit_once('/')
                && !above.is_empty()
            {
                shown.push_str("…/");
                shown.push_str(last);
                rest = &rest[path.len()..];
                before = '/';
                continue;
            }
        }
        shown.push(character);
        before = character;
        rest = &rest[character.len_utf8()..];
    }
    shown
}

impl Kinded for SourceError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound(_) => ErrorKind::NotFound,
            Self::Invalid(_) => ErrorKind::InvalidArgument,
            Self::Unsupported(_) | Self::Place { .. } => ErrorKind::Unsupported,
            Self::Package(error) => error.kind(),
            _ => ErrorKind::NotReady,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_this_machine_is_its_last_part() {
        for (text, expected) in [
            (
                "cannot read `/root/.cache/a b/model.onnx`: no",
                "cannot read `…/model.onnx`: no",
            ),
            (
                "from /var/cache/x/model.onnx failed:",
                "from …/model.onnx failed:",
            ),
            ("(/a/b), =/c/d/", "(…/b), =…/d"),
            ("use `/models/{name}/invocations`", "use `…/invocations`"),
            (
                "`model.onnx` at 1/2, https://host/a/b",
                "`model.onnx` at 1/2, https://host/a/b",
            ),
            ("/ and /tmp", "/ and /tmp"),
            ("größe `/ä/ö`", "größe `…/ö`"),
        ] {
            assert_eq!(without_paths(text), expected);
        }
    }

    #[test]
    fn clients_hear_nothing_of_what_another_server_said() {
        let (registry, reason) = (
            "http://inner.example".to_owned(),
            "Log in, me:s3cret".to_owned(),
        );
        let errors = [
            SourceError::Unreachable {
                registry: registry.clone(),
                reason: reason.clone(),
            },
            SourceError::Status {
                registry: registry.clone(),
                status: 500,
                reason: reason.clone(),
                retry_after: None,
            },
            SourceError::Unauthenticated {
                registry: registry.clone(),
                reason: reason.clone(),
            },
            SourceError::Malformed {
                registry,
                reason: reason.clone(),
            },
            SourceError::NotFound(reason.clone()),
            SourceError::Place {
                key: "registry.artifact_hosts",
                reason: reason.clone(),
            },
            SourceError::Unsupported(reason.clone()),
            SourceError::Invalid(reason.clone()),
            SourceError::Io {
                path: "/secret/place".into(),
                error: std::io::Error::other(reason),
            },
        ];
        for error in errors {
            let text = error.for_clients();
            for word in ["s3cret", "Log in", "inner", "/secret"] {
                assert!(!text.contains(word), "{text}");
            }
            assert!(text.ends_with("log says more"), "{text}");
        }
    }
}
