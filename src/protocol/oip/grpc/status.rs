//! Errors as gRPC statuses, and the metadata of calls and answers.

use axum::http::HeaderMap;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::{Code, Status};

use crate::error::{ErrorKind, Kinded};
use crate::http::headers::set_model_headers;
use crate::model::ModelId;
use crate::protocol::oip::error::OipError;
use crate::serving::ServeError;

/// On our refusals of calls, on their way to [`transport`](super::transport): what lacks it was said by the library.
pub(crate) const OURS: &str = "x-onstage-status";

/// The status of a call that is refused.
pub(crate) fn refusal(error: &OipError, model: Option<&ModelId>) -> Status {
    let mut status = status(error, model);
    let ours = MetadataValue::from_static("1");
    status.metadata_mut().insert(OURS, ours);
    status
}

/// The status of a request that got no answer, and which model it asked.
pub(crate) fn status(error: &OipError, model: Option<&ModelId>) -> Status {
    let kind = error.kind();
    let mut metadata = model_metadata(model);
    if let Some(seconds) = kind.retry_after() {
        // What clients with a retry policy look at.
        let value = MetadataValue::from(u64::from(seconds) * 1000);
        metadata.insert("grpc-retry-pushback-ms", value);
    }
    let code = match error {
        // As every server of gRPC says it, whichever limit it was.
        OipError::OverBudget(_) | OipError::Serve(ServeError::OverBudget(_)) => {
            Code::ResourceExhausted
        }
        _ => code(kind),
    };
    Status::with_metadata(code, error.public_message(), metadata)
}

/// The code of a kind of failure, by the one table.
pub(crate) fn code(kind: ErrorKind) -> Code {
    Code::from_i32(kind.grpc_code())
}

/// Says which version answered.
pub(crate) fn model_metadata(model: Option<&ModelId>) -> MetadataMap {
    let mut headers = HeaderMap::new();
    set_model_headers(&mut headers, model);
    MetadataMap::from_headers(headers)
}

/// Whether a client set this flag for a call.
pub(crate) fn flag(metadata: &MetadataMap, name: &'static str) -> bool {
    let value: Option<&MetadataValue<Ascii>> = metadata.get(name);
    value.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"))
}

/// What the library says of a message that it could not read, in our words; `None` for anything else.
pub(crate) fn unreadable(status: &Status, limit: usize) -> Option<OipError> {
    match status.code() {
        // Larger as it came, and larger after it was inflated.
        Code::OutOfRange | Code::ResourceExhausted => Some(OipError::TooLarge(limit)),
        Code::Internal => Some(OipError::Invalid(format!(
            "the message could not be read: {}",
            status.message()
        ))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_code_and_retryable_ones_say_when() {
        for kind in ErrorKind::ALL {
            assert_ne!(code(kind), Code::Unknown, "{kind:?}");
            assert_ne!(code(kind), Code::Ok, "{kind:?}");
        }
        let busy = status(&ServeError::Busy(2).into(), None);
        assert_eq!(busy.code(), Code::ResourceExhausted);
        assert_eq!(
            busy.metadata().get("grpc-retry-pushback-ms").unwrap(),
            "1000"
        );
        let invalid = status(&OipError::Invalid("no".to_owned()), None);
        assert_eq!(
            (invalid.code(), invalid.message()),
            (Code::InvalidArgument, "no")
        );
        assert!(invalid.metadata().get("grpc-retry-pushback-ms").is_none());
    }

    #[test]
    fn a_flag_is_the_word_true() {
        let mut metadata = MetadataMap::new();
        assert!(!flag(&metadata, "triton_grpc_error"));
        for (value, expected) in [
            ("true", true),
            ("True", true),
            ("1", false),
            ("false", false),
        ] {
            metadata.insert("triton_grpc_error", value.parse().unwrap());
            assert_eq!(flag(&metadata, "triton_grpc_error"), expected, "{value}");
        }
    }
}
