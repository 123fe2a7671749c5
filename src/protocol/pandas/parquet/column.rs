//! Columns of a Parquet file as pandas makes them: numbers keep their width, a missing one makes whole numbers doubles,
//! categories are their values.

use std::ops::Range;

use bytes::Bytes;
use parquet::data_type::FixedLenByteArray;
use parquet::file::metadata::ParquetMetaData;
use parquet::schema::types::{ColumnDescPtr, ColumnDescriptor};

use super::super::array::{Array, Opaque, filled, metered_bools, metered_texts, objects};
use super::guard::Budget;
use super::leaf::{self, Kind, Levels, Values};
use super::{ParquetError, broken, text};
use crate::budget::OverBudget;
use crate::protocol::json::{Cells, Json};
use crate::protocol::meter::{Meter, block, block_of};
use crate::tensor::{Absent, Element};

/// The column over these leaves of the schema.
///
/// # Errors
/// What is broken, or too large.
pub(crate) fn read(
    body: &Bytes,
    (metadata, leaves): (&ParquetMetaData, Range<usize>),
    rows: usize,
    budget: &mut Budget<'_>,
) -> Result<Array, ParquetError> {
    let meter = budget.meter;
    let shape = vec![rows];
    let schema = metadata.file_metadata().schema_descr();
    let one = (leaves.len() == 1).then(|| schema.column(leaves.start));
    // Structs, maps and lists of lists are for columns that no signature of an ONNX model names.
    let is_flat = |leaf: &ColumnDescPtr| {
        leaf.max_rep_level() == 1 || (leaf.max_rep_level() == 0 && leaf.path().parts().len() == 1)
    };
    let Some(leaf) = one.filter(is_flat) else {
        let mut cells = meter.vec(rows)?;
        cells.resize(rows, Json::Object(vec![]));
        return Ok(objects(shape, cells));
    };
    let is_list = leaf.max_rep_level() == 1;
    let (values, levels) = leaf::read(body, metadata, leaves.start, budget)?;
    let cells = Reader {
        kind: leaf::kind(&leaf),
        values,
        meter,
    };
    if is_list {
        let lists = cells.lists(&levels, &leaf, rows)?;
        return if lists.len() == rows {
            Ok(objects(shape, lists))
        } else {
            Err(broken("a column has another number of rows than the table"))
        };
    }
    let full = leaf.max_def_level();
    let mut present: Vec<bool> = meter.vec(levels.definition.len())?;
    present.extend(levels.definition.iter().map(|&level| level == full));
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
struct Reader<'m> {
    kind: Kind,
    values: Values,
    meter: &'m Meter,
}

