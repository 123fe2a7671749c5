//! Values of tensors as Arrow arrays.

use std::sync::Arc;

use arrow_array::builder::{BooleanBuilder, PrimitiveBuilder, StringBuilder};
use arrow_array::types::{
    ArrowPrimitiveType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{ArrayRef, Int64Array, ListArray, StringArray, StructArray};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_schema::{ArrowError, DataType, Field, FieldRef, Fields};
use half::{bf16, f16};

use super::record::hashes;
use crate::tensor::{DType, Element, Tensor};

/// What one request brings to a column.
#[derive(Debug, Clone)]
pub(super) enum Cells<'a> {
    /// Nothing, for so many rows.
    Missing(usize),
    /// So many values for each row.
    Values {
        tensor: &'a Tensor,
        rows: usize,
        /// Where the first row begins, and how far it is from one to the next.
        start: usize,
        stride: usize,
        width: usize,
    },
    /// A shape and a hash for each row, or the same for all.
    Digest {
        shape: &'a [usize],
        hashes: &'a [u64],
        rows: usize,
    },
}

impl Cells<'_> {
    pub(super) fn rows(&self) -> usize {
        match self {
            Self::Missing(rows) => *rows,
            Self::Values { rows, .. } | Self::Digest { rows, .. } => *rows,
        }
    }
}

/// The Arrow type of an element.
pub(super) fn arrow_type(dtype: DType) -> DataType {
    match dtype {
        DType::Bool => DataType::Boolean,
        DType::U8 => DataType::UInt8,
        DType::U16 => DataType::UInt16,
        DType::U32 => DataType::UInt32,
        DType::U64 => DataType::UInt64,
        DType::I8 => DataType::Int8,
        DType::I16 => DataType::Int16,
        DType::I32 => DataType::Int32,
        DType::I64 => DataType::Int64,
        DType::F16 => DataType::Float16,
        // Arrow has none; a single holds all of its values.
        DType::Bf16 | DType::F32 => DataType::Float32,
        DType::F64 => DataType::Float64,
        DType::String => DataType::Utf8,
    }
}

