//! JSON Schemas of what a model takes and gives, from MLflow's schema where the package has one, else from the graph.

use serde_json::{Map, Value, json};

use super::reference::reference;
use crate::model::{
    ColSpec, ColType, DataType, Dim, InputSpec, ModelSignature, OutputKind, OutputSpec, ParamSpec,
    ParamType, Property, ResponseOutput, Schema, Signature, TensorSpec, TensorType,
};
use crate::tensor::DType;

/// A body of `/invocations`.
pub(crate) fn scoring_request(declared: Option<&ModelSignature>, graph: &Signature) -> Value {
    let mut fields = Fields::default();
    match declared.and_then(|declared| declared.inputs.as_ref()) {
        Some(Schema::Columns(columns)) => fields.of_columns(columns),
        Some(Schema::Tensors(tensors)) => fields.of_tensors(tensors),
        None => fields.of_graph(graph),
    }
    let params = declared.and_then(|declared| declared.params.as_deref());
    let alternatives = [
        "inputs",
        "instances",
        "dataframe_split",
        "dataframe_records",
    ];
    json!({
        "type": "object",
        "properties": {
            "inputs": fields.inputs,
            "instances": fields.instances,
            "dataframe_split": fields.split,
            "dataframe_records": fields.records,
            "params": params.map_or_else(ignored, parameters),
        },
        "oneOf": alternatives.map(|key| json!({ "required": [key] })),
    })
}

/// What may stand under each of the input fields.
struct Fields {
    inputs: Value,
    instances: Value,
    split: Value,
    records: Value,
}

impl Default for Fields {
    fn default() -> Self {
        Self {
            inputs: json!({}),
            instances: json!({}),
            split: json!({ "type": "object" }),
            records: json!({ "type": "array", "items": { "type": "object" } }),
        }
    }
}

impl Fields {
    fn of_columns(&mut self, columns: &[ColSpec]) {
        let cells: Vec<Value> = columns.iter().map(|column| cell(&column.kind)).collect();
        self.split = json!({
            "type": "object",
            "required": ["data"],
            "properties": {
                "columns": { "type": "array" },
                "index": { "type": "array" },
                "data": { "type": "array", "items": { "type": "array", "prefixItems": cells } },
            },
        });
        let named = columns
            .iter()
            .filter_map(|column| Some((column.name.as_deref()?, column)));
        let properties: Map<String, Value> = named
            .clone()
            .map(|(name, column)| {
                (
                    name.to_owned(),
                    optional(column.required, cell(&column.kind)),
                )
            })
            .collect();
        if properties.is_empty() {
            return;
        }
        let required: Vec<&str> = named
            .filter(|(_, column)| column.required)
            .map(|(name, _)| name)
            .collect();
        self.split["properties"]["columns"] = json!({
            "type": "array",
            "items": { "type": "string" },
            "examples": [properties.keys().collect::<Vec<_>>()],
        });
        let record = json!({ "type": "object", "properties": properties, "required": required });
        self.records = json!({ "type": "array", "items": record });
    }

    fn of_tensors(&mut self, tensors: &[TensorSpec]) {
        let element = |spec: &TensorSpec| match &spec.dtype {
            TensorType::Plain(dtype) => element_or_gap(*dtype),
            TensorType::Object | TensorType::Bytes => element(DType::String),
            TensorType::Other(_) => json!({}),
        };
        let named = tensors.iter().map(|spec| NamedTensor {
            name: spec.name.clone(),
            whole: nested(&element(spec), &spec.shape),
            required: true,
        });
        self.of_named(named.collect());
    }

    fn of_graph(&mut self, graph: &Signature) {
        let named = graph.inputs.iter().map(|input| {
            let whole = input.shape.as_deref().map_or(json!({}), |shape| {
                nested(&element_or_gap(input.dtype), &sizes(shape))
            });
            NamedTensor {
                name: Some(input.name.clone()),
                whole,
                required: !input.is_optional(),
            }
        });
        self.of_named(named.collect());
    }

    /// The only tensor that is required may stand for itself, and any number under their names.
    fn of_named(&mut self, tensors: Vec<NamedTensor>) {
        let mut required = tensors.iter().filter(|tensor| tensor.required);
        let sole = required.next().filter(|_| required.next().is_none());
        let sole = sole.map(|tensor| tensor.whole.clone());
        let names = tensors.iter().filter(|tensor| tensor.required);
        let names: Vec<String> = names.filter_map(|tensor| tensor.name.clone()).collect();
        let named = tensors.into_iter();
        let named: Map<String, Value> = named
            .filter_map(|tensor| Some((tensor.name?, tensor.whole)))
            .collect();
        let mut forms: Vec<Value> = sole.into_iter().collect();
        if !named.is_empty() {
            forms.push(json!({ "type": "object", "required": names, "properties": named }));
        }
        if !forms.is_empty() {
            self.inputs = json!({ "anyOf": forms });
        }
        self.instances = json!({ "type": "array" });
    }
}

