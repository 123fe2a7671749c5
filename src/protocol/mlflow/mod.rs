//! MLflow's scoring protocol: `/invocations`, `/ping`, `/health`, `/version`.
//!
//! Answers what `mlflow models serve` answers for the ONNX flavor; the differences are in
//! `docs/reference/mlflow-compatibility.md`.
//!
//! ```text
//! bytes ─► request (JSON) / csv / parquet ─► cast ─► enforce ─► feed ─► Signature::bind ─► engine ─► answer
//! ```

mod answer;
mod codec;
mod direct;
pub(crate) mod envelope;
mod error;
mod feed;
mod inputs;
mod params;
mod routes;
pub(crate) mod schema;
mod without_http;

pub(crate) use self::codec::codec;
pub(crate) use self::routes::{model_invocations, routes};
pub use self::without_http::{
    check_example, example_batch, score, score_batch, score_example, score_outputs,
};
