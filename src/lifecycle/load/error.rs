//! Why a version does not serve.

use std::time::Duration;

use crate::engine::EngineError;
use crate::error::{ErrorKind, Kinded};
use crate::model::{ContractError, NoSuchOutput, PackageError};
use crate::registry::{SourceError, without_paths};
use crate::signing::SealError;

/// Why a version does not serve.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It could not be had.
    #[error(transparent)]
    Fetch(SourceError),
    /// The files.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// Other files than the registry says.
    #[error(
        "the package has digest `{found}`, the registry says `{expected}`: it was changed or damaged on its way"
    )]
    Digest {
        /// What was computed.
        found: String,
        /// What the registry says.
        expected: String,
    },
    /// Nobody who is trusted vouches for the files.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// No engine, or the engine refused.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The chosen form of answers does not fit the graph.
    #[error(transparent)]
    Response(#[from] NoSuchOutput),
    /// The engine failed on the package's own example.
    #[error("the input example of the package fails: {0}")]
    Example(String),
    /// The outputs of the package's own example are not finite.
    #[error(
        "the outputs for the input example of the package hold {0} numbers that are NaN or infinite, expected none"
    )]
    NonFinite(usize),
    /// Clients of the version that serves would break.
    #[error("its contract breaks clients of the version that serves: {0}")]
    Contract(ContractError),
    /// It does not fit.
    #[error("{0}")]
    Memory(String),
    /// The worker process that read it died.
    #[error("the process that was to read the package went meanwhile: {0}")]
    Unreadable(String),
    /// The registry is too slow.
    #[error("it was not fetched within {0:?} (`registry.fetch_timeout`); what has come is kept")]
    Slow(Duration),
    /// A phase takes too long. It is abandoned; its thread may never end.
    #[error(
        "to {phase} took longer than {limit:?} (`engine.load_timeout`): it is left alone, and other models load in its place"
    )]
    Hung {
        /// Which phase.
        phase: &'static str,
        /// How long it may take.
        limit: Duration,
    },
    /// Loads of it ended the process.
    #[error(
        "{0} loads of it never returned, as the process ended first: it is not tried again before another release of \
         onstage, unless you load it by hand"
    )]
    Unfinished(u32),
    /// It is no longer wanted.
    #[error("cancelled: it is no longer wanted")]
    Cancelled,
    /// A bug of ours or of an engine.
    #[error("loading panicked: {0}")]
    Panicked(String),
}

impl LoadError {
    /// The `reason` label of `onstage_candidate_failures_total`.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Fetch(_) => "fetch",
            Self::Package(error) if error.is_foreign() => "no_onnx_model",
            Self::Package(_) => "invalid_package",
            Self::Digest { .. } => "digest",
            Self::Seal(error) => error.label(),
            Self::Engine(EngineError::Load { .. } | EngineError::Run { .. }) => "compile",
            Self::Engine(_) => "unsupported",
            Self::Response(_) => "response",
            Self::Example(_) => "example",
            Self::NonFinite(_) => "nonfinite",
            Self::Contract(_) => "contract_changed",
            Self::Memory(_) => "memory",
            Self::Unreadable(_) => "invalid_package",
            Self::Slow(_) => "fetch",
            Self::Hung { .. } => "hung",
            Self::Unfinished(_) => "unfinished",
            Self::Cancelled => "cancelled",
            Self::Panicked(_) => "internal",
        }
    }

    /// Whether it is a model of another kind, which no attempt makes one of ours.
    pub fn is_foreign(&self) -> bool {
        matches!(self, Self::Package(error) if error.is_foreign())
    }

    /// Whether trying again may help although nothing changed in the registry.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Fetch(error) => error.is_transient(),
            Self::Digest { .. } | Self::Slow(_) => true,
            Self::Package(PackageError::Io { .. }) | Self::Seal(SealError::Io { .. }) => true,
            // Without a thread or a process to be had nothing is known of the version.
            Self::Panicked(_) | Self::Engine(_) => self.chain().contains(SHORTAGE),
            _ => false,
        }
    }

    /// The error and its causes on one line.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let next = error.to_string();
            if !text.contains(&next) {
                text.push_str(": ");
                text.push_str(&next);
            }
            cause = error.source();
        }
        text
    }

    /// The same for clients: without paths of this machine and words of other servers.
    pub fn for_clients(&self) -> String {
        match self {
            Self::Fetch(error) => error.for_clients(),
            _ => without_paths(&self.chain()),
        }
    }
}

/// What the operating system says when there are too many threads or processes (EAGAIN).
const SHORTAGE: &str = "Resource temporarily unavailable";

/// A package of another kind is no fault of the registry.
impl From<SourceError> for LoadError {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Package(error) => Self::Package(*error),
            error => Self::Fetch(error),
        }
    }
}

impl Kinded for LoadError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Fetch(error) => error.kind(),
            Self::Package(error) => error.kind(),
            Self::Engine(error) => error.kind(),
            Self::Response(error) => error.kind(),
            Self::Cancelled => ErrorKind::Cancelled,
            Self::Panicked(_) => ErrorKind::Internal,
            Self::Slow(_) | Self::Hung { .. } => ErrorKind::DeadlineExceeded,
            _ => ErrorKind::InvalidArgument,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_threads_or_processes_costs_no_version() {
        let shortage = std::io::Error::from_raw_os_error(11);
        let load = |reason: String| {
            LoadError::Engine(EngineError::Load {
                engine: "tract",
                file: "model.onnx".to_owned(),
                reason,
            })
        };
        let no_thread = LoadError::Panicked(format!("no thread: {shortage}"));
        let no_process = load(format!("cannot start a worker: {shortage}"));
        if cfg!(target_os = "linux") {
            assert!(no_thread.is_transient() && no_process.is_transient());
        }
        assert!(!load("no such operator".to_owned()).is_transient());
        assert!(!LoadError::Panicked("index out of bounds".to_owned()).is_transient());
    }

    #[test]
    fn clients_hear_what_is_wrong_with_a_package_and_not_where_it_is() {
        let error = LoadError::Package(PackageError::Missing {
            root: "/root/.cache/onstage/packages/abc".into(),
            part: "model file".to_owned(),
            file: "model.onnx".into(),
            reason: "is missing",
        });
        let text = error.for_clients();
        assert!(text.contains("`model.onnx` is missing"), "{text}");
        assert!(!text.contains(".cache"), "{text}");
        assert!(error.chain().contains("/root/.cache/onstage"));
    }
}
