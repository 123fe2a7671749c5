//! What the Open Inference Protocol v2 means, whether it travels over REST or gRPC: errors, parameters, tensors as
//! bytes, wanted outputs, classification, and what servers and models tell about themselves.
//!
//! A transport turns its own messages into these types and these types into its own messages; nothing here knows HTTP.

pub(super) mod absent;
pub(super) mod classification;
pub(super) mod config;
pub(super) mod content;
pub(super) mod error;
pub(super) mod index;
pub(super) mod metadata;
pub(super) mod outputs;
pub(super) mod parameters;
pub(super) mod raw;
pub(super) mod selector;
pub(super) mod statistics;
