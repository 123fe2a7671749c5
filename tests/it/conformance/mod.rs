//! Suites that every implementation of something must pass.

mod engines;
mod mlflow;
mod sources;
