//! The JSON form of an MLflow signature, as `mlflow.types.schema` reads it.

use serde_json::{Map, Value};

use super::{ManifestProblem, brief};
use crate::model::{
    ColSpec, ColType, DataType, ModelSignature, ParamSpec, ParamType, Property, Schema, TensorSpec,
    TensorType,
};
use crate::tensor::DType;

/// A problem at a place inside the signature.
struct Misfit {
    key: String,
    found: String,
    expected: &'static str,
}

type Parsed<T> = Result<T, Misfit>;
type Entries = Map<String, Value>;

/// The signature, or `None` when all its parts are empty.
pub(super) fn parse(value: Value) -> Result<Option<ModelSignature>, ManifestProblem> {
    parse_parts(value).map_err(|misfit| ManifestProblem::Value {
        key: misfit.key,
        found: misfit.found,
        expected: misfit.expected,
    })
}

fn parse_parts(value: Value) -> Parsed<Option<ModelSignature>> {
    let parts = match value {
        Value::Null => return Ok(None),
        Value::Object(parts) => parts,
        other => return Err(misfit("signature", &other, "a mapping")),
    };
    let part = |name: &str| {
        let key = format!("signature.{name}");
        Ok(list(&key, parts.get(name))?.map(|entries| (key, entries)))
    };
    let inputs = part("inputs")?.map(|(key, entries)| schema(&key, &entries));
    let outputs = part("outputs")?.map(|(key, entries)| schema(&key, &entries));
    let params = part("params")?.map(|(key, entries)| params(&key, &entries));
    let signature = ModelSignature {
        inputs: inputs.transpose()?,
        outputs: outputs.transpose()?,
        params: params.transpose()?,
    };
    Ok((signature != ModelSignature::default()).then_some(signature))
}

fn misfit(key: &str, found: &Value, expected: &'static str) -> Misfit {
    Misfit {
        key: key.to_owned(),
        found: brief(found),
        expected,
    }
}

/// The list that a part holds as JSON text; hand-written manifests may hold it as YAML.
fn list(key: &str, part: Option<&Value>) -> Parsed<Option<Vec<Value>>> {
    const EXPECTED: &str = "the JSON text of a list";
    let parsed;
    let value = match part {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) if text.trim().is_empty() => return Ok(None),
        Some(Value::String(text)) => {
            parsed = json(text).map_err(|error| Misfit {
                key: key.to_owned(),
                found: format!("invalid JSON ({error})"),
                expected: EXPECTED,
            })?;
            &parsed
        }
        Some(value) => value,
    };
    match value {
        Value::Array(entries) => Ok(Some(entries.clone())),
        Value::Null => Ok(None),
        other => Err(misfit(key, other, EXPECTED)),
    }
}

/// JSON as Python writes it: defaults of parameters may be bare `NaN` or `Infinity`, which become null.
fn json(text: &str) -> Result<Value, serde_json::Error> {
    serde_json::from_str(text).or_else(|error| {
        let mut clean = String::with_capacity(text.len());
        // Quotes alternate between outside and inside of a text; an escaped quote never ends one.
        let text = text.replace("\\\\", "\u{0}").replace("\\\"", "\u{1}");
        for (index, part) in text.split('"').enumerate() {
            if index > 0 {
                clean.push('"');
            }
            if index % 2 == 1 {
                clean.push_str(part);
            } else {
                let part = part.replace("-Infinity", "null");
                clean.push_str(&part.replace("Infinity", "null").replace("NaN", "null"));
            }
        }
        let clean = clean.replace('\u{1}', "\\\"").replace('\u{0}', "\\\\");
        serde_json::from_str(&clean).map_err(|_| error)
    })
}

