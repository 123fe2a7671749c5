//! Suites that every implementation of something must pass.

mod mlflow;