/// One value for each row.
pub(super) fn scalars(dtype: DType, cells: &[Cells<'_>]) -> ArrayRef {
    elements(dtype, cells, 1)
}

/// A list of values for each row.
pub(super) fn lists(dtype: DType, cells: &[Cells<'_>]) -> Result<ArrayRef, ArrowError> {
    let lengths = cells.iter().flat_map(|cell| match cell {
        Cells::Values { rows, width, .. } => std::iter::repeat_n(*width, *rows),
        Cells::Missing(rows) | Cells::Digest { rows, .. } => std::iter::repeat_n(0, *rows),
    });
    let offsets = OffsetBuffer::from_lengths(lengths);
    let there = cells
        .iter()
        .flat_map(|cell| std::iter::repeat_n(matches!(cell, Cells::Values { .. }), cell.rows()));
    let there: NullBuffer = there.collect::<Vec<bool>>().into();
    let values = elements(dtype, cells, 0);
    let lists = ListArray::try_new(item(dtype), offsets, values, Some(there))?;
    Ok(Arc::new(lists))
}

/// Shape, hash and values of each row.
pub(super) fn tensors(dtype: DType, cells: &[Cells<'_>]) -> Result<ArrayRef, ArrowError> {
    let shapes = cells.iter().flat_map(|cell| {
        let (rows, shape): (usize, Vec<i64>) = match cell {
            Cells::Missing(rows) => (*rows, Vec::new()),
            Cells::Values {
                tensor,
                rows,
                width,
                ..
            } => (*rows, inner_shape(tensor, *rows, *width)),
            Cells::Digest { shape, rows, .. } => {
                (*rows, shape.iter().map(|size| *size as i64).collect())
            }
        };
        std::iter::repeat_n(shape, rows)
    });
    let shapes: Vec<Vec<i64>> = shapes.collect();
    let offsets = OffsetBuffer::from_lengths(shapes.iter().map(Vec::len));
    let sizes: Int64Array = shapes.into_iter().flatten().collect();
    let shapes = ListArray::try_new(
        item(DType::I64),
        offsets,
        Arc::new(sizes),
        Some(validity(cells)),
    )?;
    let hashes: StringArray = cells.iter().flat_map(hash_texts).collect();
    let arrays: Vec<ArrayRef> = vec![Arc::new(shapes), Arc::new(hashes), lists(dtype, cells)?];
    let cells = StructArray::try_new(tensor_fields(dtype), arrays, Some(validity(cells)))?;
    Ok(Arc::new(cells))
}

/// One number for each label.
pub(super) fn maps(labels: &[String], cells: &[Cells<'_>]) -> Result<ArrayRef, ArrowError> {
    let column = |label: usize| {
        let cells: Vec<Cells<'_>> = cells
            .iter()
            .map(|cell| of_label(cell, label, labels.len()))
            .collect();
        elements(DType::F32, &cells, 1)
    };
    let arrays = (0..labels.len()).map(column).collect();
    let cells = StructArray::try_new(map_fields(labels), arrays, Some(validity(cells)))?;
    Ok(Arc::new(cells))
}

/// The column of one label in a matrix of scores.
fn of_label<'a>(cell: &Cells<'a>, label: usize, labels: usize) -> Cells<'a> {
    match cell {
        Cells::Values { tensor, rows, .. } if tensor.len() == rows * labels => Cells::Values {
            tensor,
            rows: *rows,
            start: label,
            stride: labels,
            width: 1,
        },
        cell => Cells::Missing(cell.rows()),
    }
}

/// The members of a tensor's cell.
pub(super) fn tensor_fields(dtype: DType) -> Fields {
    let list = |name: &str, of: DType| Field::new(name, DataType::List(item(of)), true);
    vec![
        list("shape", DType::I64),
        Field::new("hash", DataType::Utf8, true),
        list("values", dtype),
    ]
    .into()
}

/// The members of a cell with a number for each label.
pub(super) fn map_fields(labels: &[String]) -> Fields {
    let field = |label: &String| Field::new(label, DataType::Float32, true);
    labels.iter().map(field).collect()
}

pub(super) fn item(dtype: DType) -> FieldRef {
    Arc::new(Field::new("item", arrow_type(dtype), true))
}

fn validity(cells: &[Cells<'_>]) -> NullBuffer {
    let there = cells
        .iter()
        .flat_map(|cell| std::iter::repeat_n(!matches!(cell, Cells::Missing(_)), cell.rows()));
    there.collect::<Vec<bool>>().into()
}

/// The shape of one row.
fn inner_shape(tensor: &Tensor, rows: usize, width: usize) -> Vec<i64> {
    let inner = if tensor.len() == width {
        tensor.shape()
    } else {
        &tensor.shape()[1..]
    };
    let inner = if rows == 1 && tensor.rows() == Some(1) {
        &tensor.shape()[1..]
    } else {
        inner
    };
    inner.iter().map(|size| *size as i64).collect()
}

/// The hashes of a request's rows as text.
fn hash_texts(cell: &Cells<'_>) -> Vec<Option<String>> {
    let text = |hash: &u64| Some(format!("{hash:016x}"));
    match cell {
        Cells::Missing(rows) => vec![None; *rows],
        Cells::Digest { hashes, rows, .. } if hashes.len() == *rows => {
            hashes.iter().map(text).collect()
        }
        Cells::Digest { hashes, rows, .. } => vec![hashes.first().and_then(text); *rows],
        Cells::Values {
            tensor,
            rows,
            stride: 0,
            ..
        } => vec![hashes(tensor, 1).first().and_then(text); *rows],
        Cells::Values { tensor, rows, .. } => hashes(tensor, *rows).iter().map(text).collect(),
    }
}

/// The values of all cells one after the other; `missing` nulls for each row that has none.
fn elements(dtype: DType, cells: &[Cells<'_>], missing: usize) -> ArrayRef {
    match dtype {
        DType::Bool => bools(cells, missing),
        DType::U8 => numbers::<UInt8Type, u8>(cells, missing, |value| value),
        DType::U16 => numbers::<UInt16Type, u16>(cells, missing, |value| value),
        DType::U32 => numbers::<UInt32Type, u32>(cells, missing, |value| value),
        DType::U64 => numbers::<UInt64Type, u64>(cells, missing, |value| value),
        DType::I8 => numbers::<Int8Type, i8>(cells, missing, |value| value),
        DType::I16 => numbers::<Int16Type, i16>(cells, missing, |value| value),
        DType::I32 => numbers::<Int32Type, i32>(cells, missing, |value| value),
        DType::I64 => numbers::<Int64Type, i64>(cells, missing, |value| value),
        DType::F16 => numbers::<Float16Type, f16>(cells, missing, |value| value),
        DType::Bf16 => numbers::<Float32Type, bf16>(cells, missing, bf16::to_f32),
        DType::F32 => numbers::<Float32Type, f32>(cells, missing, |value| value),
        DType::F64 => numbers::<Float64Type, f64>(cells, missing, |value| value),
        DType::String => texts(cells, missing),
    }
}

/// Hands out the values of each row, or `None` for a row that has none.
fn each_row<'v, T>(cell: &Cells<'_>, values: &'v [T], mut row: impl FnMut(Option<&'v [T]>)) {
    match cell {
        Cells::Missing(rows) | Cells::Digest { rows, .. } => (0..*rows).for_each(|_| row(None)),
        Cells::Values {
            rows,
            start,
            stride,
            width,
            ..
        } => {
            for number in 0..*rows {
                let first = start + number * stride;
                row(values.get(first..first + width));
            }
        }
    }
}

fn numbers<A, T>(cells: &[Cells<'_>], missing: usize, convert: fn(T) -> A::Native) -> ArrayRef
where
    A: ArrowPrimitiveType,
    T: Element,
{
    let mut builder = PrimitiveBuilder::<A>::new();
    for cell in cells {
        let aligned = match cell {
            Cells::Values { tensor, .. } => Some(tensor.aligned()),
            _ => None,
        };
        let values = aligned.as_ref().and_then(|tensor| tensor.as_slice::<T>());
        each_row(cell, values.unwrap_or_default(), |row| match row {
            Some(row) => row
                .iter()
                .for_each(|value| builder.append_value(convert(*value))),
            None => builder.append_nulls(missing),
        });
    }
    Arc::new(builder.finish())
}

fn bools(cells: &[Cells<'_>], missing: usize) -> ArrayRef {
    let mut builder = BooleanBuilder::new();
    for cell in cells {
        let values = match cell {
            Cells::Values { tensor, .. } => tensor.bytes(),
            _ => &[],
        };
        each_row(cell, values, |row| match row {
            Some(row) => row
                .iter()
                .for_each(|value| builder.append_value(*value != 0)),
            None => builder.append_nulls(missing),
        });
    }
    Arc::new(builder.finish())
}

fn texts(cells: &[Cells<'_>], missing: usize) -> ArrayRef {
    let mut builder = StringBuilder::new();
    for cell in cells {
        let values = match cell {
            Cells::Values { tensor, .. } => tensor.as_strings().unwrap_or_default(),
            _ => &[],
        };
        each_row(cell, values, |row| match row {
            Some(row) => row.iter().for_each(|value| builder.append_value(value)),
            None => (0..missing).for_each(|_| builder.append_null()),
        });
    }
    Arc::new(builder.finish())
}
