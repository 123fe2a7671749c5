//! Casts of data-frame columns to the types of a schema, before enforcement: `Series.astype`, `to_datetime`, base64.

use super::astype::{cast_data, cast_tensor, tensor_type_name};
use super::nested::{self, Stage};
use crate::budget::OverBudget;
use crate::model::{ColSpec, ColType, DataType, Schema, TensorSpec, TensorType};
use crate::protocol::json::Json;
use crate::protocol::meter::{Meter, block_of};
use crate::protocol::pandas::array::{Array, Opaque};
use crate::protocol::pandas::frame::{Column, Found, Frame, Names, cells_of, position};
use crate::protocol::pandas::python;
use crate::protocol::pandas::python::PyError;

/// A column that cannot have the type that the schema asks for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CastError {
    /// Its values have another one.
    #[error(
        "Data is not compatible with model signature. Failed to convert column {column} to type '{wanted}'. Error: '{}'",
        error.repr()
    )]
    Column {
        column: String,
        wanted: String,
        error: PyError,
    },
    /// It takes more memory than there is for the request.
    #[error(transparent)]
    OverBudget(#[from] OverBudget),
}

/// Casts each column that the schema names (or counts, when its columns have no names).
pub(crate) fn cast_frame(
    frame: &mut Frame,
    schema: &Schema,
    meter: &Meter,
) -> Result<(), CastError> {
    let held = meter.held();
    let casts = match schema {
        Schema::Columns(specs) => of_columns(frame, specs, meter)?,
        Schema::Tensors(specs) => of_tensors(frame, specs, meter)?,
    };
    // The names.
    meter.settle(held, block_of::<Cast<'_>>(casts.capacity()));
    for cast in &casts {
        cast.run(&mut frame.columns, meter)?;
    }
    meter.release(block_of::<Cast<'_>>(casts.capacity()));
    Ok(())
}

/// A column, and what it shall be.
struct Cast<'s> {
    place: usize,
    name: Option<&'s str>,
    is_repeated: bool,
    to: To<'s>,
}

#[derive(Clone, Copy)]
enum To<'s> {
    Scalar(DataType),
    Nested(&'s ColSpec),
    Tensor(&'s TensorType),
}

fn of_columns<'s>(
    frame: &Frame,
    specs: &'s [ColSpec],
    meter: &Meter,
) -> Result<Vec<Cast<'s>>, OverBudget> {
    let wanted = specs.iter().enumerate().filter_map(|(index, spec)| {
        let to = match &spec.kind {
            ColType::Any => return None,
            ColType::Scalar(wanted) => To::Scalar(*wanted),
            _ => To::Nested(spec),
        };
        Some((spec.name.as_deref(), index..=index, to))
    });
    found(frame, wanted, meter)
}

fn of_tensors<'s>(
    frame: &Frame,
    specs: &'s [TensorSpec],
    meter: &Meter,
) -> Result<Vec<Cast<'s>>, OverBudget> {
    let wanted = specs.iter().enumerate().map(|(index, spec)| {
        // A single unnamed tensor stands for all columns.
        let places = if spec.name.is_some() {
            index..=index
        } else {
            0..=frame.columns.len().max(1) - 1
        };
        (spec.name.as_deref(), places, To::Tensor(&spec.dtype))
    });
    found(frame, wanted, meter)
}

/// The columns that there are, of those that are wanted.
fn found<'s>(
    frame: &Frame,
    wanted: impl Iterator<Item = (Option<&'s str>, std::ops::RangeInclusive<usize>, To<'s>)>,
    meter: &Meter,
) -> Result<Vec<Cast<'s>>, OverBudget> {
    let names = Names::new(&frame.columns, meter)?;
    let mut casts = Vec::new();
    for (name, places, to) in wanted {
        for place in places {
            let there = Found {
                index: place,
                is_repeated: false,
            };
            let found = match name {
                Some(name) => names.find(name),
                None => Some(there).filter(|found| found.index < frame.columns.len()),
            };
            let Some(Found { index, is_repeated }) = found else {
                continue;
            };
            let cast = Cast {
                place: index,
                name,
                is_repeated,
                to,
            };
            meter.push(&mut casts, cast)?;
        }
    }
    Ok(casts)
}

impl Cast<'_> {
    fn run(&self, columns: &mut [Column], meter: &Meter) -> Result<(), CastError> {
        let data = &mut columns[self.place].data;
        let result = if self.is_repeated {
            Err(PyError::value("the column is there more than once"))
        } else {
            let given = std::mem::replace(data, Array::Opaque(Opaque::Binary, vec![]));
            self.to.cast(given, meter)
        };
        match result {
            Ok(cast) => *data = cast,
            Err(PyError::OverBudget(over)) => return Err(over.into()),
            Err(error) => {
                let name = self.name.map(str::to_owned);
                let name = name.unwrap_or_else(|| python::brief(&position(self.place)));
                return Err(CastError::Column {
                    column: name,
                    wanted: self.to.name(),
                    error,
                });
            }
        }
        Ok(())
    }
}

impl To<'_> {
    fn name(self) -> String {
        match self {
            Self::Scalar(wanted) => wanted.numpy_name().to_owned(),
            Self::Nested(spec) => spec.kind.to_string(),
            Self::Tensor(dtype) => tensor_type_name(dtype).to_owned(),
        }
    }

    fn cast(self, data: Array, meter: &Meter) -> Result<Array, PyError> {
        match self {
            Self::Scalar(wanted) => cast_data(data, wanted, meter),
            Self::Tensor(wanted) => cast_tensor(data, wanted, meter),
            Self::Nested(spec) => {
                let check = |cell: &Json| {
                    nested::check(cell, &spec.kind, spec.required, (Stage::Cast, meter))
                };
                cells_of(&data).try_for_each(|cell| check(&cell))?;
                Ok(data)
            }
        }
    }
}
