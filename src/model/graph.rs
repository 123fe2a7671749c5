//! Our own reader of the ONNX protobuf: what a graph is, without an engine.

use std::path::Path;

use crate::error::{ErrorKind, Kinded};
use crate::model::Signature;

/// A summary of an ONNX model.
#[derive(Debug, Clone, PartialEq)]
pub struct Graph {
    /// Operator sets: domain (empty for `ai.onnx`) and version.
    pub opsets: Vec<(String, i64)>,
    /// What it takes and gives.
    pub signature: Signature,
}

/// Why a file is no ONNX model that can be served.
#[derive(Debug, thiserror::Error)]
pub enum GraphError {}

impl Kinded for GraphError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidArgument
    }
}

impl Graph {
    /// Reads the model file at `path`.
    ///
    /// # Errors
    /// [`GraphError`].
    pub fn read(_path: &Path) -> Result<Self, GraphError> {
        unimplemented!()
    }
}