/// A tensor of a request.
struct NamedTensor {
    name: Option<String>,
    /// The schema of all of it.
    whole: Value,
    required: bool,
}

fn optional(required: bool, schema: Value) -> Value {
    if required {
        return schema;
    }
    json!({ "anyOf": [schema, { "type": "null" }] })
}

fn cell(kind: &ColType) -> Value {
    match kind {
        ColType::Scalar(scalar) => scalar_of(*scalar),
        ColType::Array(items) => json!({ "type": "array", "items": cell(items) }),
        ColType::Object(properties) => object(properties),
        ColType::Map(values) => json!({ "type": "object", "additionalProperties": cell(values) }),
        ColType::Any => json!({}),
    }
}

fn object(properties: &[Property]) -> Value {
    let required = properties.iter().filter(|property| property.required);
    let required: Vec<&str> = required.map(|property| property.name.as_str()).collect();
    let properties: Map<String, Value> = properties
        .iter()
        .map(|property| {
            let schema = optional(property.required, cell(&property.kind));
            (property.name.clone(), schema)
        })
        .collect();
    json!({ "type": "object", "properties": properties, "required": required })
}

fn scalar_of(kind: DataType) -> Value {
    match kind {
        DataType::Boolean => element(DType::Bool),
        DataType::Integer => element(DType::I32),
        DataType::Long => element(DType::I64),
        DataType::Float => element(DType::F32),
        DataType::Double => element(DType::F64),
        DataType::String => element(DType::String),
        DataType::Binary => json!({ "type": "string", "contentEncoding": "base64" }),
        DataType::Datetime => json!({ "type": "string", "examples": ["2026-01-31T12:00:00"] }),
    }
}

/// Of a model that declares none.
fn ignored() -> Value {
    json!({ "description": "this model has none: they are ignored" })
}

fn parameters(specs: &[ParamSpec]) -> Value {
    let properties: Map<String, Value> = specs
        .iter()
        .map(|spec| {
            let one = match &spec.kind {
                ParamType::Scalar(scalar) => scalar_of(*scalar),
                ParamType::Object(properties) => object(properties),
            };
            let mut schema = if spec.is_list {
                json!({ "type": "array", "items": one })
            } else {
                one
            };
            schema["default"] = spec.default.clone();
            (spec.name.clone(), schema)
        })
        .collect();
    json!({ "type": ["object", "null"], "properties": properties })
}

/// An answer of `/invocations`.
pub(crate) fn scoring_answer(response: ResponseOutput, graph: &Signature) -> Value {
    let predictions = match response {
        ResponseOutput::All => {
            let outputs = graph.outputs.iter();
            let outputs: Map<String, Value> = outputs
                .map(|output| (output.name.clone(), output_schema(output)))
                .collect();
            let names: Vec<&String> = outputs.keys().collect();
            let whole = json!({ "type": "object", "required": names, "properties": outputs });
            // A data frame gets an object for each row.
            json!({ "anyOf": [whole, { "type": "array", "items": { "type": "object" } }] })
        }
        ResponseOutput::Predictions(_) | ResponseOutput::Probabilities(_) => json!({}),
    };
    let own = json!({
        "type": "object",
        "required": ["predictions"],
        "properties": { "predictions": predictions },
    });
    json!({ "anyOf": [own, reference("InferAnswer")] })
}

/// Declared shapes of outputs are hints: they are told, and not required.
fn output_schema(output: &OutputSpec) -> Value {
    let mut output_schema = json!({ "description": output.kind.type_name() });
    if let OutputKind::Tensor { dtype, shape } = &output.kind
        && let Some(example) = shape.as_deref().and_then(|shape| one_row(*dtype, shape))
    {
        output_schema["examples"] = json!([example]);
    }
    output_schema
}

/// Lists in lists of zeros, 1 for any size; `None` for more than a reader looks at.
fn one_row(dtype: DType, shape: &[Dim]) -> Option<Value> {
    const MOST: usize = 64;
    let sizes = shape.iter().map(|dim| match dim {
        Dim::Fixed(fixed) => *fixed,
        Dim::Any(_) => 1,
    });
    let sizes: Vec<usize> = sizes.collect();
    let count = sizes
        .iter()
        .try_fold(1_usize, |count, size| count.checked_mul(*size));
    count.filter(|count| *count <= MOST)?;
    let element = match dtype {
        DType::Bool => json!(false),
        DType::String => json!("text"),
        DType::F16 | DType::Bf16 | DType::F32 | DType::F64 => json!(0.0),
        _ => json!(0),
    };
    let wrap = |inner: Value, size: &usize| Value::Array(vec![inner; *size]);
    Some(sizes.iter().rev().fold(element, wrap))
}

