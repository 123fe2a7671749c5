//! The inputs of logged requests, as a package takes them.

use std::ops::Range;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{
    ArrowPrimitiveType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array as _, ArrayRef};
use half::{bf16, f16};

use super::PayloadError;
use super::layout::{Column, Kind, Plan, Source};
use super::options::ColumnOptions;
use super::read::{LogFile, texts};
use crate::model::{Batch, Package, Signature};
use crate::tensor::{DType, Element, Tensor};

/// Makes batches for one package of the rows of any log that has its columns.
#[derive(Debug)]
pub struct Replay {
    plan: Plan,
    signature: Signature,
}

/// The values of one column for some rows.
struct Values {
    /// All of them.
    tensor: Tensor,
    /// The shape of a row, where the log says it.
    inner: Option<Vec<usize>>,
}

impl Replay {
    /// For a package with this signature for clients.
    pub fn new(package: &Package) -> Self {
        Self {
            plan: Plan::new(package, &ColumnOptions::default()),
            signature: package.signature(),
        }
    }

    #[cfg(test)]
    pub(super) fn of_signature(signature: Signature) -> Self {
        Self {
            plan: Plan::of_signature(&signature, None, &ColumnOptions::default()),
            signature,
        }
    }

    /// The inputs of the request in these rows.
    ///
    /// # Errors
    /// When a column is missing, hashed or of another type, or the values are not kept.
    pub fn batch(&self, file: &LogFile, rows: Range<usize>) -> Result<Batch, PayloadError> {
        let mut named = Vec::new();
        for (index, input) in self.signature.inputs.iter().enumerate() {
            let of_input = |column: &&Column| match column.source {
                Source::Input(own) => own == index,
                Source::Part { input, .. } => input == index,
                Source::Output(_) => false,
            };
            let columns: Vec<&Column> = self.plan.columns.iter().filter(of_input).collect();
            let is_absent = |column: &&Column| file.rows.column_by_name(&column.name).is_none();
            if input.is_optional() && columns.iter().all(is_absent) {
                continue;
            }
            let carries = self.plan.carries[index];
            let rows = if carries {
                rows.clone()
            } else {
                rows.start..rows.start + 1
            };
            let mut parts = Vec::new();
            for column in &columns {
                parts.push(values(file, column, rows.clone())?);
            }
            let is_split = columns
                .iter()
                .any(|column| matches!(column.source, Source::Part { .. }));
            let tensor = if is_split {
                joined(parts, rows.len())
            } else {
                parts.pop().and_then(|part| {
                    part.shaped(input.shape.as_ref().map(Vec::len), rows.len(), carries)
                })
            };
            let tensor = tensor.ok_or_else(|| PayloadError::File {
                file: file.name.clone(),
                reason: format!(
                    "has no tensor for input `{}` in row {}",
                    input.name, rows.start
                ),
            })?;
            named.push((input.name.clone(), tensor));
        }
        self.signature
            .bind(named)
            .map_err(|error| PayloadError::File {
                file: file.name.clone(),
                reason: format!("does not fit the package in row {}: {error}", rows.start),
            })
    }
}

impl Values {
    /// In the shape of an input of this rank.
    fn shaped(self, rank: Option<usize>, rows: usize, carries: bool) -> Option<Tensor> {
        let width = self.tensor.len().checked_div(rows)?;
        let inner = match (self.inner, rank) {
            (Some(inner), _) => inner,
            (None, Some(rank)) if rank == usize::from(carries) => Vec::new(),
            (None, _) => vec![width],
        };
        let shape = if carries {
            [&[rows], inner.as_slice()].concat()
        } else {
            inner
        };
        self.tensor.reshaped(shape).ok()
    }
}

/// Columns side by side as one matrix.
fn joined(parts: Vec<Values>, rows: usize) -> Option<Tensor> {
    fn interleaved<T: Copy>(parts: &[&[T]], rows: usize) -> Option<Vec<T>> {
        let mut all = Vec::with_capacity(parts.len() * rows);
        for row in 0..rows {
            for part in parts {
                all.push(*part.get(row)?);
            }
        }
        Some(all)
    }
    let width = parts.len();
    let first = parts.first()?.tensor.dtype();
    if first == DType::String {
        let parts: Option<Vec<&[String]>> =
            parts.iter().map(|part| part.tensor.as_strings()).collect();
        let parts = parts?;
        let texts = (0..rows).flat_map(|row| parts.iter().map(move |part| part[row].clone()));
        return Tensor::from_strings(vec![rows, width], texts.collect()).ok();
    }
    let size = first.width()?;
    let bytes: Vec<&[u8]> = parts.iter().map(|part| part.tensor.bytes()).collect();
    let chunks: Vec<Vec<&[u8]>> = bytes
        .iter()
        .map(|bytes| bytes.chunks_exact(size).collect())
        .collect();
    let chunks: Vec<&[&[u8]]> = chunks.iter().map(Vec::as_slice).collect();
    let all = interleaved(&chunks, rows)?.concat();
    let storage = crate::tensor::Storage::Shared(all.into());
    Tensor::from_storage(first, vec![rows, width], storage).ok()
}

