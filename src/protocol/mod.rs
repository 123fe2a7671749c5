//! Wire protocols: codecs between bytes and tensors, and the one route table that routing and error answers read.
//!
//! A protocol is one file (or folder) with a `routes()` function and one row in the table of `router.rs`.

mod access;
mod admin;
mod client_id;
pub(crate) mod dispatch;
mod feedback;
mod gate;
mod health;
mod json;
mod meter;
mod mlflow;
mod oip;
mod openapi;
pub(crate) mod pandas;
pub(crate) mod platforms;
mod route;
mod router;
mod sample;
mod size;
mod state;
mod v1;

pub use crate::protocol::oip::grpc::{Grpc, HEALTH_NAMES, inference};
pub use admin::admin_router;
pub use json::NonFinite;
pub use mlflow::{check_example, example_batch, score, score_batch, score_example, score_outputs};
pub use router::{AccessRow, access_table, entry, router};
pub use sample::{SampleProtocol, SampleRequest, sample_request};
pub use state::{ProtocolOptions, Shared};