fn schema(key: &str, entries: &[Value]) -> Parsed<Schema> {
    const UNIFORM: &str =
        "all columns or all tensors, all named or one unnamed tensor or unnamed columns";
    let refuse = |found: &str| {
        Err(Misfit {
            key: key.to_owned(),
            found: found.to_owned(),
            expected: UNIFORM,
        })
    };
    let mut columns = Vec::new();
    let mut tensors = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let key = format!("{key}[{index}]");
        let entry = object(&key, entry)?;
        if entry.get("type").and_then(Value::as_str) == Some("tensor") {
            tensors.push(tensor(&key, entry)?);
        } else {
            columns.push(column(&key, entry)?);
        }
    }
    let named = columns.iter().map(|column| column.name.is_some());
    let named = named.chain(tensors.iter().map(|tensor| tensor.name.is_some()));
    let named = named.filter(|named| *named).count();
    if entries.is_empty() {
        return refuse("an empty list");
    }
    if named != 0 && named != entries.len() {
        return refuse("named and unnamed entries");
    }
    match (columns.is_empty(), tensors.is_empty()) {
        (false, true) => Ok(Schema::Columns(columns)),
        (true, false) if named == 0 && tensors.len() > 1 => refuse("several unnamed tensors"),
        (true, false) => Ok(Schema::Tensors(tensors)),
        _ => refuse("columns and tensors"),
    }
}

fn object<'a>(key: &str, value: &'a Value) -> Parsed<&'a Entries> {
    value
        .as_object()
        .ok_or_else(|| misfit(key, value, "a mapping"))
}

fn name(key: &str, entry: &Entries) -> Parsed<Option<String>> {
    match entry.get("name") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(name)) => Ok(Some(name.clone())),
        // Data frames without column names have numbers for names.
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        Some(other) => Err(misfit(&format!("{key}.name"), other, "text")),
    }
}

fn required(key: &str, entry: &Entries) -> Parsed<bool> {
    match (entry.get("required"), entry.get("optional")) {
        // MLflow 2.0 to 2.5 wrote `optional`.
        (None | Some(Value::Null), Some(Value::Bool(optional))) => Ok(!optional),
        (None | Some(Value::Null), _) => Ok(true),
        (Some(Value::Bool(required)), _) => Ok(*required),
        (Some(other), _) => Err(misfit(&format!("{key}.required"), other, "true or false")),
    }
}

fn column(key: &str, entry: &Entries) -> Parsed<ColSpec> {
    Ok(ColSpec {
        name: name(key, entry)?,
        required: required(key, entry)?,
        kind: col_type(key, entry)?,
    })
}

// Recursion is safe: serde_json refuses a depth of 128, the YAML budget one of 64.
fn col_type(key: &str, entry: &Entries) -> Parsed<ColType> {
    const TYPES: &str = "a column type: boolean, integer, long, float, double, string, binary, datetime, array, object, \
                         map or any";
    let inner = |field: &str| {
        let key = format!("{key}.{field}");
        let value = entry.get(field).unwrap_or(&Value::Null);
        col_type(&key, object(&key, value)?).map(Box::new)
    };
    let kind = entry.get("type").unwrap_or(&Value::Null);
    match kind.as_str() {
        Some("array") => Ok(ColType::Array(inner("items")?)),
        Some("map") => Ok(ColType::Map(inner("values")?)),
        Some("object") => Ok(ColType::Object(properties(key, entry)?)),
        Some("any") => Ok(ColType::Any),
        Some("sparkml vector") => Ok(ColType::Array(Box::new(ColType::Scalar(DataType::Double)))),
        Some(text) if let Some(scalar) = DataType::from_mlflow(text) => Ok(ColType::Scalar(scalar)),
        _ => Err(misfit(&format!("{key}.type"), kind, TYPES)),
    }
}

fn properties(key: &str, entry: &Entries) -> Parsed<Vec<Property>> {
    let key = format!("{key}.properties");
    let entries = object(&key, entry.get("properties").unwrap_or(&Value::Null))?;
    let property = |(name, value): (&String, &Value)| {
        let key = format!("{key}.{name}");
        let entry = object(&key, value)?;
        Ok(Property {
            name: name.clone(),
            required: required(&key, entry)?,
            kind: col_type(&key, entry)?,
        })
    };
    entries.iter().map(property).collect()
}

fn tensor(key: &str, entry: &Entries) -> Parsed<TensorSpec> {
    let spec_key = format!("{key}.tensor-spec");
    let spec = object(&spec_key, entry.get("tensor-spec").unwrap_or(&Value::Null))?;
    let dtype = spec.get("dtype").unwrap_or(&Value::Null);
    let Some(dtype) = dtype.as_str() else {
        let key = format!("{spec_key}.dtype");
        return Err(misfit(&key, dtype, "a numpy type such as `float32`"));
    };
    let shape = spec.get("shape").unwrap_or(&Value::Null);
    let sizes = shape.as_array().map(Vec::as_slice);
    let sizes: Option<Vec<i64>> = sizes.and_then(|sizes| {
        sizes
            .iter()
            .map(|size| Some(size.as_i64()?.max(-1)))
            .collect()
    });
    let Some(sizes) = sizes else {
        let key = format!("{spec_key}.shape");
        return Err(misfit(&key, shape, "a list of sizes, -1 for any size"));
    };
    Ok(TensorSpec {
        name: name(key, entry)?,
        dtype: tensor_type(dtype),
        shape: sizes,
    })
}

