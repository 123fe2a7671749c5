//! The signature of an MLflow package: columns, tensors and parameters as the training side declared them.
//!
//! Distinct from [`super::Signature`], which is what the graph itself takes: a schema may have one column per feature
//! where the graph has one matrix. The JSON form is MLflow's (`mlflow.types.schema`).

use std::fmt;

use crate::tensor::DType;

/// MLflow's `ModelSignature`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ModelSignature {
    /// What a request brings.
    pub inputs: Option<Schema>,
    /// What an answer holds.
    pub outputs: Option<Schema>,
    /// Parameters of a request; `None` when the signature has no params schema.
    pub params: Option<Vec<ParamSpec>>,
}

/// MLflow's `Schema`: all columns, or all tensors.
#[derive(Debug, Clone, PartialEq)]
pub enum Schema {
    /// A data frame.
    Columns(Vec<ColSpec>),
    /// Named tensors, or one unnamed tensor.
    Tensors(Vec<TensorSpec>),
}

/// One column.
#[derive(Debug, Clone, PartialEq)]
pub struct ColSpec {
    /// `None` in an unnamed schema.
    pub name: Option<String>,
    /// Whether a request must bring it.
    pub required: bool,
    /// The type of its cells.
    pub kind: ColType,
}

/// The type of a cell.
#[derive(Debug, Clone, PartialEq)]
pub enum ColType {
    /// One of MLflow's scalar types.
    Scalar(DataType),
    /// A list of one type.
    Array(Box<Self>),
    /// Named properties.
    Object(Vec<Property>),
    /// Text keys to values of one type.
    Map(Box<Self>),
    /// Anything.
    Any,
}

impl ColType {
    /// MLflow's name of the type itself, without what is inside.
    pub fn mlflow_name(&self) -> &'static str {
        match self {
            Self::Scalar(kind) => kind.mlflow_name(),
            Self::Array(_) => "array",
            Self::Object(_) => "object",
            Self::Map(_) => "map",
            Self::Any => "any",
        }
    }
}

/// As MLflow's messages print it.
impl fmt::Display for ColType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scalar(kind) => f.write_str(kind.mlflow_name()),
            Self::Array(inner) => write!(f, "Array({inner})"),
            Self::Map(inner) => match &**inner {
                Self::Scalar(kind) => write!(f, "Map(str -> DataType.{})", kind.mlflow_name()),
                inner => write!(f, "Map(str -> {inner})"),
            },
            Self::Any => f.write_str("Any"),
            Self::Object(properties) => {
                f.write_str("{")?;
                for (index, property) in properties.iter().enumerate() {
                    let separator = if index == 0 { "" } else { ", " };
                    let required = if property.required {
                        "required"
                    } else {
                        "optional"
                    };
                    write!(
                        f,
                        "{separator}{}: {} ({required})",
                        property.name, property.kind
                    )?;
                }
                f.write_str("}")
            }
        }
    }
}

/// A property of an object column.
#[derive(Debug, Clone, PartialEq)]
pub struct Property {
    /// The key.
    pub name: String,
    /// Whether it must be there.
    pub required: bool,
    /// The type of its value.
    pub kind: ColType,
}

/// MLflow's `DataType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataType {
    /// numpy `bool`.
    Boolean,
    /// numpy `int32`.
    Integer,
    /// numpy `int64`.
    Long,
    /// numpy `float32`.
    Float,
    /// numpy `float64`.
    Double,
    /// Text.
    String,
    /// Bytes, base64 in JSON data frames.
    Binary,
    /// numpy `datetime64[ns]`.
    Datetime,
}

/// One row per type: MLflow's name, the numpy name in its messages.
const DATA_TYPES: [(DataType, &str, &str); 8] = [
    (DataType::Boolean, "boolean", "bool"),
    (DataType::Integer, "integer", "int32"),
    (DataType::Long, "long", "int64"),
    (DataType::Float, "float", "float32"),
    (DataType::Double, "double", "float64"),
    (DataType::String, "string", "<class 'object'>"),
    (DataType::Binary, "binary", "<class 'object'>"),
    (DataType::Datetime, "datetime", "datetime64[ns]"),
];

