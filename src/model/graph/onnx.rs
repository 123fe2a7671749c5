//! The whole of a model file, for an engine that runs it by itself.

use std::io::Read;
use std::path::Path;

use bytes::Bytes;
use prost::Message;

use super::proto;
use super::{GraphError, GraphProblem};
use crate::model::small_file;

pub(crate) use super::domain;
pub(crate) use super::proto::{OperatorSetIdProto, WholeTensor};

pub(crate) type ModelProto = proto::ModelProto<WholeTensor>;
pub(crate) type GraphProto = proto::GraphProto<WholeTensor>;
pub(crate) type FunctionProto = proto::FunctionProto<WholeTensor>;
pub(crate) type NodeProto = proto::NodeProto<WholeTensor>;
pub(crate) type AttributeProto = proto::AttributeProto<WholeTensor>;

/// Reads the model file at `path`, weights and all. [`super::Graph::read`] has judged it before: its sizes are bounded.
///
/// # Errors
/// [`GraphError`].
pub(crate) fn read(path: &Path) -> Result<ModelProto, GraphError> {
    let read = || {
        let mut bytes = Vec::new();
        let mut file = small_file::open(path).map_err(GraphProblem::Io)?;
        file.read_to_end(&mut bytes).map_err(GraphProblem::Io)?;
        decode(bytes.into())
    };
    read().map_err(|problem| GraphError {
        file: path.to_owned(),
        problem,
    })
}

/// Reads a model from its bytes; large contents of tensors share them.
///
/// # Errors
/// [`GraphProblem::NotOnnx`].
pub(crate) fn decode(bytes: Bytes) -> Result<ModelProto, GraphProblem> {
    ModelProto::decode(bytes).map_err(|error| GraphProblem::NotOnnx(error.to_string()))
}
