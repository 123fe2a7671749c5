//! Values of `array`, `object`, `map` and `any` columns: MLflow's `_enforce_type`.
//!
//! An ONNX graph takes no such values, so they are checked, not converted.

use std::collections::HashMap;

use super::astype;
use super::data::SchemaError;
use super::enforce::enforce_type;
use crate::budget::OverBudget;
use crate::model::{ColType, DataType, Property};
use crate::protocol::json::{Cells, Json};
use crate::protocol::meter::Meter;
use crate::protocol::pandas::frame::infer_column;
use crate::protocol::pandas::python;
use crate::protocol::pandas::python::PyError;

/// When a value is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// While the body is read.
    Cast,
    /// Again, as MLflow enforces the schema on what its casts made.
    Enforce,
}

/// Checks that `value` is of type `kind`; what is not `required` may be missing, and so may be all that is inside.
///
/// # Errors
/// What is wrong, in MLflow's words; [`OverBudget`].
pub(crate) fn check(
    value: &Json,
    kind: &ColType,
    required: bool,
    (stage, meter): (Stage, &Meter),
) -> Result<(), PyError> {
    let check = Check {
        required,
        stage,
        meter,
    };
    check.value(value, kind)
}

#[derive(Clone, Copy)]
struct Check<'m> {
    required: bool,
    stage: Stage,
    meter: &'m Meter,
}

