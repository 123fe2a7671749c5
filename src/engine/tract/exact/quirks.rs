//! What tract would answer wrongly for some values and we cannot mend: seen in the graph that it made of the file.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::array::DynSlice;

/// Why a graph is not for tract.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub(in crate::engine::tract) struct Quirk(&'static str);

/// # Errors
/// [`Quirk`].
pub(in crate::engine::tract) fn check(model: &TypedModel) -> TractResult<()> {
    let has_moving_slices = model.nodes().iter().any(|node| node.op_is::<DynSlice>());
    if has_moving_slices {
        return Err(Quirk(
            "it takes the ends of the operator `Slice` that are in the data for those of another request, and knows none \
             that is counted from the end",
        )
        .into());
    }
    Ok(())
}
