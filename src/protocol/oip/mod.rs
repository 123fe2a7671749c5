//! What the Open Inference Protocol v2 means, whether it travels over REST or gRPC: errors, parameters, tensors as
//! bytes, wanted outputs, classification, and what servers and models tell about themselves.
//!
//! A transport turns its own messages into these types and these types into its own messages; nothing here knows HTTP.

pub(crate) mod absent;
pub(crate) mod classification;
pub(crate) mod config;
pub(crate) mod content;
pub(crate) mod error;
pub(crate) mod grpc;
pub(crate) mod index;
pub(crate) mod metadata;
pub(crate) mod outputs;
pub(crate) mod parameters;
pub(crate) mod raw;
pub(crate) mod rest;
pub(crate) mod selector;
pub(crate) mod statistics;
