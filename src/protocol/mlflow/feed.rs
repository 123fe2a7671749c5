//! From enforced data to the graph's inputs, as MLflow's ONNX flavor maps them.

use super::array::{Array, filled, narrow, texts};
use super::enforce::Data;
use super::python;
use crate::model::{InputSpec, Signature};
use crate::protocol::json::Json;
use crate::tensor::{DType, Tensor};

/// The form of the answer, which follows the form of the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// One object per row.
    Records,
    /// One list per output.
    Lists,
}

/// The tensors that feed the graph, by name, and the form of the answer.
///
/// # Errors
/// What the graph could not take, in a sentence.
pub(super) fn feed(
    data: Data,
    signature: &Signature,
) -> Result<(Vec<(String, Tensor)>, Form), String> {
    match data {
        Data::Mapping(mapping) => {
            let named = mapping.into_iter().map(|(name, array)| {
                let input = signature.inputs.iter().find(|input| input.name == name);
                to_tensor(array, input).map(|tensor| (name, tensor))
            });
            Ok((named.collect::<Result<_, _>>()?, Form::Lists))
        }
        Data::Array(array) => match signature.inputs.as_slice() {
            [input] => Ok((vec![(input.name.clone(), to_tensor(array, Some(input))?)], Form::Lists)),
            inputs => {
                let names: Vec<&str> = inputs.iter().map(|input| input.name.as_str()).collect();
                Err(format!(
                    "Unable to map numpy array input to the expected model input. This model requires {} inputs. \
                     Please pass in data as either a dictionary or a DataFrame with the following tensors: {names:?}.",
                    inputs.len()
                ))
            }
        },
        Data::Frame(frame) => match signature.inputs.as_slice() {
            [input] => Ok((vec![(input.name.clone(), to_tensor(frame.values(), Some(input))?)], Form::Records)),
            inputs => {
                let named = inputs.iter().map(|input| {
                    let column = frame.column(&input.name);
                    let column = column.ok_or_else(|| format!("there is no column `{}`", input.name))?;
                    to_tensor(column.data.clone(), Some(input)).map(|tensor| (input.name.clone(), tensor))
                });
                Ok((named.collect::<Result<_, _>>()?, Form::Records))
            }
        },
        Data::Objects(_) => {
            Err("Input should be a dictionary or a numpy array or a pandas.DataFrame, got a list of objects".to_owned())
        }
    }
}

/// An array as the tensor that onnxruntime makes of it. The only cast is MLflow's, from double to single precision.
fn to_tensor(array: Array, input: Option<&InputSpec>) -> Result<Tensor, String> {
    let wanted = input.map(|input| input.dtype);
    let refused = |actual: &str| {
        let name = input.map_or("?", |input| input.name.as_str());
        let expected = wanted.map_or("another type".to_owned(), |dtype| dtype.to_string());
        format!("Unexpected input data type for `{name}`. Actual: {actual}, expected: {expected}")
    };
    match array {
        Array::Tensor(tensor) if tensor.dtype() == DType::F64 && wanted == Some(DType::F32) => {
            let values = tensor.to_vec::<f64>().unwrap_or_default();
            Ok(filled(tensor.shape().to_vec(), narrow(&values)))
        }
        Array::Tensor(tensor) => Ok(tensor),
        Array::Object(objects) if wanted == Some(DType::String) => {
            let scalars = objects.cells.iter().map(as_text).collect();
            Ok(texts(objects.shape, scalars))
        }
        Array::Object(_) => Err(refused("objects of several types")),
        Array::Opaque(..) => Err(refused(array.dtype_name())),
    }
}

/// What onnxruntime prints of a Python object; a missing cell of a CSV table is NaN.
fn as_text(cell: &Json) -> String {
    python::text(cell)
}
