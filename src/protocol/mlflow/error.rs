//! MLflow's error answers.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::budget::OverBudget;
use crate::error::{ErrorKind, Kinded};
use crate::protocol::json::write_str;
use crate::protocol::mlflow::schema::cast::CastError;
use crate::protocol::mlflow::schema::data::SchemaError;
use crate::serving::ServeError;
use crate::telemetry::Lines;

/// A scoring request that got no predictions.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScoringError {
    /// No JSON, or JSON of another form.
    #[error("Invalid input. {0}")]
    Invalid(String),
    /// Not exactly one of the four input fields.
    #[error("{0}")]
    Envelope(String),
    /// A column cannot have the type that the signature asks for.
    #[error("Invalid input. {0}")]
    Cast(CastError),
    /// The data contradicts the signature.
    #[error(
        "Failed to predict data '{data}'. \nError: Failed to enforce schema of data '{data}'. Error: {error}"
    )]
    Schema {
        /// What kind of data it was.
        data: String,
        /// What is wrong with it.
        error: SchemaError,
    },
    /// The parameters contradict the signature.
    #[error("Failed to predict data. \nError: {0}")]
    Params(String),
    /// The data fits the signature but not the graph, or the graph failed on it.
    #[error(
        "Encountered an unexpected error while evaluating the model. Verify that the serialized input Dataframe is \
         compatible with the model for inference. Error: {0}"
    )]
    Evaluate(String),
    /// The body is no CSV table of the signature's types.
    #[error(
        "Failed to parse input as a Pandas DataFrame. Ensure that the input is a valid CSV-formatted Pandas DataFrame \
         produced using the `pandas.DataFrame.to_csv()` method. Error: '{0}'"
    )]
    Csv(String),
    /// The body is no Parquet table.
    #[error(
        "Failed to parse input as a Pandas DataFrame. Ensure that the input is a valid Parquet Pandas DataFrame \
         produced using the `pandas.DataFrame.to_parquet()` method. Error: '{0}'"
    )]
    Parquet(String),
    /// The body is larger than the limit.
    #[error("{0}")]
    TooLarge(String),
    /// There is no memory for it.
    #[error(transparent)]
    OverBudget(#[from] OverBudget),
    /// The content type is not served. Plain text.
    #[error("{0}")]
    ContentType(String),
    /// The path names no model or version.
    #[error("{0}")]
    NotFound(String),
    /// Queue, deadline or engine.
    #[error(transparent)]
    Serve(ServeError),
}

impl From<CastError> for ScoringError {
    fn from(error: CastError) -> Self {
        match error {
            CastError::OverBudget(over) => over.into(),
            error @ CastError::Column { .. } => Self::Cast(error),
        }
    }
}

impl Kinded for ScoringError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::ContentType(_) => ErrorKind::Unsupported,
            Self::TooLarge(_) => ErrorKind::TooLarge,
            Self::OverBudget(error) => error.kind(),
            Self::NotFound(_) => ErrorKind::NotFound,
            Self::Serve(error) => error.kind(),
            _ => ErrorKind::InvalidArgument,
        }
    }
}

impl ScoringError {
    /// MLflow's `error_code`, `sqlstate` and `error_class`.
    fn codes(&self) -> [&'static str; 3] {
        match self {
            Self::Schema { .. } => [
                "INVALID_PARAMETER_VALUE",
                "KAM01",
                "SCHEMA_ENFORCEMENT_FAILED",
            ],
            Self::Params(_) => [
                "INVALID_PARAMETER_VALUE",
                "KAM00",
                "INVALID_PARAMETER_VALUE",
            ],
            Self::Serve(error) => serve_codes(error.kind()),
            Self::OverBudget(error) => serve_codes(error.kind()),
            Self::NotFound(_) => serve_codes(ErrorKind::NotFound),
            _ => ["BAD_REQUEST", "KAM00", "INVALID_PARAMETER_VALUE"],
        }
    }

    fn message(&self) -> String {
        match self {
            // What went wrong inside is in the log; the client gets the request id.
            Self::Serve(error) if error.kind() == ErrorKind::Internal => {
                if let Some(untold) = FAILED.next() {
                    tracing::error!(error = %error, untold, "inference failed");
                }
                "The model failed to answer; the server's log has the reason under this request's x-request-id."
                    .to_owned()
            }
            other => other.to_string(),
        }
    }
}

/// A client must not fill a disk with what it makes fail.
static FAILED: Lines = Lines::new(10);

fn serve_codes(kind: ErrorKind) -> [&'static str; 3] {
    match kind {
        ErrorKind::NotFound => [
            "RESOURCE_DOES_NOT_EXIST",
            "KAM00",
            "RESOURCE_DOES_NOT_EXIST",
        ],
        ErrorKind::Overloaded => ["REQUEST_LIMIT_EXCEEDED", "XXM00", "REQUEST_LIMIT_EXCEEDED"],
        ErrorKind::NotReady => [
            "TEMPORARILY_UNAVAILABLE",
            "XXM00",
            "TEMPORARILY_UNAVAILABLE",
        ],
        ErrorKind::InvalidArgument | ErrorKind::TooLarge => {
            ["BAD_REQUEST", "KAM00", "INVALID_PARAMETER_VALUE"]
        }
        _ => ["INTERNAL_ERROR", "XXM00", "CLIENT_INTERNAL_ERROR"],
    }
}

impl IntoResponse for ScoringError {
    fn into_response(self) -> Response {
        let kind = self.kind();
        let status =
            StatusCode::from_u16(kind.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if let Self::ContentType(message) = self {
            return (status, message).into_response();
        }
        let json = [(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        )];
        if kind == ErrorKind::DeadlineExceeded {
            return (status, json, "Request processing time exceeded limit").into_response();
        }
        let [error_code, sqlstate, error_class] = self.codes();
        let mut body = Vec::from(&b"{\"error_code\": "[..]);
        write_str(&mut body, error_code);
        for (key, value) in [
            (&b", \"message\": "[..], self.message().as_str()),
            (b", \"sqlstate\": ", sqlstate),
            (b", \"error_class\": ", error_class),
        ] {
            body.extend_from_slice(key);
            write_str(&mut body, value);
        }
        body.push(b'}');
        let mut response = (status, json, body).into_response();
        if let Some(seconds) = kind.retry_after() {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
