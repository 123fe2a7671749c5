//! What MLflow makes of data by a model's schema: casts, checks, tensors.

pub(crate) mod astype;
pub(crate) mod cast;
pub(crate) mod data;
pub(crate) mod enforce;
pub(crate) mod nested;
pub(crate) mod tensors;
