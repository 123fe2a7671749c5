//! The closed lists behind label values. A client's text never becomes one.

use crate::error::ErrorKind;

/// The model and version label of requests for a model that is not served.
pub(super) const UNKNOWN: &str = "unknown";

/// How a prediction request ended: the `outcome` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It was answered.
    Success,
    /// It contradicts the protocol, the signature or a limit.
    ClientError,
    /// The server failed, or the deadline passed.
    ServerError,
    /// It satisfied the signature, and its run in the engine failed.
    EngineError,
    /// It was refused before it ran.
    Rejected,
    /// Its client went away.
    Cancelled,
}

impl Outcome {
    /// Every outcome, in the order of their discriminants.
    pub const ALL: [Self; 6] = [
        Self::Success,
        Self::ClientError,
        Self::ServerError,
        Self::EngineError,
        Self::Rejected,
        Self::Cancelled,
    ];

    /// The value of the `outcome` label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::ClientError => "client_error",
            Self::ServerError => "server_error",
            Self::EngineError => "engine_error",
            Self::Rejected => "rejected",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Of a request that failed as the kind says, or succeeded, and reached no engine.
impl From<Option<ErrorKind>> for Outcome {
    fn from(failure: Option<ErrorKind>) -> Self {
        let label = failure.map_or("success", ErrorKind::outcome);
        let known = Self::ALL.into_iter().find(|one| one.label() == label);
        known.unwrap_or(Self::ServerError)
    }
}

/// Why a run in an engine failed: the `reason` label of `onstage_engine_errors_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EngineFailure {
    /// The engine reported an error.
    Run,
    /// The engine panicked.
    Panic,
    /// The process that ran the model ended.
    Lost,
    /// The deadline passed, or would have.
    Timeout,
}

impl EngineFailure {
    /// Every reason, in the order of their discriminants.
    pub const ALL: [Self; 4] = [Self::Run, Self::Panic, Self::Lost, Self::Timeout];

    /// The value of the `reason` label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Panic => "panic",
            Self::Lost => "lost",
            Self::Timeout => "timeout",
        }
    }
}

/// Whether the version before answered a request that failed on a version on probation: the `outcome` label of
/// `onstage_replays_total`.
pub(super) const REPLAYS: [&str; 2] = ["answered", "failed"];

/// Why a version could not go on stage, or was taken back: the `reason` label of `onstage_candidate_failures_total`.
pub(super) const CANDIDATE_FAILURES: [&str; 18] = [
    "fetch",
    "no_onnx_model",
    "invalid_package",
    "digest",
    "unsigned",
    "bad_signature",
    "compile",
    "unsupported",
    "response",
    "example",
    "nonfinite",
    "contract_changed",
    "memory",
    "hung",
    "unfinished",
    "internal",
    "unready",
    "probation",
];

/// What became of a swap: the `outcome` label of `onstage_swaps_total`.
pub(super) const SWAPS: [&str; 4] = ["published", "rolled_back", "failed", "unloaded"];

/// A surface by which a request came in: the `protocol` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// MLflow's scoring server.
    Mlflow,
    /// Open Inference Protocol over HTTP.
    V2Rest,
    /// Open Inference Protocol over gRPC.
    V2Grpc,
    /// The V1 protocol.
    V1,
}

impl Protocol {
    /// Every protocol, in the order of their discriminants.
    pub const ALL: [Self; 4] = [Self::Mlflow, Self::V2Rest, Self::V2Grpc, Self::V1];

    /// The value of the `protocol` label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Mlflow => "mlflow",
            Self::V2Rest => "v2_rest",
            Self::V2Grpc => "v2_grpc",
            Self::V1 => "v1",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_kind_has_an_outcome_of_the_closed_list() {
        assert_eq!(Outcome::from(None), Outcome::Success);
        for kind in ErrorKind::ALL {
            assert_eq!(Outcome::from(Some(kind)).label(), kind.outcome());
        }
    }

    #[test]
    fn outcomes_and_reasons_are_their_own_index() {
        for (index, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, index);
        }
        for (index, reason) in EngineFailure::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
    }

    #[test]
    fn a_protocol_is_its_own_index() {
        for (index, protocol) in Protocol::ALL.into_iter().enumerate() {
            assert_eq!(protocol as usize, index);
        }
    }
}
