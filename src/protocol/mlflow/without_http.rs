//! Scoring on behalf of the loader and of commands: `/invocations` without a server.

use super::codec::{Content, ScoringCodec, parse_content_type};
use super::error::ScoringError;
use crate::engine::Outputs;
use crate::error::{ErrorKind, Kinded};
use crate::model::Batch;
use crate::protocol::json::NonFinite;
use crate::serving::{Codec, ExampleError, Servable, ServeError};
use crate::tensor::Value;

/// Runs a package's own example (an MLflow scoring body) through a servable.
///
/// # Errors
/// The kind of failure and its message.
pub async fn score_example(
    servable: &Servable,
    body: Vec<u8>,
) -> Result<Vec<u8>, (ErrorKind, String)> {
    score(servable, "application/json", body, NonFinite::Null).await
}

/// Runs a scoring body of this content type through the model as `/invocations` would, without HTTP.
///
/// # Errors
/// The kind of failure and its message.
pub async fn score(
    servable: &Servable,
    content_type: &str,
    body: Vec<u8>,
    non_finite: NonFinite,
) -> Result<Vec<u8>, (ErrorKind, String)> {
    let codec = ScoringCodec::new(parse_content_type(content_type), body, non_finite);
    let outcome = async {
        let mut codec = codec;
        let batch = codec.decode(servable)?;
        run(servable, codec, batch).await
    };
    outcome
        .await
        .map_err(|error: ScoringError| (error.kind(), error.to_string()))
}

/// Runs a JSON scoring body as [`score`] does, for the sake of its outputs: how many numbers in them are NaN or
/// infinite.
///
/// # Errors
/// [`ExampleError`]: whether it reached the engine.
pub async fn check_example(
    servable: &Servable,
    body: Vec<u8>,
) -> Result<(usize, Batch), ExampleError> {
    let mut codec = ScoringCodec::new(Ok(Content::Json), body, NonFinite::Null);
    let batch = codec.decode(servable);
    let batch = batch.map_err(|error| ExampleError::Refused(error.to_string()))?;
    let outputs = servable.submit(batch.clone(), None).await;
    let outputs = outputs.map_err(|error| ExampleError::Failed(error.to_string()))?;
    let non_finite = outputs.iter().map(Value::count_non_finite).sum();
    let answer = codec.encode(servable, outputs);
    answer.map_err(|error| match error.kind() {
        ErrorKind::Internal => ExampleError::Failed(error.to_string()),
        _ => ExampleError::Refused(error.to_string()),
    })?;
    Ok((non_finite, batch))
}

/// The scoring answer to tensors that no request brought.
///
/// # Errors
/// The kind of failure and its message.
pub async fn score_batch(
    servable: &Servable,
    batch: Batch,
) -> Result<Vec<u8>, (ErrorKind, String)> {
    let codec = ScoringCodec::new(Ok(Content::Json), Vec::new(), NonFinite::Null);
    let answer = run(servable, codec, batch).await;
    answer.map_err(|error| (error.kind(), error.to_string()))
}

/// The scoring answer that outputs make.
///
/// # Errors
/// The kind of failure and its message.
pub fn score_outputs(
    servable: &Servable,
    outputs: Outputs,
    non_finite: NonFinite,
) -> Result<Vec<u8>, (ErrorKind, String)> {
    let codec = ScoringCodec::new(Ok(Content::Json), Vec::new(), non_finite);
    let answer = codec.encode(servable, outputs);
    answer.map_err(|error: ScoringError| (error.kind(), error.to_string()))
}

async fn run(
    servable: &Servable,
    codec: ScoringCodec,
    batch: Batch,
) -> Result<Vec<u8>, ScoringError> {
    let outputs = servable.submit(batch, None).await;
    codec.encode(servable, outputs.map_err(ServeError::from)?)
}

/// The tensors of a scoring body, as [`score`] sends them to the model.
///
/// # Errors
/// The kind of failure and its message.
pub fn example_batch(servable: &Servable, body: Vec<u8>) -> Result<Batch, (ErrorKind, String)> {
    let mut codec = ScoringCodec::new(Ok(Content::Json), body, NonFinite::Null);
    let batch = codec.decode(servable);
    batch.map_err(|error: ScoringError| (error.kind(), error.to_string()))
}
