//! What can be wrong with a configuration.

use std::path::PathBuf;

use super::{KeyPath, Origin};

/// Why settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read configuration file `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is no TOML.
    #[error("configuration file `{}` is not valid TOML: {reason}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The parser's words, with line and column.
        reason: String,
    },
    /// A key that does not exist.
    #[error("unknown key `{key}` (from {origin})")]
    UnknownKey {
        /// The key.
        key: KeyPath,
        /// Where it stands.
        origin: Origin,
        /// A key that it may have meant.
        suggestion: Option<String>,
    },
    /// A variable with our prefix that stands for no key.
    #[error("unknown environment variable `{name}`")]
    UnknownVariable {
        /// The variable.
        name: String,
        /// A variable that it may have meant.
        suggestion: Option<String>,
    },
    /// A variable that is no text.
    #[error("environment variable `{0}` is not valid UTF-8")]
    NotUnicode(String),
    /// A value of another kind.
    #[error("invalid value `{value}` for `{key}` (from {origin}): expected {expected}")]
    InvalidValue {
        /// The value, shortened.
        value: Box<str>,
        /// The key.
        key: KeyPath,
        /// Where it stands.
        origin: Origin,
        /// What would be right.
        expected: Box<str>,
        /// More help.
        hint: Option<Box<str>>,
    },
    /// HTTP and gRPC on one port.
    #[error(
        "HTTP and gRPC cannot share port {port} (`server.port` from {http}, `server.grpc_port` from {grpc})"
    )]
    SamePort {
        /// The port.
        port: u16,
        /// Where the port of HTTP comes from.
        http: Origin,
        /// Where the port of gRPC comes from.
        grpc: Origin,
    },
}

impl ConfigError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownKey { suggestion, .. } | Self::UnknownVariable { suggestion, .. } => {
                let meant = suggestion.as_ref()?;
                Some(format!("did you mean `{meant}`?"))
            }
            Self::InvalidValue { hint, .. } => hint.as_deref().map(str::to_owned),
            Self::SamePort { .. } => {
                Some("choose another one with `--grpc-port`, or `--no-grpc`".to_owned())
            }
            Self::Read { .. } | Self::Syntax { .. } | Self::NotUnicode(_) => None,
        }
    }

    /// Whether the mistake is on the command line, not in a file or the environment.
    pub fn is_usage(&self) -> bool {
        match self {
            Self::UnknownKey { origin, .. } | Self::InvalidValue { origin, .. } => {
                matches!(origin, Origin::Flag(_))
            }
            Self::SamePort { http, grpc, .. } => {
                matches!(http, Origin::Flag(_)) || matches!(grpc, Origin::Flag(_))
            }
            Self::Read { .. }
            | Self::Syntax { .. }
            | Self::UnknownVariable { .. }
            | Self::NotUnicode(_) => false,
        }
    }
}

/// A value for a message: printable, and not a page long.
pub(super) fn shorten(value: &str) -> Box<str> {
    const LONGEST: usize = 80;
    let shown = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let mut short: String = value.chars().take(LONGEST).map(shown).collect();
    if value.chars().nth(LONGEST).is_some() {
        short.push('…');
    }
    short.into()
}
