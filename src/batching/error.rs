//! Why a request got no outputs.

use std::sync::Arc;
use std::time::Duration;

use crate::budget::OverBudget;
use crate::engine::EngineError;
use crate::error::{ErrorKind, Kinded};

/// Why a request got no outputs.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// The queue is full.
    #[error("the queue of this model is full: {0} requests wait")]
    QueueFull(usize),
    /// The requests that wait hold as much memory as those of one model may.
    #[error(
        "the queue of this model is full: {waiting} requests wait, which hold half of what all requests may (`limits.memory`)"
    )]
    QueueHeavy {
        /// How many.
        waiting: usize,
    },
    /// Those that wait take longer than the request's deadline allows.
    #[error(
        "{waiting} requests wait, which takes about {wait:?}, longer than the deadline of this one allows"
    )]
    WouldMissDeadline {
        /// How many.
        waiting: usize,
        /// How long, by what runs have cost.
        wait: Duration,
    },
    /// The request's deadline passed before an engine took it.
    #[error("the deadline passed while the request waited in the queue")]
    Expired,
    /// The model is being unloaded.
    #[error("the model is being unloaded")]
    Closed,
    /// Runs of the model did not end.
    #[error("runs of this model did not end: it is being moved into a process of its own")]
    Moving,
    /// Runs of the model did not end, and there is no way to end them.
    #[error("{0}")]
    Withdrawn(Arc<str>),
    /// A run takes more memory than any may.
    #[error(
        "a run of this request takes about {bytes} bytes of memory, more than the {limit} that requests may hold together \
         (`limits.memory`): send fewer rows in each request, or smaller inputs"
    )]
    TooLarge {
        /// What it takes.
        bytes: u64,
        /// What there is.
        limit: usize,
    },
    /// A run takes more memory than is left now.
    #[error(transparent)]
    NoMemory(#[from] OverBudget),
    /// The engine refused or failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The engine panicked; the session was replaced.
    #[error("the engine panicked")]
    Panicked,
}

impl Kinded for BatchError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::QueueFull(_) | Self::QueueHeavy { .. } | Self::WouldMissDeadline { .. } => {
                ErrorKind::Overloaded
            }
            Self::Expired => ErrorKind::DeadlineExceeded,
            Self::Closed | Self::Moving | Self::Withdrawn(_) => ErrorKind::NotReady,
            Self::TooLarge { .. } => ErrorKind::TooLarge,
            Self::NoMemory(error) => error.kind(),
            Self::Engine(error) => error.kind(),
            Self::Panicked => ErrorKind::Internal,
        }
    }
}
