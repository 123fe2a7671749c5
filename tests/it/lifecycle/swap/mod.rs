//! The served version follows its registry, and no request is lost on the way.

mod admin;
mod cache;
mod files;
mod health;
mod lazy;
mod mlflow;
#[cfg(target_os = "linux")]
mod priority;
pub(crate) mod scene;
mod walk_through;
