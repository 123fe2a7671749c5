//! What clients send, and what they get.

#[cfg(unix)]
pub(crate) mod ages;
pub(crate) mod answers;
pub(crate) mod bad_input;
pub(crate) mod base_path;
pub(crate) mod clouds;
pub(crate) mod encodings;
pub(crate) mod foreign;
pub(crate) mod grpc;
pub(crate) mod http;
pub(crate) mod json;
pub(crate) mod mlflow_scoring;
pub(crate) mod oip;
pub(crate) mod openapi;
pub(crate) mod responses;
pub(crate) mod served;
pub(crate) mod try_it;
pub(crate) mod v1;
pub(crate) mod v2_binary;
pub(crate) mod v2_rest;