// Recursion is safe: a signature is nested less than 128 deep.
impl Check<'_> {
    fn value(self, value: &Json, kind: &ColType) -> Result<(), PyError> {
        match kind {
            ColType::Any => Ok(()),
            ColType::Scalar(wanted) => self.scalar(value, *wanted),
            ColType::Array(inner) => self.array(value, inner),
            ColType::Map(inner) => self.map(value, inner),
            ColType::Object(properties) => self.object(value, properties),
        }
    }

    fn scalar(self, value: &Json, wanted: DataType) -> Result<(), PyError> {
        let missing = match value {
            Json::Null => true,
            Json::Float(float) => float.is_nan(),
            _ => false,
        };
        if missing && !self.required {
            return Ok(());
        }
        if !python::is_scalar(value) || matches!(value, Json::Null) {
            let given = python::type_name(value);
            return Err(PyError::mlflow(format!(
                "Expected data to be scalar, got {given}"
            )));
        }
        let held = self.meter.held();
        self.meter.charge(value.heap())?;
        let column = infer_column(Cells::one(value.clone(), self.meter)?, self.meter)?;
        let enforced = enforce_type("", column, wanted, self.meter);
        self.meter.settle(held, 0);
        match enforced {
            Ok(_) => Ok(()),
            Err(SchemaError::OverBudget(over)) => Err(over.into()),
            Err(SchemaError::Contradicts(_)) => Err(PyError::mlflow(format!(
                "Failed to enforce schema of data of type `{}` with dtype `{}`",
                python::type_name(value),
                wanted.mlflow_name()
            ))),
        }
    }

    fn array(self, value: &Json, inner: &ColType) -> Result<(), PyError> {
        let may_be_null = !self.required || matches!(inner, ColType::Any);
        if may_be_null && matches!(value, Json::Null) {
            return Ok(());
        }
        if let ColType::Scalar(wanted) = inner
            && python::length(value).is_some()
        {
            return self.scalars(value, *wanted);
        }
        let items = python::try_each_item(value, self.meter, |item| self.value(item, inner));
        items.unwrap_or_else(|| {
            Err(PyError::mlflow(format!(
                "Expected data to be list or numpy array, got {}",
                python::type_name(value)
            )))
        })
    }

    /// A list of scalars is checked as a column is.
    fn scalars(self, value: &Json, wanted: DataType) -> Result<(), PyError> {
        if python::length(value) == Some(0) {
            return Ok(());
        }
        let held = self.meter.held();
        let (column, has_lists) = self.column(value)?;
        let enforced = enforce_type("", column, wanted, self.meter);
        self.meter.settle(held, 0);
        enforced.map_err(|error| match error {
            SchemaError::OverBudget(over) => over.into(),
            SchemaError::Contradicts(message) => PyError::mlflow(message),
        })?;
        if has_lists && wanted != DataType::Double {
            return Err(PyError::value("setting an array element with a sequence"));
        }
        if wanted == DataType::Binary {
            astype::bytes(value)?;
        }
        // MLflow's casts make doubles and integers of these, which it then refuses.
        let made = match wanted {
            DataType::Float => "float64",
            DataType::Datetime => "int64",
            _ => return Ok(()),
        };
        if self.stage == Stage::Cast {
            return Ok(());
        }
        Err(PyError::mlflow(format!(
            "Incompatible input types for column . Can not safely convert {made} to {}.",
            wanted.numpy_name()
        )))
    }

    /// The items as a column, and whether lists are among them.
    fn column(
        self,
        list: &Json,
    ) -> Result<(crate::protocol::pandas::array::Array, bool), OverBudget> {
        let meter = self.meter;
        let mut cells = Cells::default();
        let mut has_lists = false;
        for index in 0..python::length(list).unwrap_or(0) {
            let item = python::item(list, index, meter)?;
            has_lists |= matches!(*item, Json::Array(_) | Json::List(_));
            if matches!(item, std::borrow::Cow::Borrowed(_)) || matches!(*item, Json::Text(_)) {
                meter.charge(item.heap())?;
            }
            cells.push(item.into_owned(), meter)?;
        }
        Ok((infer_column(cells, meter)?, has_lists))
    }

    fn map(self, value: &Json, inner: &ColType) -> Result<(), PyError> {
        let may_be_null = !self.required || matches!(inner, ColType::Any);
        match value {
            Json::Null if may_be_null => Ok(()),
            Json::Object(entries) => entries
                .iter()
                .try_for_each(|(_, item)| self.value(item, inner)),
            other => Err(PyError::mlflow(format!(
                "Expected data to be a dict, got {}",
                python::type_name(other)
            ))),
        }
    }

    fn object(self, value: &Json, properties: &[Property]) -> Result<(), PyError> {
        let entries = match value {
            Json::Null if !self.required => return Ok(()),
            Json::Object(entries) if !self.required && entries.is_empty() => return Ok(()),
            Json::Object(entries) => entries,
            other => {
                let kind = ColType::Object(properties.to_vec());
                let given = python::type_name(other);
                return Err(PyError::mlflow(format!(
                    "Failed to enforce schema with type '{kind}'. Expected data to be dictionary, got {given}"
                )));
            }
        };
        let known = properties
            .iter()
            .map(|property| (property.name.as_str(), property));
        let known: HashMap<&str, &Property> = known.collect();
        let given = entries
            .iter()
            .filter_map(|(key, _)| known.get(key.as_str()));
        let given: HashMap<&str, ()> = given.map(|property| (property.name.as_str(), ())).collect();
        let mut missing = properties
            .iter()
            .filter(|property| property.required && !given.contains_key(property.name.as_str()));
        if let Some(missing) = missing.next() {
            let name = python::quoted(&missing.name);
            return Err(PyError::mlflow(format!(
                "Missing required properties: {{{name}}}"
            )));
        }
        entries
            .iter()
            .try_for_each(|(key, item)| self.property(key, item, known.get(key.as_str())))
    }

    fn property(self, key: &str, item: &Json, known: Option<&&Property>) -> Result<(), PyError> {
        let Some(property) = known else {
            let name = python::shown(key);
            return Err(PyError::mlflow(format!(
                "Invalid properties not defined in the schema found: {{{name}}}"
            )));
        };
        let own = Self {
            required: property.required,
            ..self
        };
        own.value(item, &property.kind)
            .map_err(|error| match error {
                PyError::OverBudget(over) => over.into(),
                PyError::Raised { .. } => PyError::mlflow(format!(
                    "Failed to enforce schema for key `{key}`. Expected type {}, received type {}",
                    property.kind.mlflow_name(),
                    python::type_name(item)
                )),
            })
    }
}

/// Whether the lists inside a list have different lengths or stand beside values that are no lists; numpy makes no array
/// of them.
pub(crate) fn is_ragged(value: &Json) -> bool {
    shape(value).is_none()
}

