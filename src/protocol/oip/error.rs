//! Why a request of the Open Inference Protocol got no answer.

use crate::budget::OverBudget;
use crate::error::{ErrorKind, Kinded};
use crate::http::body::BodyError;
use crate::model::SignatureError;
use crate::protocol::json::JsonError;
use crate::serving::{LookupError, ServeError};
use crate::telemetry::Lines;
use crate::tensor::TensorError;

/// A request that got no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OipError {
    /// No request, or one that contradicts itself.
    #[error("{0}")]
    Invalid(String),
    /// A tensor's data does not fill its shape.
    #[error("input `{name}`: {error}")]
    Tensor {
        /// The input.
        name: String,
        /// What is wrong.
        error: TensorError,
    },
    /// The inputs contradict the model.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// A part of the protocol that is not there.
    #[error("{0}")]
    NotImplemented(String),
    /// Something that this listener does for nobody.
    #[error("{0}")]
    PermissionDenied(String),
    /// The body is larger than the limit, in bytes.
    #[error("the body is larger than {0} bytes (`server.max_body`)")]
    TooLarge(usize),
    /// There is no memory for it.
    #[error(transparent)]
    OverBudget(#[from] OverBudget),
    /// No such name or version.
    #[error("{0}")]
    NotFound(String),
    /// Catalog, queue, deadline or engine.
    #[error(transparent)]
    Serve(#[from] ServeError),
}

/// A client must not fill a disk with what it makes fail.
static FAILED: Lines = Lines::new(10);

impl OipError {
    /// The message for the client; internal causes go only to the log.
    pub(crate) fn public_message(&self) -> String {
        if self.kind() == ErrorKind::Internal {
            if let Some(untold) = FAILED.next() {
                tracing::error!(error = %self, untold, "inference failed");
            }
            return "the model failed to answer; the server's log has the reason under this request's x-request-id"
                .to_owned();
        }
        self.to_string()
    }
}

impl From<JsonError> for OipError {
    fn from(error: JsonError) -> Self {
        if let JsonError::OverBudget(over) = error {
            return over.into();
        }
        Self::Invalid(format!("the body is no JSON: {error}"))
    }
}

impl From<BodyError> for OipError {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge(limit) => Self::TooLarge(limit),
            BodyError::Unreadable(_) => Self::Invalid(error.to_string()),
            BodyError::OverBudget(over) => Self::OverBudget(over),
        }
    }
}

impl From<LookupError> for OipError {
    fn from(error: LookupError) -> Self {
        Self::Serve(error.into())
    }
}

impl Kinded for OipError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid(_) => ErrorKind::InvalidArgument,
            Self::Tensor { error, .. } => error.kind(),
            Self::Signature(error) => error.kind(),
            Self::NotImplemented(_) => ErrorKind::NotImplemented,
            Self::PermissionDenied(_) => ErrorKind::PermissionDenied,
            Self::TooLarge(_) => ErrorKind::TooLarge,
            Self::OverBudget(error) => error.kind(),
            Self::NotFound(_) => ErrorKind::NotFound,
            Self::Serve(error) => error.kind(),
        }
    }
}
