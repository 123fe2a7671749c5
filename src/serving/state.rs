//! The life of one version of a model.

use std::fmt;

/// Where a version stands between being wanted and being gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VersionState {
    /// Wanted, not begun.
    New,
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
}

/// Why a version failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailureReason {
    /// One sentence: what, where, what was expected.
    pub message: String,
}

impl VersionState {
    /// The values of the `state` label of `onstage_model_state`.
    pub const LABELS: [&'static str; 8] = [
        "new",
        "verifying",
        "compiling",
        "warming_up",
        "ready",
        "draining",
        "unloaded",
        "failed",
    ];

    /// The value of the `state` label.
    pub fn label(&self) -> &'static str {
        let index = match self {
            Self::New => 0,
            Self::Verifying => 1,
            Self::Compiling => 2,
            Self::WarmingUp => 3,
            Self::Ready => 4,
            Self::Draining => 5,
            Self::Unloaded => 6,
            Self::Failed(_) => 7,
        };
        Self::LABELS[index]
    }

    /// Whether nothing more will happen to it without a change from outside.
    pub fn is_settled(&self) -> bool {
        matches!(self, Self::Ready | Self::Unloaded | Self::Failed(_))
    }
}

impl fmt::Display for VersionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(reason) => write!(f, "failed: {}", reason.message),
            state => f.write_str(state.label()),
        }
    }
}
