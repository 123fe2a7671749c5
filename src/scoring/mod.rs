//! Scoring without a server: `predict`, `verify`, `diff`, baselines and what a model costs.

pub mod baseline;
pub mod difference;
pub mod measure;
pub mod offline;
pub mod replay;
mod shift;
pub mod table;