fn values(file: &LogFile, column: &Column, rows: Range<usize>) -> Result<Values, PayloadError> {
    let name = &column.name;
    if file.hashed.contains(name) {
        return Err(PayloadError::File {
            file: file.name.clone(),
            reason: format!(
                "has only hashes in column `{name}` (`payload_log.hash`): it cannot be run again"
            ),
        });
    }
    let array = file.column(name)?.slice(rows.start, rows.len());
    let unfit = || {
        file.unfit(
            name,
            &array,
            &format!("{} as the package takes", column.dtype),
        )
    };
    if array.null_count() > 0 {
        return Err(PayloadError::File {
            file: file.name.clone(),
            reason: format!("has no value in column `{name}` in row {}", rows.start),
        });
    }
    let (inner, flat) = match array.data_type() {
        arrow_schema::DataType::Struct(_) => {
            let cell = array.as_struct();
            let (shape, values) = (cell.column_by_name("shape"), cell.column_by_name("values"));
            let (shape, values) = shape.zip(values).ok_or_else(unfit)?;
            let sizes = shape.as_list_opt::<i32>().ok_or_else(unfit)?.value(0);
            let sizes = sizes
                .as_primitive_opt::<Int64Type>()
                .ok_or_else(unfit)?
                .values()
                .to_vec();
            if values.null_count() > 0 {
                return Err(PayloadError::File {
                    file: file.name.clone(),
                    reason: format!(
                        "has only the shape and a hash of `{name}`: log with `payload_log.tensors = true` to run it again"
                    ),
                });
            }
            let inner = sizes
                .iter()
                .map(|size| usize::try_from(*size).unwrap_or(0))
                .collect();
            (Some(inner), listed(values).ok_or_else(unfit)?)
        }
        _ => match (&column.kind, listed(&array)) {
            (_, Some(flat)) => {
                let width = flat.len().checked_div(rows.len()).unwrap_or(0);
                (Some(vec![width]), flat)
            }
            (_, None) => (None, array.clone()),
        },
    };
    let tensor = elements(&flat, column.dtype).ok_or_else(unfit)?;
    let inner = inner.filter(|_| column.kind != Kind::Scalar);
    Ok(Values { tensor, inner })
}

/// The elements of lists one after the other; `None` of what are no lists.
fn listed(array: &ArrayRef) -> Option<ArrayRef> {
    if let Some(lists) = array.as_fixed_size_list_opt() {
        // Those of a slice, too: its values are sliced with it.
        return Some(lists.values().clone());
    }
    if let Some(lists) = array.as_list_opt::<i32>() {
        let (start, end) = (
            *lists.value_offsets().first()?,
            *lists.value_offsets().last()?,
        );
        let (start, end) = (usize::try_from(start).ok()?, usize::try_from(end).ok()?);
        return Some(lists.values().slice(start, end - start));
    }
    let lists = array.as_list_opt::<i64>()?;
    let (start, end) = (
        *lists.value_offsets().first()?,
        *lists.value_offsets().last()?,
    );
    let (start, end) = (usize::try_from(start).ok()?, usize::try_from(end).ok()?);
    Some(lists.values().slice(start, end - start))
}

/// Elements as a flat tensor, without any cast.
fn elements(array: &ArrayRef, dtype: DType) -> Option<Tensor> {
    let shape = vec![array.len()];
    match dtype {
        DType::Bool => {
            let values: Vec<bool> = array.as_boolean_opt()?.iter().flatten().collect();
            Tensor::from_bools(shape, &values).ok()
        }
        DType::U8 => numbers::<UInt8Type, u8>(array, |value| value),
        DType::U16 => numbers::<UInt16Type, u16>(array, |value| value),
        DType::U32 => numbers::<UInt32Type, u32>(array, |value| value),
        DType::U64 => numbers::<UInt64Type, u64>(array, |value| value),
        DType::I8 => numbers::<Int8Type, i8>(array, |value| value),
        DType::I16 => numbers::<Int16Type, i16>(array, |value| value),
        DType::I32 => numbers::<Int32Type, i32>(array, |value| value),
        DType::I64 => numbers::<Int64Type, i64>(array, |value| value),
        DType::F16 => numbers::<Float16Type, f16>(array, |value| value),
        DType::Bf16 => numbers::<Float32Type, bf16>(array, bf16::from_f32),
        DType::F32 => numbers::<Float32Type, f32>(array, |value| value),
        DType::F64 => numbers::<Float64Type, f64>(array, |value| value),
        DType::String => {
            let texts: Vec<String> = texts(array)?.into_iter().collect::<Option<_>>()?;
            Tensor::from_strings(shape, texts).ok()
        }
    }
}

fn numbers<A: ArrowPrimitiveType, T: Element>(
    array: &ArrayRef,
    convert: fn(A::Native) -> T,
) -> Option<Tensor> {
    let values = array.as_primitive_opt::<A>()?.values().iter();
    Tensor::from_vec(
        vec![array.len()],
        values.map(|value| convert(*value)).collect(),
    )
    .ok()
}
