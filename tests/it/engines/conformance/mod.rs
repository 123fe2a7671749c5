//! Suites that every implementation of something must pass.

pub(crate) mod engines;
mod mlflow;
mod sources;
