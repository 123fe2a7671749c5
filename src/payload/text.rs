//! The text of a cell: what is hashed, and what a person writes to find it again.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType;
use serde_json::{Map, Number, Value};

/// Text as it is; everything else as JSON.
pub(super) fn of_cell(array: &ArrayRef, row: usize) -> String {
    match to_json(array, row) {
        Value::String(text) => text,
        value => value.to_string(),
    }
}

/// A cell as JSON; NaN and infinities as text, since JSON has no numbers for them.
pub(crate) fn to_json(array: &dyn Array, row: usize) -> Value {
    if array.is_null(row) {
        return Value::Null;
    }
    match array.data_type() {
        DataType::Boolean => array.as_boolean().value(row).into(),
        DataType::Int8 => array.as_primitive::<Int8Type>().value(row).into(),
        DataType::Int16 => array.as_primitive::<Int16Type>().value(row).into(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).into(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).into(),
        DataType::UInt8 => array.as_primitive::<UInt8Type>().value(row).into(),
        DataType::UInt16 => array.as_primitive::<UInt16Type>().value(row).into(),
        DataType::UInt32 => array.as_primitive::<UInt32Type>().value(row).into(),
        DataType::UInt64 => array.as_primitive::<UInt64Type>().value(row).into(),
        DataType::Float16 => single(array.as_primitive::<Float16Type>().value(row).to_f32()),
        DataType::Float32 => single(array.as_primitive::<Float32Type>().value(row)),
        DataType::Float64 => double(array.as_primitive::<Float64Type>().value(row)),
        DataType::Timestamp(..) => {
            let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
            jiff::Timestamp::from_microsecond(micros)
                .map_or(Value::Null, |time| time.to_string().into())
        }
        DataType::Utf8 => array.as_string::<i32>().value(row).into(),
        DataType::LargeUtf8 => array.as_string::<i64>().value(row).into(),
        DataType::FixedSizeList(..) => items(&array.as_fixed_size_list().value(row)),
        DataType::List(_) => items(&array.as_list::<i32>().value(row)),
        DataType::LargeList(_) => items(&array.as_list::<i64>().value(row)),
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns().iter().zip(fields);
            let member = |(column, field): (&ArrayRef, &arrow_schema::FieldRef)| {
                (field.name().clone(), to_json(column, row))
            };
            Value::Object(columns.map(member).collect::<Map<_, _>>())
        }
        _ => Value::Null,
    }
}

fn items(list: &ArrayRef) -> Value {
    (0..list.len()).map(|row| to_json(list, row)).collect()
}

/// The shortest text that is this single, not that of the double that is equal to it.
fn single(value: f32) -> Value {
    match value.to_string().parse::<f64>() {
        Ok(double) if value.is_finite() => {
            Number::from_f64(double).map_or(Value::Null, Value::Number)
        }
        _ => value.to_string().into(),
    }
}

fn double(value: f64) -> Value {
    Number::from_f64(value).map_or_else(|| value.to_string().into(), Value::Number)
}
