//! Why a graph is not compiled, and why a run fails.

use std::fmt;

/// Why this engine does not run a graph: an operator, and what about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// An operator that is not here, or one in a form that is not here.
    #[error("operator `{operator}`{}: {reason}", at(node))]
    Operator {
        /// Domain and name.
        operator: String,
        /// The node's name; empty when it has none.
        node: String,
        /// What is wrong with it, or not supported.
        reason: String,
    },
    /// The graph as a whole.
    #[error("{0}")]
    Graph(String),
}

fn at(node: &str) -> String {
    match node {
        "" => String::new(),
        node => format!(" (node `{node}`)"),
    }
}

/// Why a run does not end with an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// The values or sizes that a request brings do not suit an operator.
    Operator(String),
    /// The same, whatever the values are.
    Shapes(String),
    /// The caller asked to stop.
    Cancelled,
}

impl Failure {
    pub(super) fn new(reason: String) -> Self {
        Self::Operator(reason)
    }

    /// Of sizes that do not suit an operator, or each other: no values of such sizes ever will.
    pub(super) fn shapes(reason: String) -> Self {
        Self::Shapes(reason)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operator(reason) | Self::Shapes(reason) => f.write_str(reason),
            Self::Cancelled => f.write_str("cancelled"),
        }
    }
}
