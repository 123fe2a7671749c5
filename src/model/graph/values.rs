//! The inputs and outputs of a graph.

use std::collections::HashSet;

use crate::model::graph::GraphProblem;
use crate::model::graph::proto::{
    DimensionValue, ElementType, GraphProto, MapType, TensorShapeProto, TensorType, TypeProto,
    TypeValue, ValueInfoProto,
};
use crate::model::{Dim, InputSpec, OutputKind, OutputSpec, Signature};
use crate::tensor::DType;

/// Names of the element types that [`DType`] does not have, by their number in `onnx.TensorProto.DataType`.
const OTHER_TYPES: [(i32, &str); 15] = [
    (0, "undefined"),
    (14, "complex64"),
    (15, "complex128"),
    (17, "float8e4m3fn"),
    (18, "float8e4m3fnuz"),
    (19, "float8e5m2"),
    (20, "float8e5m2fnuz"),
    (21, "uint4"),
    (22, "int4"),
    (23, "float4e2m1"),
    (24, "float8e8m0"),
    (25, "uint2"),
    (26, "int2"),
    (27, "float6e2m3"),
    (28, "float6e3m2"),
];

const EXPECTED_INPUT: &str = "a tensor of booleans, integers, floating-point numbers or text";
const EXPECTED_OUTPUT: &str = "a tensor of booleans, integers, floating-point numbers or text, or seq(map(int64|string, float))";

/// The graph's inputs, without those that an initialiser gives, and its outputs.
pub(crate) fn signature_of(graph: &GraphProto) -> Result<Signature, GraphProblem> {
    let dense = graph.initializer.iter().map(|tensor| &tensor.name);
    let sparse = graph.sparse_initializer.iter();
    let sparse = sparse.filter_map(|tensor| tensor.values.as_ref().map(|values| &values.name));
    let initialised: HashSet<&str> = dense
        .chain(sparse)
        .filter_map(|name| name.as_deref())
        .collect();

    let inputs = graph.input.iter();
    let inputs = inputs.filter(|input| !initialised.contains(name_of(input)));
    let inputs: Vec<InputSpec> = inputs.map(input_of).collect::<Result<_, _>>()?;
    let outputs: Vec<OutputSpec> = graph
        .output
        .iter()
        .map(output_of)
        .collect::<Result<_, _>>()?;
    if inputs.is_empty() {
        return Err(GraphProblem::NoInputs);
    }
    if outputs.is_empty() {
        return Err(GraphProblem::NoOutputs);
    }
    refuse_duplicates("input", inputs.iter().map(|input| input.name.as_str()))?;
    refuse_duplicates("output", outputs.iter().map(|output| output.name.as_str()))?;
    Ok(Signature { inputs, outputs })
}

fn refuse_duplicates<'a>(
    direction: &'static str,
    names: impl Iterator<Item = &'a str>,
) -> Result<(), GraphProblem> {
    let mut seen = HashSet::new();
    for name in names {
        if name.is_empty() {
            return Err(GraphProblem::Unnamed(match direction {
                "input" => "an input",
                _ => "an output",
            }));
        }
        if !seen.insert(name) {
            return Err(GraphProblem::Duplicate {
                direction,
                name: name.to_owned(),
            });
        }
    }
    Ok(())
}

fn name_of(value: &ValueInfoProto) -> &str {
    value.name.as_deref().unwrap_or_default()
}

fn input_of(value: &ValueInfoProto) -> Result<InputSpec, GraphProblem> {
    match kind_of(value) {
        Some(OutputKind::Tensor { dtype, shape }) => Ok(InputSpec {
            name: name_of(value).to_owned(),
            dtype,
            shape,
        }),
        _ => Err(unsupported("input", value, EXPECTED_INPUT)),
    }
}

fn output_of(value: &ValueInfoProto) -> Result<OutputSpec, GraphProblem> {
    match kind_of(value) {
        Some(kind) => Ok(OutputSpec {
            name: name_of(value).to_owned(),
            kind,
        }),
        None => Err(unsupported("output", value, EXPECTED_OUTPUT)),
    }
}

fn unsupported(
    direction: &'static str,
    value: &ValueInfoProto,
    expected: &'static str,
) -> GraphProblem {
    GraphProblem::Type {
        direction,
        name: name_of(value).to_owned(),
        found: describe(value.r#type.as_ref()),
        expected,
    }
}

fn kind_of(value: &ValueInfoProto) -> Option<OutputKind> {
    match value.r#type.as_ref()?.value.as_ref()? {
        TypeValue::Tensor(tensor) => Some(OutputKind::Tensor {
            dtype: DType::from_onnx(tensor.elem_type?)?,
            shape: tensor.shape.as_ref().map(dims),
        }),
        TypeValue::Sequence(sequence) => {
            let TypeValue::Map(map) = sequence.elem_type.as_ref()?.value.as_ref()? else {
                return None;
            };
            maps(map)
        }
        _ => None,
    }
}

/// ZipMap's result, where the type is a map from labels to floats.
fn maps(map: &MapType) -> Option<OutputKind> {
    let TypeValue::Tensor(values) = map.value_type.as_ref()?.value.as_ref()? else {
        return None;
    };
    let text_labels = match DType::from_onnx(map.key_type?)? {
        DType::String => true,
        DType::I64 => false,
        _ => return None,
    };
    let is_float = DType::from_onnx(values.elem_type?) == Some(DType::F32);
    is_float.then_some(OutputKind::Maps { text_labels })
}

fn dims(shape: &TensorShapeProto) -> Vec<Dim> {
    let dim = |value: &Option<DimensionValue>| match value {
        // Some exporters write −1 for a dimension of any size.
        Some(DimensionValue::Value(size)) => {
            usize::try_from(*size).map_or(Dim::Any(None), Dim::Fixed)
        }
        Some(DimensionValue::Param(symbol)) if !symbol.is_empty() => Dim::Any(Some(symbol.clone())),
        Some(DimensionValue::Param(_)) | None => Dim::Any(None),
    };
    shape.dim.iter().map(|entry| dim(&entry.value)).collect()
}

/// A type in ONNX's notation. Depth is bounded by prost's recursion limit.
fn describe(kind: Option<&TypeProto>) -> String {
    let Some(value) = kind.and_then(|kind| kind.value.as_ref()) else {
        return "undefined".to_owned();
    };
    let tensor = |tensor: &TensorType| element_name(tensor.elem_type);
    let element = |element: &ElementType| describe(element.elem_type.as_deref());
    match value {
        TypeValue::Tensor(of) => format!("tensor({})", tensor(of)),
        TypeValue::SparseTensor(of) => format!("sparse_tensor({})", tensor(of)),
        TypeValue::Sequence(of) => format!("seq({})", element(of)),
        TypeValue::Optional(of) => format!("optional({})", element(of)),
        TypeValue::Map(map) => format!(
            "map({}, {})",
            element_name(map.key_type),
            describe(map.value_type.as_deref())
        ),
        TypeValue::Opaque(of) => format!("opaque({})", of.name.as_deref().unwrap_or_default()),
    }
}

fn element_name(code: Option<i32>) -> String {
    let code = code.unwrap_or_default();
    if let Some((_, name)) = OTHER_TYPES.iter().find(|row| row.0 == code) {
        return (*name).to_owned();
    }
    match DType::from_onnx(code) {
        Some(DType::F32) => "float".to_owned(),
        Some(DType::F64) => "double".to_owned(),
        Some(DType::String) => "string".to_owned(),
        Some(dtype) => dtype.numpy_name().to_owned(),
        None => format!("element type {code}"),
    }
}
