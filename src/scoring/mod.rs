//! Scoring without a server: `predict`, `verify`, `diff` and what a model costs.

pub mod difference;
pub mod measure;
pub mod offline;
pub mod replay;
mod shift;
