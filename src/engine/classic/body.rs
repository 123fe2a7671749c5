//! Graphs inside operators, such as what `Scan` runs for each row.

use super::failure::Refusal;
use super::program::{Place, Program};
use crate::model::onnx::GraphProto;
use crate::tensor::DType;

/// A graph inside an operator.
pub(super) struct Body {
    pub(super) program: Program,
    pub(super) dtypes: Vec<DType>,
    /// What it reads of the graph around it: inputs behind those of its own.
    pub(super) captured: Vec<Place>,
}

/// Compiles the graphs inside an operator.
pub(super) trait Bodies {
    /// A graph whose inputs are of these types.
    ///
    /// # Errors
    /// [`Refusal`].
    fn compile(&self, graph: &GraphProto, inputs: &[DType]) -> Result<Body, Refusal>;
}