impl Reader<'_> {
    /// A column without missing values.
    fn whole(self, shape: Vec<usize>) -> Result<Array, ParquetError> {
        let Self {
            kind,
            values,
            meter,
        } = self;
        let tensor = match (kind, values) {
            (Kind::Plain, Values::Bool(values)) => metered_bools(shape, values, meter)?,
            (Kind::Plain, Values::Int32(values)) => filled(shape, values),
            (Kind::Plain, Values::Int64(values)) => filled(shape, values),
            (Kind::Plain, Values::Float(values)) => filled(shape, values),
            (Kind::Plain, Values::Double(values)) => filled(shape, values),
            (Kind::Half, Values::Fixed(values)) => {
                let mut halves = meter.vec(values.len())?;
                halves.extend(values.iter().map(half));
                filled(shape, halves)
            }
            (Kind::Int { bits, signed }, Values::Int32(values)) => {
                let values = values.into_iter().map(i64::from);
                return ints(shape, (bits, signed), values, meter);
            }
            (Kind::Int { bits, signed }, Values::Int64(values)) => {
                return ints(shape, (bits, signed), values.into_iter(), meter);
            }
            (Kind::Text, Values::Bytes(values)) => {
                let mut texts = meter.vec(values.len())?;
                for value in &values {
                    meter.charge(block(value.len()))?;
                    texts.push(text::text(value.data())?);
                }
                metered_texts(shape, texts, meter)?
            }
            (kind, values) => {
                let reader = Self {
                    kind,
                    values,
                    meter,
                };
                let rows = shape.iter().product();
                meter.charge(block(rows))?;
                return reader.with_missing(&vec![true; rows]);
            }
        };
        Ok(Array::Tensor(tensor))
    }

    /// A column of which only some rows have a value.
    fn with_missing(self, present: &[bool]) -> Result<Array, ParquetError> {
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
        // A missing number makes doubles of whole numbers, and stays as narrow among floats.
        let floats = Floats {
            present,
            meter: self.meter,
        };
        #[expect(clippy::cast_precision_loss, reason = "pandas rounds too")]
        let tensor = match (self.kind, &self.values) {
            (Kind::Plain, Values::Float(values)) => {
                filled(shape, floats.of(values, Absent::F32, |&value| value)?)
            }
            (Kind::Half, Values::Fixed(values)) => {
                filled(shape, floats.of(values, half::f16::NAN, half)?)
            }
            (Kind::Plain, Values::Double(values)) => {
                filled(shape, floats.of(values, Absent::F64, |&value| value)?)
            }
            (Kind::Int { signed: false, .. }, Values::Int32(values)) => filled(
                shape,
                floats.of(values, Absent::F64, |value| {
                    f64::from(value.cast_unsigned())
                })?,
            ),
            (Kind::Int { signed: false, .. }, Values::Int64(values)) => filled(
                shape,
                floats.of(values, Absent::F64, |value| value.cast_unsigned() as f64)?,
            ),
            (Kind::Plain | Kind::Int { .. }, Values::Int32(values)) => filled(
                shape,
                floats.of(values, Absent::F64, |&value| f64::from(value))?,
            ),
            (Kind::Plain | Kind::Int { .. }, Values::Int64(values)) => filled(
                shape,
                floats.of(values, Absent::F64, |&value| value as f64)?,
            ),
            _ => return self.objects(shape, present),
        };
        Ok(Array::Tensor(tensor))
    }

    fn objects(mut self, shape: Vec<usize>, present: &[bool]) -> Result<Array, ParquetError> {
        let mut next = 0;
        let mut cells = self.meter.vec(present.len())?;
        for &present in present {
            cells.push(if present {
                next += 1;
                self.cell(next - 1)?
            } else {
                Json::Null
            });
        }
        Ok(objects(shape, cells))
    }

    /// Columns of lists.
    fn lists(
        mut self,
        levels: &Levels,
        leaf: &ColumnDescriptor,
        rows: usize,
    ) -> Result<Vec<Json>, ParquetError> {
        let full = leaf.max_def_level();
        // The level of an element that is there, with or without a value.
        let there = full - i16::from(leaf.self_type().is_optional());
        let meter = self.meter;
        let mut lists = meter.vec(rows)?;
        let mut row: Option<Option<Cells>> = None;
        let mut next = 0;
        for (&definition, &repetition) in levels.definition.iter().zip(&levels.repetition) {
            if repetition == 0 {
                let is_list = definition >= there - 1;
                if let Some(row) = row.replace(is_list.then(Cells::default)) {
                    meter.push(&mut lists, list(row, meter)?)?;
                }
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
            if let Some(Some(row)) = &mut row {
                row.push(cell, meter)?;
            }
        }
        if let Some(row) = row {
            meter.push(&mut lists, list(row, meter)?)?;
        }
        Ok(lists)
    }

    /// A text of a few digits.
    fn short(&self, text: String) -> Result<Json, OverBudget> {
        self.meter.charge(block(text.capacity()))?;
        Ok(Json::Text(text))
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
                self.meter.charge(block(value.len()))?;
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
                self.short(text::decimal(unscaled, scale)?)?
            }
            (Kind::Date, Values::Int32(values)) => self.short(text::date(*at!(values))?)?,
            // No signature of an ONNX model can ask for it.
            _ => Json::Object(vec![]),
        })
    }
}

fn list(cells: Option<Cells>, meter: &Meter) -> Result<Json, OverBudget> {
    let Some(cells) = cells else {
        return Ok(Json::Null);
    };
    meter.charge(block_of::<usize>(1))?;
    Json::array(vec![cells.len()], cells, meter)
}

/// Makes floats of values of which some are missing.
struct Floats<'p> {
    present: &'p [bool],
    meter: &'p Meter,
}

impl Floats<'_> {
    fn of<V, T: Element>(
        &self,
        values: &[V],
        absent: T,
        float: impl Fn(&V) -> T,
    ) -> Result<Vec<T>, ParquetError> {
        let mut values = values.iter();
        let mut floats = self.meter.vec(self.present.len())?;
        for &present in self.present {
            floats.push(if present {
                let missing = || broken("a column has fewer values than rows");
                float(values.next().ok_or_else(missing)?)
            } else {
                absent
            });
        }
        Ok(floats)
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

/// Whole numbers of a declared width.
fn ints(
    shape: Vec<usize>,
    (bits, signed): (i8, bool),
    values: impl Iterator<Item = i64>,
    meter: &Meter,
) -> Result<Array, ParquetError> {
    let count = shape.iter().product();
    macro_rules! made {
        ($rust:ty, $make:expr) => {{
            let mut ints: Vec<$rust> = meter.vec(count)?;
            for value in values {
                ints.push($make(value)?);
            }
            filled(shape, ints)
        }};
    }
    macro_rules! narrow {
        ($rust:ty) => {
            made!($rust, |value: i64| <$rust>::try_from(value)
                .map_err(|_| wrong_width()))
        };
    }
    type Made<T> = Result<T, ParquetError>;
    Ok(Array::Tensor(match (bits, signed) {
        (8, true) => narrow!(i8),
        (16, true) => narrow!(i16),
        (32, true) => narrow!(i32),
        (64, true) => made!(i64, |value: i64| -> Made<i64> { Ok(value) }),
        (8, false) => narrow!(u8),
        (16, false) => narrow!(u16),
        // Stored as the signed number of the same bits.
        (32, false) => {
            let unsigned = |value: i64| {
                let value = i32::try_from(value).map_err(|_| wrong_width())?;
                Ok::<u32, ParquetError>(value.cast_unsigned())
            };
            made!(u32, unsigned)
        }
        (64, false) => made!(u64, |value: i64| -> Made<u64> { Ok(value.cast_unsigned()) }),
        _ => return Err(wrong_width()),
    }))
}

fn wrong_width() -> ParquetError {
    broken("a whole number is wider than its column")
}