fn tensor_type(numpy: &str) -> TensorType {
    // Early versions kept numpy's width: `str160`, `<U5`.
    let bare = numpy.trim_end_matches(|character: char| character.is_ascii_digit());
    match (numpy, bare) {
        ("object", _) => TensorType::Object,
        (_, "bytes" | "|S" | "S") => TensorType::Bytes,
        (_, "str" | "<U" | "U") => TensorType::Plain(DType::String),
        ("O", _) => TensorType::Object,
        ("unicode", _) => TensorType::Plain(DType::String),
        _ => match DType::from_numpy(canonical(numpy)) {
            Some(dtype) => TensorType::Plain(dtype),
            None => TensorType::Other(numpy.to_owned()),
        },
    }
}

/// numpy's own name for a type that is written in another way that numpy reads: `<f4`, `float`, `half`.
fn canonical(numpy: &str) -> &str {
    // Byte order is a matter of memory, which a request does not share.
    match numpy.trim_start_matches(['<', '>', '=', '|']) {
        "f2" | "e" | "half" => "float16",
        "f4" | "f" | "single" => "float32",
        "f8" | "d" | "float" | "double" => "float64",
        "i1" | "b" | "byte" => "int8",
        "i2" | "h" | "short" => "int16",
        "i4" | "i" | "intc" => "int32",
        "i8" | "l" | "q" | "int" | "long" | "longlong" => "int64",
        "u1" | "B" | "ubyte" => "uint8",
        "u2" | "H" | "ushort" => "uint16",
        "u4" | "I" | "uintc" => "uint32",
        "u8" | "L" | "Q" | "uint" | "ulong" | "ulonglong" => "uint64",
        "b1" | "?" | "bool_" => "bool",
        other => other,
    }
}

fn params(key: &str, entries: &[Value]) -> Parsed<Vec<ParamSpec>> {
    let mut specs: Vec<ParamSpec> = Vec::with_capacity(entries.len());
    for (index, entry) in entries.iter().enumerate() {
        let key = format!("{key}[{index}]");
        let spec = param(&key, object(&key, entry)?)?;
        if specs.iter().any(|other| other.name == spec.name) {
            return Err(Misfit {
                key: format!("{key}.name"),
                found: format!("`{}`", spec.name.escape_debug()),
                expected: "a name that no other parameter has",
            });
        }
        specs.push(spec);
    }
    Ok(specs)
}

fn param(key: &str, entry: &Entries) -> Parsed<ParamSpec> {
    const TYPES: &str =
        "a parameter type: boolean, integer, long, float, double, string, datetime or object";
    let Some(name) = name(key, entry)? else {
        return Err(misfit(&format!("{key}.name"), &Value::Null, "text"));
    };
    // `dtype` is the key of the first versions with parameters.
    let kind = entry.get("type").or_else(|| entry.get("dtype"));
    let kind = kind.unwrap_or(&Value::Null);
    let scalar = kind.as_str().and_then(DataType::from_mlflow);
    let kind = match (scalar, kind.as_str()) {
        (Some(scalar), _) if scalar != DataType::Binary => ParamType::Scalar(scalar),
        (_, Some("object")) => ParamType::Object(properties(key, entry)?),
        _ => return Err(misfit(&format!("{key}.type"), kind, TYPES)),
    };
    let is_list = match entry.get("shape") {
        None | Some(Value::Null) => false,
        Some(Value::Array(shape)) if shape.len() == 1 && shape[0].as_i64() == Some(-1) => true,
        Some(other) => return Err(misfit(&format!("{key}.shape"), other, "null or [-1]")),
    };
    Ok(ParamSpec {
        name,
        kind,
        default: entry.get("default").cloned().unwrap_or(Value::Null),
        is_list,
    })
}