/// A body of `…/infer`.
pub(crate) fn infer_request(graph: &Signature) -> Value {
    let inputs: Vec<Value> = graph.inputs.iter().map(input).collect();
    let outputs: Vec<&str> = output_names(graph);
    json!({
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": { "type": ["string", "null"] },
            "inputs": {
                "type": "array",
                "items": { "anyOf": inputs },
                "minItems": graph.required().count(),
                "maxItems": inputs.len(),
            },
            // As clients write a member that is absent.
            "outputs": {
                "type": ["array", "null"],
                "items": {
                    "type": "object",
                    "required": ["name"],
                    "properties": { "name": { "enum": outputs } },
                },
            },
        },
    })
}

fn input(input: &InputSpec) -> Value {
    json!({
        "type": "object",
        "required": ["name", "datatype", "shape", "data"],
        "properties": {
            "name": { "const": input.name },
            "datatype": { "const": input.dtype.oip_name() },
            "shape": shape(input.shape.as_deref()),
            // Flat or nested.
            "data": { "type": "array", "items": { "anyOf": [element(input.dtype), { "type": "array" }] } },
        },
    })
}

fn shape(dims: Option<&[Dim]>) -> Value {
    let size = json!({ "type": "integer", "minimum": 0 });
    let Some(dims) = dims else {
        return json!({ "type": "array", "items": size });
    };
    let each = dims.iter().map(|dim| match dim {
        Dim::Fixed(fixed) => json!({ "const": fixed }),
        Dim::Any(_) => size.clone(),
    });
    let each: Vec<Value> = each.collect();
    json!({ "type": "array", "prefixItems": each, "minItems": dims.len(), "maxItems": dims.len() })
}

/// An answer of `…/infer`.
pub(crate) fn infer_answer(graph: &Signature) -> Value {
    let text = json!({ "type": "string" });
    let output = json!({
        "type": "object",
        "required": ["name", "datatype", "shape"],
        "properties": {
            "name": { "enum": output_names(graph) },
            // A classification is BYTES, whatever the output is.
            "datatype": text,
            "shape": { "type": "array", "items": { "type": "integer", "minimum": 0 } },
            "data": { "type": "array" },
        },
    });
    json!({
        "type": "object",
        "required": ["model_name", "model_version", "outputs"],
        "properties": {
            "model_name": text,
            "model_version": text,
            "id": text,
            "outputs": { "type": "array", "items": output },
        },
    })
}

fn output_names(graph: &Signature) -> Vec<&str> {
    let outputs = graph.outputs.iter();
    outputs.map(|output| output.name.as_str()).collect()
}

fn sizes(shape: &[Dim]) -> Vec<i64> {
    shape.iter().map(Dim::to_i64).collect()
}

/// Lists in lists; −1 is any size.
fn nested(element: &Value, sizes: &[i64]) -> Value {
    let wrap = |items: Value, size: &i64| {
        if *size < 0 {
            json!({ "type": "array", "items": items })
        } else {
            json!({ "type": "array", "items": items, "minItems": size, "maxItems": size })
        }
    };
    sizes.iter().rev().fold(element.clone(), wrap)
}

/// An element of a tensor in a scoring request: among numbers numpy makes 0 and 1 of truths, and MLflow NaN of gaps.
fn element_or_gap(dtype: DType) -> Value {
    match dtype {
        DType::F16 | DType::Bf16 | DType::F32 | DType::F64 => {
            json!({ "type": ["number", "boolean", "null"] })
        }
        other => element(other),
    }
}

fn element(dtype: DType) -> Value {
    let integer =
        |least: i64, most: u64| json!({ "type": "integer", "minimum": least, "maximum": most });
    match dtype {
        DType::Bool => json!({ "type": "boolean" }),
        DType::U8 => integer(0, u8::MAX.into()),
        DType::U16 => integer(0, u16::MAX.into()),
        DType::U32 => integer(0, u32::MAX.into()),
        DType::U64 => integer(0, u64::MAX),
        DType::I8 => integer(i8::MIN.into(), i8::MAX as u64),
        DType::I16 => integer(i16::MIN.into(), i16::MAX as u64),
        DType::I32 => integer(i32::MIN.into(), i32::MAX as u64),
        DType::I64 => integer(i64::MIN, i64::MAX as u64),
        DType::F16 | DType::Bf16 | DType::F32 | DType::F64 => json!({ "type": "number" }),
        DType::String => json!({ "type": "string" }),
    }
}