fn shape(value: &Json) -> Option<Vec<usize>> {
    match value {
        Json::Array(flat) => Some(flat.shape.clone()),
        Json::List(items) => {
            let mut shapes = items.iter().map(shape);
            let first = shapes.next().unwrap_or_else(|| Some(Vec::new()))?;
            if !shapes.all(|shape| shape.as_ref() == Some(&first)) {
                return None;
            }
            Some([&[items.len()], first.as_slice()].concat())
        }
        _ => Some(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::json::Reader;

    fn json(text: &str) -> Json {
        Reader::new(text.as_bytes()).unwrap().value().unwrap()
    }

    fn list(kind: DataType) -> ColType {
        ColType::Array(Box::new(ColType::Scalar(kind)))
    }

    fn property(name: &str, kind: DataType, required: bool) -> Property {
        Property {
            name: name.to_owned(),
            required,
            kind: ColType::Scalar(kind),
        }
    }

    fn message(text: &str, kind: &ColType, required: bool) -> String {
        let checked = check(
            &json(text),
            kind,
            required,
            (Stage::Cast, &Meter::unlimited()),
        );
        checked.map_or_else(|error| error.to_string(), |()| "fine".to_owned())
    }

    #[test]
    fn elements_of_lists_keep_their_values_or_are_refused() {
        for (text, kind) in [
            ("[1.5, 2.0]", DataType::Double),
            ("[0, 1]", DataType::Double),
            ("[\"1.5\", null]", DataType::Double),
            ("[1, 2]", DataType::Long),
            ("[1.5, \"\", []]", DataType::Double),
            ("[true, null]", DataType::Boolean),
            ("[\"a\", 1]", DataType::String),
            ("[]", DataType::Long),
        ] {
            assert_eq!(message(text, &list(kind), true), "fine", "{text}");
        }
        for (text, kind, wanted) in [
            (
                "[1, 2]",
                DataType::Double,
                "Can not safely convert int64 to float64",
            ),
            (
                "[1.5]",
                DataType::Long,
                "Can not safely convert float64 to int64",
            ),
            (
                "[1]",
                DataType::Boolean,
                "Can not safely convert int64 to bool",
            ),
            (
                "[\"a\"]",
                DataType::Double,
                "from type object to DataType.double",
            ),
            ("[[\"a\"]]", DataType::String, "with a sequence"),
            (
                "1.5",
                DataType::Double,
                "Expected data to be list or numpy array, got float",
            ),
        ] {
            let message = message(text, &list(kind), true);
            assert!(message.contains(wanted), "{text}: {message}");
        }
    }

    #[test]
    fn what_is_not_required_may_be_missing_inside_too() {
        let kind = ColType::Map(Box::new(ColType::Scalar(DataType::Double)));
        for text in ["null", "{}", "{\"a\": null}"] {
            assert_eq!(message(text, &kind, false), "fine", "{text}");
        }
        assert_eq!(
            message("null", &kind, true),
            "Expected data to be a dict, got NoneType"
        );
        assert_eq!(
            message("{\"a\": null}", &kind, true),
            "Expected data to be scalar, got NoneType"
        );
    }

    #[test]
    fn objects_have_their_properties_and_no_others() {
        let kind = ColType::Object(vec![
            property("lat", DataType::Double, true),
            property("name", DataType::String, false),
        ]);
        let message = |text| message(text, &kind, true);
        assert_eq!(message("{\"lat\": 1.5, \"name\": null}"), "fine");
        assert_eq!(
            message("{\"name\": \"a\"}"),
            "Missing required properties: {'lat'}"
        );
        assert_eq!(
            message("{\"lat\": 1.5, \"alt\": 1}"),
            "Invalid properties not defined in the schema found: {'alt'}"
        );
        assert_eq!(
            message("{\"lat\": \"x\"}"),
            "Failed to enforce schema for key `lat`. Expected type double, received type str"
        );
        assert_eq!(
            message("[]"),
            "Failed to enforce schema with type '{lat: double (required), name: string (optional)}'. Expected data to \
             be dictionary, got list"
        );
    }

    #[test]
    fn lists_of_unequal_lists_are_ragged() {
        for (text, ragged) in [
            ("[[1], [2]]", false),
            ("[[1], [2, 3]]", true),
            ("[[1], 2]", true),
            ("[{\"a\": [1]}, {\"a\": [1, 2]}]", false),
            ("5", false),
        ] {
            assert_eq!(is_ragged(&json(text)), ragged, "{text}");
        }
    }
}
