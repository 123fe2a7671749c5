//! The values of one leaf of a schema, as they stand in a file, and what they mean.

use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::{ConvertedType, LogicalType};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl, get_column_reader};
use parquet::data_type::{ByteArray, DataType, FixedLenByteArray, Int96};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::properties::ReaderProperties;
use parquet::file::serialized_reader::SerializedPageReader;
use parquet::schema::types::ColumnDescriptor;

use super::guard::{Budget, Size};
use super::{ParquetError, broken};
use crate::budget::OverBudget;
use crate::protocol::meter::{Meter, block_of};

/// What the values of a column mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    /// Whole numbers of so many bits.
    Int {
        bits: i8,
        signed: bool,
    },
    Half,
    Text,
    /// Whole numbers of which so many digits stand behind the point.
    Decimal(i32),
    Date,
    Instant {
        zoned: bool,
    },
    /// Nothing but missing values.
    Null,
    /// What has no place in a tensor or a signature.
    Other,
}

/// The values of a column, without the missing ones.
pub(crate) enum Values {
    Bool(Vec<bool>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Int96(Vec<Int96>),
    Float(Vec<f32>),
    Double(Vec<f64>),
    Bytes(Vec<ByteArray>),
    Fixed(Vec<FixedLenByteArray>),
}

/// What a file says of one column.
#[derive(Default)]
pub(crate) struct Levels {
    pub(crate) definition: Vec<i16>,
    pub(crate) repetition: Vec<i16>,
}

impl Levels {
    /// Makes room for the levels of a group.
    fn reserve(
        &mut self,
        size: &Size,
        descriptor: &ColumnDescriptor,
        meter: &Meter,
    ) -> Result<(), OverBudget> {
        let both = [
            (descriptor.max_def_level(), &mut self.definition),
            (descriptor.max_rep_level(), &mut self.repetition),
        ];
        for (level, levels) in both {
            if level > 0 {
                meter.charge(block_of::<i16>(size.values))?;
                levels.reserve_exact(size.values);
            }
        }
        Ok(())
    }
}

/// What the values of a leaf mean.
pub(crate) fn kind(leaf: &ColumnDescriptor) -> Kind {
    if let Some(logical) = leaf.logical_type_ref() {
        return match logical {
            LogicalType::String | LogicalType::Enum | LogicalType::Json => Kind::Text,
            LogicalType::Integer(int) => Kind::Int {
                bits: int.bit_width,
                signed: int.is_signed,
            },
            LogicalType::Decimal(decimal) => Kind::Decimal(decimal.scale),
            LogicalType::Date => Kind::Date,
            LogicalType::Timestamp(timestamp) => Kind::Instant {
                zoned: timestamp.is_adjusted_to_u_t_c,
            },
            LogicalType::Float16 => Kind::Half,
            LogicalType::Unknown => Kind::Null,
            LogicalType::Bson => Kind::Plain,
            _ => Kind::Other,
        };
    }
    let int = |bits, signed| Kind::Int { bits, signed };
    match leaf.converted_type() {
        ConvertedType::NONE | ConvertedType::BSON => Kind::Plain,
        ConvertedType::UTF8 | ConvertedType::ENUM | ConvertedType::JSON => Kind::Text,
        ConvertedType::DECIMAL => Kind::Decimal(leaf.type_scale()),
        ConvertedType::DATE => Kind::Date,
        // Older files do not say whether they mean a zone.
        ConvertedType::TIMESTAMP_MILLIS | ConvertedType::TIMESTAMP_MICROS => {
            Kind::Instant { zoned: false }
        }
        ConvertedType::INT_8 => int(8, true),
        ConvertedType::INT_16 => int(16, true),
        ConvertedType::INT_32 => int(32, true),
        ConvertedType::INT_64 => int(64, true),
        ConvertedType::UINT_8 => int(8, false),
        ConvertedType::UINT_16 => int(16, false),
        ConvertedType::UINT_32 => int(32, false),
        ConvertedType::UINT_64 => int(64, false),
        _ => Kind::Other,
    }
}

/// Reads a leaf, group by group.
///
/// # Errors
/// What is broken, or too large.
pub(crate) fn read(
    body: &Bytes,
    metadata: &ParquetMetaData,
    leaf: usize,
    budget: &mut Budget<'_>,
) -> Result<(Values, Levels), ParquetError> {
    let descriptor = metadata.file_metadata().schema_descr().column(leaf);
    // The older form of LZ4 inflates to whatever it likes.
    let properties = ReaderProperties::builder().set_backward_compatible_lz4(false);
    let properties = Arc::new(properties.build());
    let mut levels = Levels::default();
    let mut values = Values::none(&descriptor);
    for group in metadata.row_groups() {
        let column = group.columns().get(leaf);
        let column = column.ok_or_else(|| broken("a row group lacks a column"))?;
        let size = budget.take_column(body, column)?;
        let values_of = values.reserve(&size, budget.meter)?;
        levels.reserve(&size, &descriptor, budget.meter)?;
        let rows = usize::try_from(group.num_rows()).unwrap_or(0);
        let pages = SerializedPageReader::new_with_properties(
            Arc::new(body.clone()),
            column,
            rows,
            None,
            Arc::clone(&properties),
        )?;
        let reader = get_column_reader(Arc::clone(&descriptor), Box::new(pages));
        values.read(reader, rows, &mut levels)?;
        budget.meter.release(values_of);
    }
    Ok((values, levels))
}

impl Values {
    fn none(descriptor: &ColumnDescriptor) -> Self {
        use parquet::basic::Type;
        match descriptor.physical_type() {
            Type::BOOLEAN => Self::Bool(vec![]),
            Type::INT32 => Self::Int32(vec![]),
            Type::INT64 => Self::Int64(vec![]),
            Type::INT96 => Self::Int96(vec![]),
            Type::FLOAT => Self::Float(vec![]),
            Type::DOUBLE => Self::Double(vec![]),
            Type::BYTE_ARRAY => Self::Bytes(vec![]),
            Type::FIXED_LEN_BYTE_ARRAY => Self::Fixed(vec![]),
        }
    }

