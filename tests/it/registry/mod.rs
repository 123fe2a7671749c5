//! Registries: found, followed, pulled from, written to.

pub(crate) mod mlflow_faults;
pub(crate) mod mlflow_registry;
pub(crate) mod object_registry;
pub(crate) mod package;
pub(crate) mod pull;
pub(crate) mod triton;
