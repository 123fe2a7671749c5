//! The life of one version of a model.

use std::fmt;
use std::time::SystemTime;

/// Where a version stands between being wanted and being gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VersionState {
    /// Wanted, not begun.
    New,
    /// Being copied from the registry.
    Fetching,
    /// Being read and checked.
    Verifying,
    /// Being compiled by an engine.
    Compiling,
    /// Running its example.
    WarmingUp,
    /// Serving.
    Ready,
    /// No longer found by new requests; finishing those it has.
    Draining,
    /// Gone.
    Unloaded,
    /// Cannot be served.
    Failed(FailureReason),
    /// It is no ONNX package, and never will be.
    Unsupported(FailureReason),
}

/// Why a package's own example got no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExampleError {
    /// It contradicts the protocol or the signature: it never reached the engine.
    #[error("{0}")]
    Refused(String),
    /// The engine failed on it, or its outputs make no answer.
    #[error("{0}")]
    Failed(String),
}

/// Why a version failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailureReason {
    /// Which kind of failure, of a closed list: the `reason` label of `onstage_candidate_failures_total`.
    pub label: &'static str,
    /// One sentence for clients: what, and what was expected, without paths of this machine or words of other servers.
    pub message: String,
    /// The same with all that is known, for the log and the operator.
    pub detail: String,
    /// How often it was tried.
    pub attempt: u32,
    /// When it is tried again; `None` is not before something changes.
    pub retry_at: Option<SystemTime>,
}

impl VersionState {
    /// The values of the `state` label of `onstage_model_state`.
    pub const LABELS: [&'static str; 10] = [
        "new",
        "fetching",
        "verifying",
        "compiling",
        "warming_up",
        "ready",
        "draining",
        "unloaded",
        Self::FAILED,
        "unsupported",
    ];

    /// The label of what cannot be served.
    pub const FAILED: &'static str = "failed";

    /// The value of the `state` label.
    pub fn label(&self) -> &'static str {
        let index = match self {
            Self::New => 0,
            Self::Fetching => 1,
            Self::Verifying => 2,
            Self::Compiling => 3,
            Self::WarmingUp => 4,
            Self::Ready => 5,
            Self::Draining => 6,
            Self::Unloaded => 7,
            Self::Failed(_) => 8,
            Self::Unsupported(_) => 9,
        };
        Self::LABELS[index]
    }

    /// Why it cannot be served, when it cannot.
    pub fn reason(&self) -> Option<&FailureReason> {
        match self {
            Self::Failed(reason) | Self::Unsupported(reason) => Some(reason),
            _ => None,
        }
    }

    /// Whether nothing more will happen to it without a change from outside.
    pub fn is_settled(&self) -> bool {
        match self {
            Self::Ready | Self::Unloaded | Self::Unsupported(_) => true,
            Self::Failed(reason) => reason.retry_at.is_none(),
            _ => false,
        }
    }
}

impl fmt::Display for VersionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(reason) => write!(f, "failed: {}", reason.message),
            Self::Unsupported(reason) => write!(f, "unsupported: {}", reason.message),
            state => f.write_str(state.label()),
        }
    }
}
