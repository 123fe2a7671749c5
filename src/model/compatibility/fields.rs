//! Columns, tensors, params and the values of a graph in one form.

use crate::model::{
    ColSpec, ColType, Dim, InputSpec, OutputKind, OutputSpec, ParamSpec, ParamType, Schema,
    TensorSpec, TensorType,
};
use crate::tensor::DType;

/// The fields of one part of a contract.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    pub(super) form: Form,
    pub(super) list: Vec<Field<'a>>,
}

/// What clients have to know before they can name a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Columns { named: bool },
    Tensors { named: bool },
    Graph,
    Params,
}

#[derive(Debug)]
pub(super) struct Field<'a> {
    pub(super) name: Option<&'a str>,
    pub(super) kind: Type<'a>,
    /// −1 is any size; `None` when even the rank is open, or when there is no shape to speak of.
    pub(super) shape: Option<Vec<i64>>,
    pub(super) required: bool,
    pub(super) default: Option<&'a serde_json::Value>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Type<'a> {
    Cell(&'a ColType),
    Tensor(&'a TensorType),
    Element(DType),
    /// What is no tensor.
    Sequence(&'a OutputKind),
    Param {
        kind: &'a ParamType,
        is_list: bool,
    },
}

impl<'a> Fields<'a> {
    pub(super) fn of_schema(schema: &'a Schema) -> Self {
        match schema {
            Schema::Columns(columns) => Self {
                form: Form::Columns {
                    named: columns.iter().all(|column| column.name.is_some()),
                },
                list: columns.iter().map(Field::column).collect(),
            },
            Schema::Tensors(tensors) => Self {
                form: Form::Tensors {
                    named: tensors.iter().all(|tensor| tensor.name.is_some()),
                },
                list: tensors.iter().map(Field::tensor).collect(),
            },
        }
    }

    pub(super) fn of_params(params: Option<&'a [ParamSpec]>) -> Self {
        Self {
            form: Form::Params,
            list: params
                .unwrap_or_default()
                .iter()
                .map(Field::param)
                .collect(),
        }
    }

    pub(super) fn of_inputs(inputs: &'a [InputSpec]) -> Self {
        let field = |input: &'a InputSpec| {
            let kind = Type::Element(input.dtype);
            let field = Field::in_graph(&input.name, kind, input.shape.as_deref());
            Field {
                required: !input.is_optional(),
                ..field
            }
        };
        Self {
            form: Form::Graph,
            list: inputs.iter().map(field).collect(),
        }
    }

    pub(super) fn of_outputs(outputs: &'a [OutputSpec]) -> Self {
        let field = |output: &'a OutputSpec| {
            let (kind, shape) = match &output.kind {
                OutputKind::Tensor { dtype, shape } => (Type::Element(*dtype), shape.as_deref()),
                other @ (OutputKind::Maps { .. } | OutputKind::Sequence { .. }) => {
                    (Type::Sequence(other), None)
                }
            };
            Field::in_graph(&output.name, kind, shape)
        };
        Self {
            form: Form::Graph,
            list: outputs.iter().map(field).collect(),
        }
    }
}

impl Form {
    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::Columns { named: true } => "columns with names",
            Self::Columns { named: false } => "columns without names",
            Self::Tensors { named: true } => "tensors with names",
            Self::Tensors { named: false } => "one tensor without a name",
            Self::Graph => "tensors of the graph",
            Self::Params => "params",
        }
    }
}

impl<'a> Field<'a> {
    fn column(column: &'a ColSpec) -> Self {
        Self {
            name: column.name.as_deref(),
            kind: Type::Cell(&column.kind),
            shape: None,
            required: column.required,
            default: None,
        }
    }

    fn tensor(tensor: &'a TensorSpec) -> Self {
        Self {
            name: tensor.name.as_deref(),
            kind: Type::Tensor(&tensor.dtype),
            shape: Some(tensor.shape.iter().map(|&size| size.max(-1)).collect()),
            required: true,
            default: None,
        }
    }

    fn in_graph(name: &'a str, kind: Type<'a>, shape: Option<&[Dim]>) -> Self {
        Self {
            name: Some(name),
            kind,
            shape: shape.map(|dims| dims.iter().map(Dim::to_i64).collect()),
            required: true,
            default: None,
        }
    }

    fn param(param: &'a ParamSpec) -> Self {
        Self {
            name: Some(&param.name),
            kind: Type::Param {
                kind: &param.kind,
                is_list: param.is_list,
            },
            shape: None,
            // MLflow gives each one a default.
            required: false,
            default: Some(&param.default),
        }
    }

    /// Everything about it in a few words.
    pub(super) fn describe(&self) -> String {
        let kind = self.kind.describe();
        match (&self.shape, self.default) {
            (Some(_), _) => format!("{kind}, {}", describe_shape(self.shape.as_deref())),
            (None, Some(default)) => format!("{kind}, default {default}"),
            (None, None) => {
                let requirement = requirement(self.required);
                format!("{requirement} {kind}")
            }
        }
    }
}

impl Type<'_> {
    pub(super) fn describe(self) -> String {
        match self {
            Self::Cell(kind) => kind.describe(),
            Self::Tensor(kind) => kind.numpy_name().to_owned(),
            Self::Element(dtype) => dtype.oip_name().to_owned(),
            Self::Sequence(kind) => kind.type_name().to_owned(),
            Self::Param { kind, is_list } => kind.describe(is_list),
        }
    }
}

pub(super) fn describe_shape(shape: Option<&[i64]>) -> String {
    match shape {
        Some(sizes) => format!("shape {sizes:?}"),
        None => "an open shape".to_owned(),
    }
}

pub(super) fn requirement(required: bool) -> &'static str {
    if required { "required" } else { "optional" }
}
