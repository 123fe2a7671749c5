//! Our tensors to tract's and back.

use std::sync::Arc;

use half::f16;
use tract_onnx::prelude::tract_ndarray::ArrayD;
use tract_onnx::prelude::*;

use crate::model::{OutputKind, OutputSpec, Signature};
use crate::tensor::{Buffer, DType, Element, Storage, Tensor, dispatch};

/// tract's name of an element type; it has no bfloat16.
pub(super) fn datum_type(dtype: DType) -> Option<DatumType> {
    Some(match dtype {
        DType::Bool => DatumType::Bool,
        DType::U8 => DatumType::U8,
        DType::U16 => DatumType::U16,
        DType::U32 => DatumType::U32,
        DType::U64 => DatumType::U64,
        DType::I8 => DatumType::I8,
        DType::I16 => DatumType::I16,
        DType::I32 => DatumType::I32,
        DType::I64 => DatumType::I64,
        DType::F16 => DatumType::F16,
        DType::F32 => DatumType::F32,
        DType::F64 => DatumType::F64,
        DType::String => DatumType::String,
        DType::Bf16 => return None,
    })
}

/// Refuses a batch that was bound to another model's signature.
pub(super) fn check_inputs(signature: &Signature, inputs: &[Tensor]) -> TractResult<()> {
    let fits = inputs.len() == signature.inputs.len()
        && inputs
            .iter()
            .zip(&signature.inputs)
            .all(|(tensor, spec)| tensor.dtype() == spec.dtype);
    if fits {
        return Ok(());
    }
    Err(TractError::msg("the batch was made for another model"))
}

/// A copy for tract, which owns and aligns its inputs.
pub(super) fn to_tract(tensor: &Tensor) -> TractResult<TValue> {
    let converted = dispatch!(
        tensor.dtype(),
        integer T => copy::<T>(tensor)?,
        DType::Bool => {
            let values = tensor.bytes().iter().map(|&byte| byte != 0).collect();
            ArrayD::<bool>::from_shape_vec(tensor.shape(), values)?.into_tensor()
        },
        DType::String => {
            let values = tensor.as_strings().unwrap_or_default().to_vec();
            ArrayD::<String>::from_shape_vec(tensor.shape(), values)?.into_tensor()
        },
        DType::Bf16 => return Err(TractError::msg("tract has no bfloat16")),
        DType::F16 => copy::<f16>(tensor)?,
        DType::F32 => copy::<f32>(tensor)?,
        DType::F64 => copy::<f64>(tensor)?,
    );
    Ok(converted.into_tvalue())
}

fn copy<T: Element + Datum + Copy>(tensor: &Tensor) -> TractResult<tract_onnx::prelude::Tensor> {
    if let Some(values) = tensor.as_slice::<T>() {
        return tract_onnx::prelude::Tensor::from_shape(tensor.shape(), values);
    }
    let values = tensor
        .to_vec::<T>()
        .ok_or_else(|| TractError::msg("the tensor has another datatype"))?;
    tract_onnx::prelude::Tensor::from_shape(tensor.shape(), &values)
}

/// An output of tract that stays where it is.
struct Owned(Arc<tract_onnx::prelude::Tensor>);

impl Buffer for Owned {
    fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// An output as the graph declares it: tract gives shape arithmetic its own integer type, and some statistics of
/// half floats as whole ones.
pub(super) fn from_tract(output: TValue, spec: &OutputSpec) -> TractResult<Tensor> {
    let OutputKind::Tensor { dtype, .. } = spec.kind else {
        return Err(TractError::msg("tract has no sequences"));
    };
    let wanted = datum_type(dtype).ok_or_else(|| TractError::msg("tract has no bfloat16"))?;
    let output = output.into_arc_tensor();
    let found = output.datum_type().unquantized();
    let output = if found == wanted {
        output
    } else if found == DatumType::TDim || (found.is_float() && wanted.is_float()) {
        output.cast_to_dt(wanted)?.into_owned().into_arc_tensor()
    } else {
        let name = &spec.name;
        let message = format!("tract gives output `{name}` as {found:?}, expected {wanted:?}");
        return Err(TractError::msg(message));
    };
    let shape = output.shape().to_vec();
    if dtype == DType::String {
        let values = output.to_plain_array_view::<String>()?;
        return Ok(Tensor::from_strings(
            shape,
            values.iter().cloned().collect(),
        )?);
    }
    if !output.is_plain_ram() {
        return Err(TractError::msg("the output is not in plain memory"));
    }
    let storage = Storage::Owned(Arc::new(Owned(output)));
    Ok(Tensor::from_storage(dtype, shape, storage)?)
}
