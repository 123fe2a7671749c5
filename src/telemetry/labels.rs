//! The closed lists behind label values. A client's text never becomes one.

use crate::error::ErrorKind;

/// The model and version label of requests for a model that is not served.
pub(super) const UNKNOWN: &str = "unknown";

/// The `outcome` label, in the order of [`outcome_index`].
pub(super) const OUTCOMES: [&str; 5] = [
    "success",
    "client_error",
    "server_error",
    "rejected",
    "cancelled",
];

/// The place in [`OUTCOMES`] of a request that failed as `failure` says, or succeeded.
pub(super) fn outcome_index(failure: Option<ErrorKind>) -> usize {
    let label = failure.map_or(OUTCOMES[0], ErrorKind::outcome);
    OUTCOMES
        .iter()
        .position(|outcome| *outcome == label)
        .expect("`ErrorKind::outcome` is one of the five outcomes")
}

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
        assert_eq!(OUTCOMES[outcome_index(None)], "success");
        for kind in ErrorKind::ALL {
            assert_eq!(OUTCOMES[outcome_index(Some(kind))], kind.outcome());
        }
    }

    #[test]
    fn a_protocol_is_its_own_index() {
        for (index, protocol) in Protocol::ALL.into_iter().enumerate() {
            assert_eq!(protocol as usize, index);
        }
    }
}
