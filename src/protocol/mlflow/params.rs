//! Parameters of a request: validated against the signature, then ignored, for an ONNX graph has none.

use std::collections::HashMap;

use crate::budget::OverBudget;
use crate::model::{ColType, DataType, ParamSpec, ParamType};
use crate::protocol::json::Json;
use crate::protocol::meter::{Meter, block_of};
use crate::protocol::mlflow::schema::nested;
use crate::protocol::mlflow::schema::nested::Stage;
use crate::protocol::pandas::datetime;
use crate::protocol::pandas::python;
use crate::protocol::pandas::python::PyError;

/// Why parameters are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ParamsError {
    /// They contradict the signature, in MLflow's words.
    #[error("{0}")]
    Invalid(String),
    /// They take more memory than there is for the request.
    #[error(transparent)]
    OverBudget(#[from] OverBudget),
}

type Result<T> = std::result::Result<T, ParamsError>;

fn invalid<T>(message: impl Into<String>) -> Result<T> {
    Err(ParamsError::Invalid(message.into()))
}

/// Checks `params` against the schema; without a schema anything goes.
///
/// # Errors
/// [`ParamsError`].
pub(crate) fn check(
    params: Option<&Json>,
    specs: Option<&[ParamSpec]>,
    meter: &Meter,
) -> Result<()> {
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
            return invalid(format!(
                "Parameters must be a dictionary. Got type '{kind}'."
            ));
        }
    };
    // A map doubles.
    meter.charge(block_of::<(u8, &str, &Json)>(3 * entries.len()))?;
    let given = entries.iter().map(|(name, value)| (name.as_str(), value));
    let given: HashMap<&str, &Json> = given.collect();
    let mut refused = Vec::new();
    for spec in specs {
        let Some(value) = given.get(spec.name.as_str()) else {
            continue;
        };
        match check_param(value, spec, meter) {
            Ok(()) => {}
            Err(ParamsError::Invalid(reason)) => refused.push(format!(
                "({}, {})",
                python::quoted(&spec.name),
                python::quoted(&reason)
            )),
            Err(over) => return Err(over),
        }
    }
    if refused.is_empty() {
        return Ok(());
    }
    invalid(format!(
        "Invalid parameters found: {{{}}}",
        refused.join(", ")
    ))
}

fn check_param(value: &Json, spec: &ParamSpec, meter: &Meter) -> Result<()> {
    let described = describe(spec);
    let validated = |checked: std::result::Result<(), PyError>| match checked {
        Ok(()) => Ok(()),
        Err(PyError::OverBudget(over)) => Err(over.into()),
        Err(reason) => invalid(format!(
            "Failed to validate type and shape for {described}, error: {reason}"
        )),
    };
    if !spec.is_list {
        return validated(check_value(value, &spec.kind, meter));
    }
    let is_row = match value {
        Json::Array(flat) => flat.shape.len() == 1,
        Json::List(items) => items.iter().all(|item| matches!(item, Json::Object(_))),
        _ => false,
    };
    if !is_row {
        let kind = python::type_name(value);
        return invalid(format!(
            "Value must be a 1D array with shape (-1,) for param {described}, received {kind}"
        ));
    }
    let checked = python::try_each_item(value, meter, |item| check_value(item, &spec.kind, meter));
    validated(checked.unwrap_or(Ok(())))
}

fn describe(spec: &ParamSpec) -> String {
    let kind = match &spec.kind {
        ParamType::Scalar(kind) => kind.mlflow_name().to_owned(),
        ParamType::Object(properties) => ColType::Object(properties.clone()).to_string(),
    };
    format!("'{}': {kind} (default: {})", spec.name, spec.default)
}

fn check_value(value: &Json, kind: &ParamType, meter: &Meter) -> std::result::Result<(), PyError> {
    match kind {
        ParamType::Scalar(kind) => check_scalar(value, *kind),
        ParamType::Object(properties) => {
            let kind = ColType::Object(properties.clone());
            nested::check(value, &kind, true, (Stage::Cast, meter))
        }
    }
}

fn check_scalar(value: &Json, kind: DataType) -> std::result::Result<(), PyError> {
    let fits = match (kind, value) {
        (_, Json::Null) => true,
        (DataType::Datetime, Json::Text(text)) => datetime::is_datetime(text),
        (DataType::Boolean, Json::Bool(_)) | (DataType::String, Json::Text(_)) => true,
        (DataType::Integer | DataType::Long, Json::Int(_) | Json::Big(_)) => true,
        (DataType::Float | DataType::Double, Json::Int(_) | Json::Big(_) | Json::Float(_)) => true,
        (_, other) if !python::is_scalar(other) => {
            let name = kind.mlflow_name();
            return Err(PyError::kind(format!(
                "Value must be a scalar for type `{name}`, got `{}`",
                python::repr(other)
            )));
        }
        _ => false,
    };
    if fits {
        return Ok(());
    }
    let (given, name) = (python::type_name(value), kind.mlflow_name());
    let printed = python::brief(value);
    Err(PyError::kind(format!(
        "Can not safely convert `<class '{given}'>` to `DataType.{name}` for value `{printed}`"
    )))
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

    fn check_text(value: &str, kind: DataType, is_list: bool) -> Result<()> {
        let json = Reader::new(format!("{{\"p\": {value}}}").as_bytes())
            .unwrap()
            .value()
            .unwrap();
        let specs = [spec(kind, is_list)];
        check(Some(&json), Some(&specs), &Meter::unlimited())
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
            let error = check_text(value, kind, false).unwrap_err().to_string();
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
        let meter = Meter::unlimited();
        assert_eq!(check(Some(&Json::Int(3)), None, &meter), Ok(()));
        assert!(check(Some(&Json::Int(3)), Some(&[]), &meter).is_err());
    }
}
