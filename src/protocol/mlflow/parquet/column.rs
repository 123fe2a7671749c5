//! Columns of a Parquet file as pandas makes them: numbers keep their width, a missing one makes whole numbers doubles,
//! categories are their values.

use std::ops::Range;

use bytes::Bytes;
use parquet::data_type::{ByteArray, FixedLenByteArray};
use parquet::file::metadata::ParquetMetaData;
use parquet::schema::types::{ColumnDescPtr, ColumnDescriptor};

use super::super::array::{Array, Opaque, bools, filled, objects, texts, to_f32};
use super::super::python;
use super::guard::Budget;
use super::leaf::{self, Kind, Levels, Values};
use super::{ParquetError, broken, text};
use crate::protocol::json::{Cells, Flat, Json};

/// The column over these leaves of the schema.
///
/// # Errors
/// What is broken, or too large.
pub(super) fn read(
    body: &Bytes,
    metadata: &ParquetMetaData,
    leaves: Range<usize>,
    rows: usize,
    budget: &mut Budget,
) -> Result<Array, ParquetError> {
    let shape = vec![rows];
    let schema = metadata.file_metadata().schema_descr();
    let one = (leaves.len() == 1).then(|| schema.column(leaves.start));
    // Structs, maps and lists of lists are for columns that no signature of an ONNX model names.
    let is_flat = |leaf: &ColumnDescPtr| {
        leaf.max_rep_level() == 1 || (leaf.max_rep_level() == 0 && leaf.path().parts().len() == 1)
    };
    let Some(leaf) = one.filter(is_flat) else {
        budget.take_cells(rows)?;
        return Ok(objects(shape, vec![Json::Object(vec![]); rows]));
    };
    let is_list = leaf.max_rep_level() == 1;
    let (values, levels) = leaf::read(body, metadata, leaves.start, budget)?;
    let cells = Reader {
        kind: leaf::kind(&leaf),
        values,
        budget,
    };
    if is_list {
        let lists = cells.lists(&levels, &leaf)?;
        return if lists.len() == rows {
            Ok(objects(shape, lists))
        } else {
            Err(broken("a column has another number of rows than the table"))
        };
    }
    let full = leaf.max_def_level();
    let present: Vec<bool> = levels
        .definition
        .iter()
        .map(|&level| level == full)
        .collect();
    let is_whole = full == 0 || present.iter().all(|&present| present);
    let found = if full == 0 {
        cells.values.len()
    } else {
        present.len()
    };
    if found != rows {
        return Err(broken("a column has another number of rows than the table"));
    }
    if is_whole {
        cells.whole(shape)
    } else {
        cells.with_missing(&present)
    }
}

/// Turns the values of a column into cells.
struct Reader<'b> {
    kind: Kind,
    values: Values,
    budget: &'b mut Budget,
}

