//! Wire protocols: codecs between bytes and tensors, and the one route table.

mod json;

pub use json::NonFinite;
