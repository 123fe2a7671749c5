//! Whether a package's signature can be true of its graph. Only what no request could ever satisfy is refused: MLflow
//! serves many signatures that look odd.

use crate::model::{
    ColSpec, ColType, DataType, Dim, InputSpec, ModelSignature, Names, Schema, Signature,
    TensorSpec, TensorType,
};
use crate::tensor::DType;

/// A contradiction between a signature and a graph.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// The graph needs inputs that no request may bring.
    #[error("the graph takes {missing}, for which the signature has no {what}")]
    Missing {
        /// The inputs.
        missing: Names,
        /// `column` or `tensor`.
        what: &'static str,
    },
    /// A request must bring a tensor that the graph does not take.
    #[error("the signature has a tensor `{name}`, but the graph takes {expected}")]
    Unknown {
        /// The tensor.
        name: String,
        /// What the graph takes.
        expected: Names,
    },
    /// Nothing says which input is meant.
    #[error("the signature has one unnamed tensor, but the graph takes {0}")]
    Unnamed(Names),
    /// Values that no ONNX tensor holds go into the graph.
    #[error(
        "the graph takes column `{column}` of the signature, whose type `{kind}` no ONNX tensor holds; log the model \
         with a tensor signature, or without this column"
    )]
    Nested {
        /// The column's name or place.
        column: String,
        /// Its type.
        kind: String,
    },
    /// Element types that no cast bridges.
    #[error("input `{input}` has dtype `{found}` in the signature and `{expected}` in the graph")]
    DType {
        /// The input.
        input: String,
        /// The signature's type.
        found: String,
        /// The graph's type.
        expected: &'static str,
    },
    /// Ranks or fixed dimensions that differ.
    #[error(
        "input `{input}` has shape {found:?} in the signature and {expected:?} in the graph (-1 is any size)"
    )]
    Shape {
        /// The input.
        input: String,
        /// The signature's shape.
        found: Vec<i64>,
        /// The graph's shape.
        expected: Vec<i64>,
    },
}

/// Refuses a signature whose every valid request the graph would refuse.
pub(crate) fn check(signature: &ModelSignature, graph: &Signature) -> Result<(), Misfit> {
    match (&signature.inputs, graph.inputs.as_slice()) {
        // One input takes the whole data frame, whatever its columns are called.
        (None, _) => Ok(()),
        (Some(Schema::Columns(columns)), [input]) => {
            let mut sent = columns.iter().enumerate().filter(|(_, c)| c.required);
            sent.try_for_each(|(place, column)| holds(place, column, input))
        }
        (Some(Schema::Columns(columns)), inputs) => {
            let names: Vec<&str> = columns.iter().filter_map(|c| c.name.as_deref()).collect();
            refuse_missing(inputs, &names, "column")?;
            let taken = |(place, column): (usize, &ColSpec)| {
                let is_it = |input: &&InputSpec| Some(&input.name) == column.name.as_ref();
                let input = inputs.iter().find(is_it);
                input.map_or(Ok(()), |input| holds(place, column, input))
            };
            columns.iter().enumerate().try_for_each(taken)
        }
        (Some(Schema::Tensors(specs)), inputs) => tensors(specs, inputs),
    }
}

/// Refuses a column of dates, bytes, lists or objects for a tensor of numbers. Text is what Python prints of them.
fn holds(place: usize, column: &ColSpec, input: &InputSpec) -> Result<(), Misfit> {
    let never = match &column.kind {
        ColType::Array(_) | ColType::Object(_) | ColType::Map(_) => true,
        ColType::Scalar(kind) => matches!(kind, DataType::Binary | DataType::Datetime),
        ColType::Any => false,
    };
    if !never || input.dtype == DType::String {
        return Ok(());
    }
    let name = column
        .name
        .as_ref()
        .map(|name| name.escape_debug().to_string());
    Err(Misfit::Nested {
        column: name.unwrap_or_else(|| place.to_string()),
        kind: column.kind.to_string().escape_debug().to_string(),
    })
}

fn tensors(specs: &[TensorSpec], inputs: &[InputSpec]) -> Result<(), Misfit> {
    if let [spec] = specs
        && spec.name.is_none()
    {
        return match inputs {
            [input] => fits(spec, input),
            _ => Err(Misfit::Unnamed(names_of(inputs))),
        };
    }
    let names: Vec<&str> = specs.iter().filter_map(|s| s.name.as_deref()).collect();
    refuse_missing(inputs, &names, "tensor")?;
    for spec in specs {
        let name = spec.name.as_deref().unwrap_or_default();
        match inputs.iter().find(|input| input.name == name) {
            Some(input) => fits(spec, input)?,
            None => {
                return Err(Misfit::Unknown {
                    name: name.to_owned(),
                    expected: names_of(inputs),
                });
            }
        }
    }
    Ok(())
}

fn refuse_missing(inputs: &[InputSpec], names: &[&str], what: &'static str) -> Result<(), Misfit> {
    let missing = inputs.iter().map(|input| &input.name);
    let missing = missing.filter(|name| !names.contains(&name.as_str()));
    let missing: Vec<String> = missing.cloned().collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Misfit::Missing {
        missing: Names(missing),
        what,
    })
}

fn names_of(inputs: &[InputSpec]) -> Names {
    Names(inputs.iter().map(|input| input.name.clone()).collect())
}

fn fits(spec: &TensorSpec, input: &InputSpec) -> Result<(), Misfit> {
    let dtype_fits = match &spec.dtype {
        // The one cast that MLflow makes.
        TensorType::Plain(DType::F64) => matches!(input.dtype, DType::F64 | DType::F32),
        TensorType::Plain(dtype) => *dtype == input.dtype,
        TensorType::Object | TensorType::Bytes => input.dtype == DType::String,
        TensorType::Other(_) => false,
    };
    if !dtype_fits {
        return Err(Misfit::DType {
            input: input.name.clone(),
            found: match &spec.dtype {
                TensorType::Plain(dtype) => dtype.numpy_name().to_owned(),
                TensorType::Object => "object".to_owned(),
                TensorType::Bytes => "bytes".to_owned(),
                TensorType::Other(name) => name.escape_debug().to_string(),
            },
            expected: input.dtype.numpy_name(),
        });
    }
    match &input.shape {
        // ONNX Runtime does not check the shape of an input that is declared as a scalar.
        Some(dims) if !dims.is_empty() && !shape_fits(&spec.shape, dims) => Err(Misfit::Shape {
            input: input.name.clone(),
            found: spec.shape.clone(),
            expected: dims.iter().map(Dim::to_i64).collect(),
        }),
        _ => Ok(()),
    }
}

fn shape_fits(spec: &[i64], graph: &[Dim]) -> bool {
    let fits = |(size, dim): (&i64, &Dim)| {
        *size < 0 || matches!(dim.to_i64(), -1) || *size == dim.to_i64()
    };
    spec.len() == graph.len() && spec.iter().zip(graph).all(fits)
}