impl Reader<'_> {
    /// A column without missing values.
    fn whole(self, shape: Vec<usize>) -> Result<Array, ParquetError> {
        let Self {
            kind,
            values,
            budget,
        } = self;
        let tensor = match (kind, values) {
            (Kind::Plain, Values::Bool(values)) => bools(shape, &values),
            (Kind::Plain, Values::Int32(values)) => filled(shape, values),
            (Kind::Plain, Values::Int64(values)) => filled(shape, values),
            (Kind::Plain, Values::Float(values)) => filled(shape, values),
            (Kind::Plain, Values::Double(values)) => filled(shape, values),
            (Kind::Half, Values::Fixed(values)) => filled(shape, values.iter().map(half).collect()),
            (Kind::Int { bits, signed }, Values::Int32(values)) => {
                return ints(shape, (bits, signed), values.into_iter().map(i64::from));
            }
            (Kind::Int { bits, signed }, Values::Int64(values)) => {
                return ints(shape, (bits, signed), values.into_iter());
            }
            (Kind::Text, Values::Bytes(values)) => {
                budget.take(values.iter().map(ByteArray::len).sum())?;
                let read = values.iter().map(|value| text::text(value.data()));
                texts(shape, read.collect::<Result<_, _>>()?)
            }
            (kind, values) => {
                let reader = Self {
                    kind,
                    values,
                    budget,
                };
                let rows = shape.iter().product();
                return reader.with_missing(&vec![true; rows]);
            }
        };
        Ok(Array::Tensor(tensor))
    }

    /// A column of which only some rows have a value.
    fn with_missing(mut self, present: &[bool]) -> Result<Array, ParquetError> {
        let shape = vec![present.len()];
        match (self.kind, &self.values) {
            (Kind::Instant { zoned }, _) => {
                let opaque = if zoned {
                    Opaque::Zoned
                } else {
                    Opaque::Datetime
                };
                return Ok(Array::Opaque(opaque, shape));
            }
            (Kind::Plain, Values::Int96(_)) => return Ok(Array::Opaque(Opaque::Datetime, shape)),
            (Kind::Plain, Values::Bytes(_) | Values::Fixed(_)) => {
                return Ok(Array::Opaque(Opaque::Binary, shape));
            }
            _ => {}
        }
        let mut next = 0;
        let mut cells = Vec::with_capacity(present.len());
        for &present in present {
            cells.push(if present {
                next += 1;
                self.cell(next - 1)?
            } else {
                Json::Null
            });
        }
        // A missing number makes doubles of whole numbers, and stays as narrow among floats.
        let tensor = match (self.kind, &self.values) {
            (Kind::Plain, Values::Float(_)) => filled(shape, floats(&cells, to_f32)),
            (Kind::Half, Values::Fixed(_)) => filled(shape, floats(&cells, half::f16::from_f64)),
            (
                Kind::Plain | Kind::Int { .. },
                Values::Int32(_) | Values::Int64(_) | Values::Double(_),
            ) => filled(shape, floats(&cells, |value| value)),
            _ => return Ok(objects(shape, cells)),
        };
        Ok(Array::Tensor(tensor))
    }

    /// Columns of lists.
    fn lists(
        mut self,
        levels: &Levels,
        leaf: &ColumnDescriptor,
    ) -> Result<Vec<Json>, ParquetError> {
        let full = leaf.max_def_level();
        // The level of an element that is there, with or without a value.
        let there = full - i16::from(leaf.self_type().is_optional());
        let mut rows: Vec<Option<Cells>> = Vec::new();
        let mut next = 0;
        for (&definition, &repetition) in levels.definition.iter().zip(&levels.repetition) {
            if repetition == 0 {
                rows.push((definition >= there - 1).then(Cells::default));
            }
            if definition < there {
                continue;
            }
            let cell = if definition == full {
                next += 1;
                self.cell(next - 1)?
            } else {
                Json::Null
            };
            if let Some(Some(row)) = rows.last_mut() {
                row.push(cell);
            }
        }
        let list = |cells: Cells| {
            let shape = vec![cells.len()];
            Json::Array(Box::new(Flat { shape, cells }))
        };
        let rows = rows.into_iter();
        Ok(rows.map(|row| row.map_or(Json::Null, list)).collect())
    }

    /// A value as Python's.
    fn cell(&mut self, index: usize) -> Result<Json, ParquetError> {
        let missing = || broken("a column has fewer values than rows");
        macro_rules! at {
            ($values:expr) => {
                $values.get(index).ok_or_else(missing)?
            };
        }
        Ok(match (self.kind, &self.values) {
            (Kind::Plain, Values::Bool(values)) => Json::Bool(*at!(values)),
            (Kind::Plain, Values::Float(values)) => Json::Float(f64::from(*at!(values))),
            (Kind::Plain, Values::Double(values)) => Json::Float(*at!(values)),
            (Kind::Plain | Kind::Int { signed: true, .. }, Values::Int32(values)) => {
                Json::Int(i64::from(*at!(values)))
            }
            (Kind::Plain | Kind::Int { signed: true, .. }, Values::Int64(values)) => {
                Json::Int(*at!(values))
            }
            (Kind::Int { signed: false, .. }, Values::Int32(values)) => {
                Json::Int(i64::from(at!(values).cast_unsigned()))
            }
            (Kind::Int { signed: false, .. }, Values::Int64(values)) => unsigned(*at!(values)),
            (Kind::Half, Values::Fixed(values)) => Json::Float(half(at!(values)).to_f64()),
            (Kind::Text, Values::Bytes(values)) => {
                let value = at!(values);
                self.budget.take(value.len())?;
                Json::Text(text::text(value.data())?)
            }
            (Kind::Decimal(scale), values) => {
                let unscaled = match values {
                    Values::Int32(values) => i128::from(*at!(values)),
                    Values::Int64(values) => i128::from(*at!(values)),
                    Values::Bytes(values) => text::big_endian(at!(values).data())?,
                    Values::Fixed(values) => text::big_endian(at!(values).data())?,
                    _ => return Err(broken("a decimal is no whole number")),
                };
                Json::Text(text::decimal(unscaled, scale)?)
            }
            (Kind::Date, Values::Int32(values)) => Json::Text(text::date(*at!(values))?),
            // No signature of an ONNX model can ask for it.
            _ => Json::Object(vec![]),
        })
    }
}

/// What is stored as the signed number of the same bits.
fn unsigned(value: i64) -> Json {
    if value < 0 {
        Json::Big(value.cast_unsigned().to_string().into())
    } else {
        Json::Int(value)
    }
}

fn half(value: &FixedLenByteArray) -> half::f16 {
    let bytes = value.data().first_chunk().copied();
    half::f16::from_le_bytes(bytes.unwrap_or_default())
}

fn floats<T>(cells: &[Json], narrow: impl Fn(f64) -> T) -> Vec<T> {
    let float = |cell: &Json| python::float(cell).unwrap_or(f64::NAN);
    cells.iter().map(|cell| narrow(float(cell))).collect()
}

/// Whole numbers of a declared width.
fn ints(
    shape: Vec<usize>,
    (bits, signed): (i8, bool),
    values: impl Iterator<Item = i64>,
) -> Result<Array, ParquetError> {
    macro_rules! narrow {
        ($rust:ty) => {{
            let narrow = |value: i64| <$rust>::try_from(value).map_err(|_| wrong_width());
            filled(
                shape,
                values.map(narrow).collect::<Result<Vec<$rust>, _>>()?,
            )
        }};
    }
    Ok(Array::Tensor(match (bits, signed) {
        (8, true) => narrow!(i8),
        (16, true) => narrow!(i16),
        (32, true) => narrow!(i32),
        (64, true) => filled(shape, values.collect::<Vec<i64>>()),
        (8, false) => narrow!(u8),
        (16, false) => narrow!(u16),
        // Stored as the signed number of the same bits.
        (32, false) => {
            let unsigned = |value: i64| {
                let value = i32::try_from(value).map_err(|_| wrong_width())?;
                Ok::<u32, ParquetError>(value.cast_unsigned())
            };
            filled(
                shape,
                values.map(unsigned).collect::<Result<Vec<u32>, _>>()?,
            )
        }
        (64, false) => filled(shape, values.map(i64::cast_unsigned).collect::<Vec<u64>>()),
        _ => return Err(wrong_width()),
    }))
}

fn wrong_width() -> ParquetError {
    broken("a whole number is wider than its column")
}