impl DataType {
    /// The type with this name in MLflow's JSON.
    pub fn from_mlflow(name: &str) -> Option<Self> {
        DATA_TYPES.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    /// MLflow's name.
    pub fn mlflow_name(self) -> &'static str {
        self.row().1
    }

    /// numpy's name, as MLflow's messages print it.
    pub fn numpy_name(self) -> &'static str {
        self.row().2
    }

    fn row(self) -> &'static (Self, &'static str, &'static str) {
        DATA_TYPES
            .iter()
            .find(|row| row.0 == self)
            .expect("the table has a row for each type")
    }
}

/// One tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorSpec {
    /// `None` for a single unnamed tensor.
    pub name: Option<String>,
    /// The element type.
    pub dtype: TensorType,
    /// −1 is any size.
    pub shape: Vec<i64>,
}

/// The element type of a [`TensorSpec`]: a numpy name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TensorType {
    /// A type that an ONNX tensor can hold; numpy `str` is [`DType::String`].
    Plain(DType),
    /// numpy `object`: anything; text for an ONNX graph.
    Object,
    /// numpy `bytes`.
    Bytes,
    /// A type that no ONNX tensor has: `datetime64[ns]`, `complex64`, …
    Other(String),
}

/// One parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct ParamSpec {
    /// The key in `params`.
    pub name: String,
    /// The type of the value, or of the list's elements.
    pub kind: ParamType,
    /// Used when a request does not bring the parameter.
    pub default: serde_json::Value,
    /// Whether the value is a list (MLflow's shape `[-1]`).
    pub is_list: bool,
}

/// The type of a parameter.
#[derive(Debug, Clone, PartialEq)]
pub enum ParamType {
    /// One of MLflow's scalar types.
    Scalar(DataType),
    /// An object with properties.
    Object(Vec<Property>),
}

impl ColType {
    /// The type in words, with all that is inside.
    pub fn describe(&self) -> String {
        match self {
            Self::Scalar(scalar) => scalar.mlflow_name().to_owned(),
            Self::Array(items) => format!("array of {}", items.describe()),
            Self::Object(properties) => describe_object(properties),
            Self::Map(values) => format!("map of {}", values.describe()),
            Self::Any => "any".to_owned(),
        }
    }
}

fn describe_object(properties: &[Property]) -> String {
    let property = |property: &Property| {
        let optional = if property.required { "" } else { "?" };
        format!("{}{optional}: {}", property.name, property.kind.describe())
    };
    let properties: Vec<String> = properties.iter().map(property).collect();
    format!("{{{}}}", properties.join(", "))
}

impl TensorType {
    /// numpy's name.
    pub fn numpy_name(&self) -> &str {
        match self {
            Self::Plain(dtype) => dtype.numpy_name(),
            Self::Object => "object",
            Self::Bytes => "bytes",
            Self::Other(name) => name,
        }
    }
}

impl ParamType {
    /// The type of a value, or of a list of such values, in words.
    pub fn describe(&self, is_list: bool) -> String {
        let kind = match self {
            Self::Scalar(scalar) => scalar.mlflow_name().to_owned(),
            Self::Object(properties) => describe_object(properties),
        };
        if is_list {
            format!("list of {kind}")
        } else {
            kind
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_types_are_spelled_out() {
        let property = |name: &str, required| Property {
            name: name.to_owned(),
            required,
            kind: ColType::Scalar(DataType::Long),
        };
        let object = ColType::Object(vec![property("a", true), property("b", false)]);
        let kind = ColType::Array(Box::new(ColType::Map(Box::new(object))));
        assert_eq!(kind.describe(), "array of map of {a: long, b?: long}");
    }
}
