//! Parameters of a request: validated against the signature, then ignored, for an ONNX graph has none.

use super::datetime;
use super::nested::{self, Stage};
use super::python;
use crate::model::{ColType, DataType, ParamSpec, ParamType};
use crate::protocol::json::Json;

/// Checks `params` against the schema; without a schema anything goes.
///
/// # Errors
/// MLflow's message.
pub(super) fn check(params: Option<&Json>, specs: Option<&[ParamSpec]>) -> Result<(), String> {
    let Some(specs) = specs else {
        if params.is_some_and(|params| !matches!(params, Json::Null)) {
            tracing::debug!("this model has no params schema: `params` of the request are ignored");
        }
        return Ok(());
    };
    let entries = match params {
        None | Some(Json::Null) => return Ok(()),
        Some(Json::Object(entries)) => entries,
        Some(other) => {
            let kind = python::type_name(other);
            return Err(format!(
                "Parameters must be a dictionary. Got type '{kind}'."
            ));
        }
    };
    let mut invalid = Vec::new();
    for spec in specs {
        let Some((_, value)) = entries.iter().find(|(name, _)| *name == spec.name) else {
            continue;
        };
        if let Err(reason) = check_param(value, spec) {
            invalid.push(format!(
                "({}, {})",
                python::quoted(&spec.name),
                python::quoted(&reason)
            ));
        }
    }
    if invalid.is_empty() {
        return Ok(());
    }
    Err(format!(
        "Invalid parameters found: {{{}}}",
        invalid.join(", ")
    ))
}

fn check_param(value: &Json, spec: &ParamSpec) -> Result<(), String> {
    let described = describe(spec);
    if !spec.is_list {
        return check_value(value, &spec.kind).map_err(|reason| {
            format!("Failed to validate type and shape for {described}, error: {reason}")
        });
    }
    let is_row = match value {
        Json::Array(flat) => flat.shape.len() == 1,
        Json::List(items) => items.iter().all(|item| matches!(item, Json::Object(_))),
        _ => false,
    };
    if !is_row {
        let kind = python::type_name(value);
        return Err(format!(
            "Value must be a 1D array with shape (-1,) for param {described}, received {kind}"
        ));
    }
    let items = python::items(value).unwrap_or_default();
    items
        .iter()
        .try_for_each(|item| check_value(item, &spec.kind))
        .map_err(|reason| {
            format!("Failed to validate type and shape for {described}, error: {reason}")
        })
}

fn describe(spec: &ParamSpec) -> String {
    let kind = match &spec.kind {
        ParamType::Scalar(kind) => kind.mlflow_name().to_owned(),
        ParamType::Object(properties) => ColType::Object(properties.clone()).to_string(),
    };
    format!("'{}': {kind} (default: {})", spec.name, spec.default)
}

fn check_value(value: &Json, kind: &ParamType) -> Result<(), String> {
    match kind {
        ParamType::Scalar(kind) => check_scalar(value, *kind),
        ParamType::Object(properties) => {
            let kind = ColType::Object(properties.clone());
            nested::check(value, &kind, true, Stage::Cast).map_err(|error| error.to_string())
        }
    }
}

fn check_scalar(value: &Json, kind: DataType) -> Result<(), String> {
    let fits = match (kind, value) {
        (_, Json::Null) => true,
        (DataType::Datetime, Json::Text(text)) => datetime::is_datetime(text),
        (DataType::Boolean, Json::Bool(_)) | (DataType::String, Json::Text(_)) => true,
        (DataType::Integer | DataType::Long, Json::Int(_) | Json::Big(_)) => true,
        (DataType::Float | DataType::Double, Json::Int(_) | Json::Big(_) | Json::Float(_)) => true,
        (_, other) if !python::is_scalar(other) => {
            let name = kind.mlflow_name();
            return Err(format!(
                "Value must be a scalar for type `{name}`, got `{}`",
                python::repr(other)
            ));
        }
        _ => false,
    };
    if fits {
        return Ok(());
    }
    let (given, name) = (python::type_name(value), kind.mlflow_name());
    let printed = python::text(value);
    Err(format!(
        "Can not safely convert `<class '{given}'>` to `DataType.{name}` for value `{printed}`"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::json::Reader;

    fn spec(kind: DataType, is_list: bool) -> ParamSpec {
        let kind = ParamType::Scalar(kind);
        ParamSpec {
            name: "p".to_owned(),
            kind,
            default: serde_json::Value::Null,
            is_list,
        }
    }

    fn check_text(value: &str, kind: DataType, is_list: bool) -> Result<(), String> {
        let json = Reader::new(format!("{{\"p\": {value}}}").as_bytes())
            .unwrap()
            .value()
            .unwrap();
        check(Some(&json), Some(&[spec(kind, is_list)]))
    }

    #[test]
    fn only_widening_is_allowed() {
        for (value, kind) in [
            ("1", DataType::Double),
            ("1.5", DataType::Float),
            ("3000000000", DataType::Integer),
            ("null", DataType::Long),
            ("true", DataType::Boolean),
            ("\"2024-05-01\"", DataType::Datetime),
        ] {
            assert_eq!(check_text(value, kind, false), Ok(()), "{value}");
        }
        for (value, kind) in [
            ("1.0", DataType::Integer),
            ("\"x\"", DataType::Double),
            ("true", DataType::Long),
            ("1", DataType::String),
            ("[1]", DataType::Long),
            ("5", DataType::Datetime),
            ("\"nope\"", DataType::Datetime),
        ] {
            let error = check_text(value, kind, false).unwrap_err();
            assert!(
                error.starts_with("Invalid parameters found: {('p', "),
                "{value}: {error}"
            );
        }
    }

    #[test]
    fn a_list_parameter_takes_a_list() {
        assert_eq!(check_text("[\"a\", \"b\"]", DataType::String, true), Ok(()));
        assert!(check_text("\"a\"", DataType::String, true).is_err());
        assert!(check_text("[[1]]", DataType::Long, true).is_err());
    }

    #[test]
    fn without_a_schema_anything_goes() {
        assert_eq!(check(Some(&Json::Int(3)), None), Ok(()));
        assert!(check(Some(&Json::Int(3)), Some(&[])).is_err());
    }
}
