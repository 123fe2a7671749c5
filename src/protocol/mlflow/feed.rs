//! From enforced data to the graph's inputs, as MLflow's ONNX flavor maps them.

use std::collections::HashMap;

use crate::budget::OverBudget;
use crate::model::{InputSpec, Signature};
use crate::protocol::meter::{Meter, tensor_heap};
use crate::protocol::mlflow::schema::data::Data;
use crate::protocol::pandas::array::{Array, convert_each, filled, narrow};
use crate::protocol::pandas::frame::{Frame, Names, cells_of};
use crate::protocol::pandas::python::PyError;
use crate::tensor::{DType, Tensor};

/// Why data is no input of a graph.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FeedError {
    /// What the graph could not take, in a sentence.
    #[error("{0}")]
    Unfit(String),
    /// It takes more memory than there is for the request.
    #[error(transparent)]
    OverBudget(#[from] OverBudget),
}

/// The form of the answer, which follows the form of the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// One object per row.
    Records,
    /// One list per output.
    Lists,
}

/// The tensors that feed the graph, by name, and the form of the answer.
///
/// # Errors
/// [`FeedError`].
pub(crate) fn feed(
    data: Data,
    signature: &Signature,
    meter: &Meter,
) -> Result<(Vec<(String, Tensor)>, Form), FeedError> {
    match data {
        Data::Mapping(mapping) => {
            let inputs = signature.inputs.iter().map(|input| (input.name.as_str(), input));
            let inputs: HashMap<&str, &InputSpec> = inputs.collect();
            let mut named = meter.vec(mapping.len())?;
            for (name, array) in mapping {
                let tensor = to_tensor(array, inputs.get(name.as_str()).copied(), meter)?;
                named.push((name, tensor));
            }
            Ok((named, Form::Lists))
        }
        Data::Array(array) => match signature.sole_input() {
            Some(input) => Ok((
                vec![(input.name.clone(), to_tensor(array, Some(input), meter)?)],
                Form::Lists,
            )),
            None => Err(FeedError::Unfit(format!(
                "Unable to map numpy array input to the expected model input. This model requires {} inputs. Please \
                 pass in data as either a dictionary or a DataFrame with the following tensors: {}.",
                signature.required().count(),
                names_of(signature)
            ))),
        },
        Data::Frame(frame) => match signature.sole_input() {
            Some(input) => {
                let matrix = frame.values(Some(input.dtype), meter)?;
                let tensor = to_tensor(matrix, Some(input), meter)?;
                Ok((vec![(input.name.clone(), tensor)], Form::Records))
            }
            None => Ok((columns(frame, signature, meter)?, Form::Records)),
        },
        Data::Objects(_) => Err(FeedError::Unfit(
            "Input should be a dictionary or a numpy array or a pandas.DataFrame, got a list of objects".to_owned(),
        )),
    }
}

/// The names of inputs as a list, and no more than a message has room for.
fn names_of(signature: &Signature) -> String {
    let names: Vec<&str> = signature
        .required()
        .map(|input| input.name.as_str())
        .collect();
    match names.get(..20) {
        Some(first) if names.len() > 20 => format!("{first:?} and {} more", names.len() - 20),
        _ => format!("{names:?}"),
    }
}

/// The column of each input that a request must bring: MLflow looks for no others.
fn columns(
    frame: Frame,
    signature: &Signature,
    meter: &Meter,
) -> Result<Vec<(String, Tensor)>, FeedError> {
    let names = Names::new(&frame.columns, meter)?;
    let mut named = meter.vec(signature.inputs.len())?;
    for input in signature.required() {
        let missing = || FeedError::Unfit(format!("there is no column `{}`", input.name));
        let found = names.find(&input.name).ok_or_else(missing)?;
        let data = &frame.columns[found.index].data;
        // Tensors are shared.
        if matches!(data, Array::Object(_)) {
            meter.charge(data.heap())?;
        }
        named.push((
            input.name.clone(),
            to_tensor(data.clone(), Some(input), meter)?,
        ));
    }
    Ok(named)
}

/// An array as the tensor that onnxruntime makes of it. The only cast is MLflow's, from double to single precision.
fn to_tensor(array: Array, input: Option<&InputSpec>, meter: &Meter) -> Result<Tensor, FeedError> {
    let wanted = input.map(|input| input.dtype);
    let refused = |actual: &str| {
        let name = input.map_or("?", |input| input.name.as_str());
        let expected = wanted.map_or("another type".to_owned(), |dtype| dtype.to_string());
        let message = format!(
            "Unexpected input data type for `{name}`. Actual: {actual}, expected: {expected}"
        );
        FeedError::Unfit(message)
    };
    match array {
        Array::Tensor(tensor) if tensor.dtype() == DType::F64 && wanted == Some(DType::F32) => {
            // What was read here lies aligned.
            let singles = narrow(tensor.as_slice().unwrap_or_default(), meter)?;
            meter.release(tensor_heap(&tensor));
            Ok(filled(tensor.shape().to_vec(), singles))
        }
        Array::Tensor(tensor) => Ok(tensor),
        // What onnxruntime prints of a Python object; a missing cell of a CSV table is NaN.
        Array::Object(_) if wanted == Some(DType::String) => {
            let shape = array.shape().to_vec();
            match convert_each(shape, cells_of(&array), DType::String, meter) {
                Ok(texts) => Ok(texts),
                Err(PyError::OverBudget(over)) => Err(over.into()),
                Err(error) => Err(FeedError::Unfit(error.to_string())),
            }
        }
        Array::Object(_) => Err(refused("objects of several types")),
        Array::Opaque(..) => Err(refused(array.dtype_name())),
    }
}
