//! The served version follows its registry, and no request is lost on the way.

mod admin;
mod cache;
mod files;
mod lazy;
mod mlflow;
pub(crate) mod scene;
