//! Hints that something changed in a registry: the webhook, and replicas that pass it on.

pub(crate) mod endpoint;
pub(crate) mod peers;
pub mod webhook;
