//! The inputs and outputs of a graph.

use std::collections::{HashMap, HashSet};

use crate::model::graph::GraphProblem;
use crate::model::graph::proto::{
    DimensionValue, ElementType, GraphProto, MapType, TensorProto, TensorShapeProto, TensorType,
    TypeProto, TypeValue, ValueInfoProto,
};
use crate::model::{Dim, Initializer, InputSpec, OutputKind, OutputSpec, Signature};
use crate::tensor::DType;

/// The first version of ONNX's format in which an initializer is the default of an input of its name. Before, each
/// initializer had to be listed as an input.
const FIRST_WITH_DEFAULTS: i64 = 4;

/// A graph that lists more of its initializers as inputs was written by an exporter that lists them all: they are weights.
const MOST_DEFAULTS: usize = 64;

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
const EXPECTED_OUTPUT: &str = "a tensor of booleans, integers, floating-point numbers or text, a sequence of those, or seq(map(int64|string, float))";

/// The graph's inputs, without those that are weights, and its outputs, each once.
pub(crate) fn signature_of(graph: &GraphProto, ir_version: i64) -> Result<Signature, GraphProblem> {
    let inputs = inputs_of(graph, ir_version)?;
    let mut seen = HashSet::new();
    let outputs = graph.output.iter();
    // A graph may name a value twice; there is one answer to it.
    let outputs =
        outputs.filter(|output| name_of(output).is_empty() || seen.insert(name_of(output)));
    let outputs: Vec<OutputSpec> = outputs.map(output_of).collect::<Result<_, _>>()?;
    if inputs.is_empty() {
        return Err(GraphProblem::NoInputs);
    }
    if outputs.is_empty() {
        return Err(GraphProblem::NoOutputs);
    }
    if outputs.iter().any(|output| output.name.is_empty()) {
        return Err(GraphProblem::Unnamed("an output"));
    }
    Ok(Signature {
        inputs,
        outputs,
        ..Signature::default()
    })
}

fn inputs_of(graph: &GraphProto, ir_version: i64) -> Result<Vec<InputSpec>, GraphProblem> {
    let initializers = initializers(graph);
    let listed = graph.input.iter();
    let listed = listed.filter(|input| initializers.contains_key(name_of(input)));
    let has_defaults = ir_version >= FIRST_WITH_DEFAULTS && listed.count() <= MOST_DEFAULTS;
    let mut inputs = Vec::with_capacity(graph.input.len());
    let mut seen = HashSet::new();
    for input in &graph.input {
        let spec = match initializers.get(name_of(input)) {
            None => Some(input_of(input)?),
            Some(Some(tensor)) if has_defaults => optional_input_of(input, tensor),
            Some(_) => None,
        };
        let Some(spec) = spec else {
            continue;
        };
        if spec.name.is_empty() {
            return Err(GraphProblem::Unnamed("an input"));
        }
        if !seen.insert(name_of(input)) {
            return Err(GraphProblem::DuplicateInput(spec.name));
        }
        inputs.push(spec);
    }
    Ok(inputs)
}

/// By name; `None` is a sparse one, which no request could replace.
fn initializers(graph: &GraphProto) -> HashMap<&str, Option<&TensorProto>> {
    let dense = graph.initializer.iter();
    let dense = dense.map(|tensor| (tensor.name.as_deref(), Some(tensor)));
    let sparse = graph.sparse_initializer.iter();
    let sparse = sparse.filter_map(|tensor| Some((tensor.values.as_ref()?.name.as_deref(), None)));
    let named = dense.chain(sparse);
    named
        .filter_map(|(name, tensor)| Some((name?, tensor)))
        .collect()
}

/// An input with this initializer; `None` when that is a large tensor, as weights are, or not what the input declares.
fn optional_input_of(input: &ValueInfoProto, initializer: &TensorProto) -> Option<InputSpec> {
    let mut spec = input_of(input).ok()?;
    let default = initializer.tensor()?;
    spec.check(&default).ok()?;
    spec.default = Some(Initializer(default));
    Some(spec)
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
            default: None,
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
    kind_of_type(value.r#type.as_ref()?)
}

/// An optional is what it may hold: engines take and give the tensor itself. Depth is bounded by prost's recursion limit.
fn kind_of_type(declared: &TypeProto) -> Option<OutputKind> {
    match declared.value.as_ref()? {
        TypeValue::Tensor(tensor) => Some(OutputKind::Tensor {
            dtype: DType::from_onnx(tensor.elem_type?)?,
            shape: tensor.shape.as_ref().map(dims),
        }),
        TypeValue::Optional(optional) => kind_of_type(optional.elem_type.as_ref()?),
        TypeValue::Sequence(sequence) => match sequence.elem_type.as_ref()?.value.as_ref()? {
            TypeValue::Map(map) => maps(map),
            TypeValue::Tensor(tensor) => Some(OutputKind::Sequence {
                dtype: DType::from_onnx(tensor.elem_type?)?,
                shape: tensor.shape.as_ref().map(dims),
            }),
            _ => None,
        },
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