    /// Makes room for the values of a group, so that the library makes none. Gives the bytes that it takes while it reads
    /// them, beside that: a page and a dictionary.
    fn reserve(&mut self, size: &Size, meter: &Meter) -> Result<usize, OverBudget> {
        fn room<T>(values: &mut Vec<T>, size: &Size, meter: &Meter) -> Result<usize, OverBudget> {
            let before = block_of::<T>(values.capacity());
            let capacity = values.len().saturating_add(size.values);
            meter.charge(block_of::<T>(capacity).saturating_sub(before))?;
            values.reserve_exact(size.values);
            Ok(block_of::<T>(size.dictionary))
        }
        let mut pages = size.largest;
        let dictionary = match self {
            Self::Bool(values) => room(values, size, meter)?,
            Self::Int32(values) => room(values, size, meter)?,
            Self::Int64(values) => room(values, size, meter)?,
            Self::Int96(values) => room(values, size, meter)?,
            Self::Float(values) => room(values, size, meter)?,
            Self::Double(values) => room(values, size, meter)?,
            // They are parts of their pages, which live on.
            Self::Bytes(values) => {
                meter.charge(size.inflated)?;
                pages = 0;
                room(values, size, meter)?
            }
            Self::Fixed(values) => {
                meter.charge(size.inflated)?;
                pages = 0;
                room(values, size, meter)?
            }
        };
        let reading = pages.saturating_add(dictionary);
        meter.charge(reading)?;
        Ok(reading)
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Bool(values) => values.len(),
            Self::Int32(values) => values.len(),
            Self::Int64(values) => values.len(),
            Self::Int96(values) => values.len(),
            Self::Float(values) => values.len(),
            Self::Double(values) => values.len(),
            Self::Bytes(values) => values.len(),
            Self::Fixed(values) => values.len(),
        }
    }

    fn read(
        &mut self,
        reader: ColumnReader,
        rows: usize,
        levels: &mut Levels,
    ) -> Result<(), ParquetError> {
        use ColumnReader as R;
        match (self, reader) {
            (Self::Bool(values), R::BoolColumnReader(reader)) => {
                drain(reader, rows, levels, values)
            }
            (Self::Int32(values), R::Int32ColumnReader(reader)) => {
                drain(reader, rows, levels, values)
            }
            (Self::Int64(values), R::Int64ColumnReader(reader)) => {
                drain(reader, rows, levels, values)
            }
            (Self::Int96(values), R::Int96ColumnReader(reader)) => {
                drain(reader, rows, levels, values)
            }
            (Self::Float(values), R::FloatColumnReader(reader)) => {
                drain(reader, rows, levels, values)
            }
            (Self::Double(values), R::DoubleColumnReader(reader)) => {
                drain(reader, rows, levels, values)
            }
            (Self::Bytes(values), R::ByteArrayColumnReader(reader)) => {
                drain(reader, rows, levels, values)
            }
            (Self::Fixed(values), R::FixedLenByteArrayColumnReader(reader)) => {
                drain(reader, rows, levels, values)
            }
            _ => Err(broken("a column changes its type")),
        }
    }
}

/// Reads the rows of one group.
fn drain<T: DataType>(
    mut reader: ColumnReaderImpl<T>,
    rows: usize,
    levels: &mut Levels,
    values: &mut Vec<T::T>,
) -> Result<(), ParquetError> {
    let mut left = rows;
    while left > 0 {
        let (definition, repetition) = (&mut levels.definition, &mut levels.repetition);
        let (records, _, _) =
            reader.read_records(left, Some(definition), Some(repetition), values)?;
        if records == 0 {
            return Err(broken("a column has fewer rows than its group"));
        }
        left -= records;
    }
    Ok(())
}
