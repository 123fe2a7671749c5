//! The served version follows its registry, and no request is lost on the way.

mod cache;
mod files;
mod mlflow;
mod scene;
