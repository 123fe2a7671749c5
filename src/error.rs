//! The closed list of error kinds and the one table that turns a kind into a status.
//!
//! Each module has its own error enum; all of them answer [`Kinded::kind`], and every protocol asks this file, and
//! nothing else, for the status.

use std::any::Any;

/// What class of failure an error is, independent of the protocol that reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request contradicts the protocol or the model's signature.
    InvalidArgument,
    /// The request or its decoded form is larger than a limit.
    TooLarge,
    /// The request asks for something this build or this model cannot do.
    Unsupported,
    /// It is not known who asks.
    Unauthenticated,
    /// This listener does it for nobody, or not for this client.
    PermissionDenied,
    /// No such model, version, alias or path.
    NotFound,
    /// It is there already.
    Conflict,
    /// The queue is full.
    Overloaded,
    /// The model exists but cannot answer yet, or no longer.
    NotReady,
    /// The deadline of the request passed.
    DeadlineExceeded,
    /// The client went away before the answer.
    Cancelled,
    /// A part of the protocol that is not there.
    NotImplemented,
    /// There is no room for another model.
    OutOfMemory,
    /// Our fault, or the engine's.
    Internal,
}

impl ErrorKind {
    /// Every kind, for tests that must cover the whole table.
    pub const ALL: [Self; 14] = [
        Self::InvalidArgument,
        Self::TooLarge,
        Self::Unsupported,
        Self::Unauthenticated,
        Self::PermissionDenied,
        Self::NotFound,
        Self::Conflict,
        Self::Overloaded,
        Self::NotReady,
        Self::DeadlineExceeded,
        Self::Cancelled,
        Self::NotImplemented,
        Self::OutOfMemory,
        Self::Internal,
    ];

    /// The HTTP status code of this kind.
    pub fn http_status(self) -> u16 {
        self.row().0
    }

    /// The gRPC status code of this kind (`google.rpc.Code`).
    pub fn grpc_code(self) -> i32 {
        self.row().1
    }

    /// The value of the `outcome` label of `onstage_requests_total`.
    pub fn outcome(self) -> &'static str {
        self.row().2
    }

    /// Seconds for the `Retry-After` header, where trying again is worth it.
    pub fn retry_after(self) -> Option<u32> {
        matches!(self, Self::Overloaded | Self::NotReady).then_some(1)
    }

    fn row(self) -> (u16, i32, &'static str) {
        match self {
            Self::InvalidArgument => (400, 3, "client_error"),
            Self::TooLarge => (413, 3, "client_error"),
            Self::Unsupported => (415, 12, "client_error"),
            Self::Unauthenticated => (401, 16, "client_error"),
            Self::PermissionDenied => (403, 7, "client_error"),
            Self::NotFound => (404, 5, "client_error"),
            Self::Conflict => (409, 6, "client_error"),
            Self::Overloaded => (429, 8, "rejected"),
            Self::NotReady => (503, 14, "rejected"),
            Self::DeadlineExceeded => (504, 4, "server_error"),
            Self::Cancelled => (499, 1, "cancelled"),
            Self::NotImplemented => (501, 12, "client_error"),
            Self::OutOfMemory => (507, 8, "server_error"),
            Self::Internal => (500, 13, "server_error"),
        }
    }
}

/// An error that knows its [`ErrorKind`].
pub trait Kinded {
    /// The class of this error.
    fn kind(&self) -> ErrorKind;
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::ErrorKind;

    #[test]
    fn every_kind_has_an_error_status_and_only_retryable_ones_a_retry_after() {
        for kind in ErrorKind::ALL {
            assert!((400..600).contains(&kind.http_status()), "{kind:?}");
            assert!((1..=16).contains(&kind.grpc_code()), "{kind:?}");
            let retryable = matches!(kind.http_status(), 429 | 503);
            assert_eq!(kind.retry_after().is_some(), retryable, "{kind:?}");
        }
    }
}
