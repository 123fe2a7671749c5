//! A frame as one matrix.

use std::borrow::Cow;

use super::{Column, Frame, into_cells, to_f64, to_i64};
use crate::budget::OverBudget;
use crate::protocol::json::Json;
use crate::protocol::meter::{Meter, block_of};
use crate::protocol::pandas::array::{
    Array, filled, metered_bools, metered_texts, objects, to_f32,
};
use crate::tensor::{DType, Element, Tensor, dispatch};

impl Frame {
    /// `frame.values`: one matrix of the columns' common type; of singles where `wanted` are singles and these are doubles.
    ///
    /// # Errors
    /// [`OverBudget`].
    pub(crate) fn values(self, wanted: Option<DType>, meter: &Meter) -> Result<Array, OverBudget> {
        let shape = vec![self.rows, self.columns.len()];
        let Some((dtype, uniform)) = common_dtype(&self.columns) else {
            return self.objects(meter);
        };
        let matrix = Matrix {
            frame: &self,
            uniform,
            meter,
        };
        let tensor = dispatch!(
            dtype,
            number T => filled(shape, matrix.of(T::default(), elements::<T>, |value| value)?),
            DType::Bool => metered_bools(shape, matrix.of(false, bytes, |byte| byte != 0)?, meter)?,
            DType::String => metered_texts(shape, matrix.texts()?, meter)?,
            DType::I64 => filled(shape, matrix.of(0, longs, |value| value)?),
            DType::F64 => match wanted {
                Some(DType::F32) => filled(shape, matrix.of(0.0, doubles, to_f32)?),
                _ => filled(shape, matrix.of(0.0, doubles, |value| value)?),
            },
        );
        let heap = self.columns.iter().map(|column| column.data.heap()).sum();
        drop(self);
        meter.release(heap);
        Ok(Array::Tensor(tensor))
    }

    fn objects(self, meter: &Meter) -> Result<Array, OverBudget> {
        let shape = vec![self.rows, self.columns.len()];
        let mut columns = meter.vec(self.columns.len())?;
        for column in self.columns {
            columns.push(into_cells(column.data, meter)?.into_iter());
        }
        let mut out = meter.vec(self.rows.saturating_mul(columns.len()))?;
        for _ in 0..self.rows {
            let cells = columns.iter_mut();
            out.extend(cells.map(|column| column.next().unwrap_or(Json::Null)));
        }
        Ok(objects(shape, out))
    }
}

/// Puts columns side by side.
struct Matrix<'f> {
    frame: &'f Frame,
    /// Whether all columns have the type of the matrix: the others are copied.
    uniform: bool,
    meter: &'f Meter,
}

impl Matrix<'_> {
    /// Row-major, one column after the other.
    fn of<S: Copy, T: Copy>(
        &self,
        empty: T,
        read: impl Fn(&Tensor) -> Cow<'_, [S]>,
        map: impl Fn(S) -> T,
    ) -> Result<Vec<T>, OverBudget> {
        let Frame { columns, rows } = self.frame;
        let width = columns.len();
        let count = rows.saturating_mul(width);
        let mut out = self.meter.vec(count)?;
        let copy = if self.uniform {
            0
        } else {
            block_of::<u64>(*rows)
        };
        self.meter.charge(copy)?;
        out.resize(count, empty);
        for (index, column) in columns.iter().enumerate() {
            if let Array::Tensor(tensor) = &column.data {
                let values = read(tensor);
                let places = out.iter_mut().skip(index).step_by(width);
                places
                    .zip(values.iter())
                    .for_each(|(place, value)| *place = map(*value));
            }
        }
        self.meter.release(copy);
        Ok(out)
    }

    fn texts(&self) -> Result<Vec<String>, OverBudget> {
        let Frame { columns, rows } = self.frame;
        let mut texts = self.meter.vec(columns.len())?;
        for column in columns {
            if let Array::Tensor(tensor) = &column.data {
                texts.push(tensor.as_strings().unwrap_or_default());
            }
        }
        let mut out = self.meter.vec(rows.saturating_mul(texts.len()))?;
        for row in 0..*rows {
            for column in &texts {
                out.push(self.meter.text(&column[row])?);
            }
        }
        Ok(out)
    }
}

fn bytes(tensor: &Tensor) -> Cow<'_, [u8]> {
    Cow::Borrowed(tensor.bytes())
}

/// The elements where they lie; what was read here lies aligned.
fn elements<T: Element>(tensor: &Tensor) -> Cow<'_, [T]> {
    match tensor.as_slice() {
        Some(values) => Cow::Borrowed(values),
        None => Cow::Owned(tensor.to_vec().unwrap_or_default()),
    }
}

fn doubles(tensor: &Tensor) -> Cow<'_, [f64]> {
    match tensor.as_slice() {
        Some(values) => Cow::Borrowed(values),
        None => Cow::Owned(to_f64(tensor)),
    }
}

fn longs(tensor: &Tensor) -> Cow<'_, [i64]> {
    match tensor.as_slice() {
        Some(values) => Cow::Borrowed(values),
        None => Cow::Owned(to_i64(tensor)),
    }
}

/// The type that holds all columns, as numpy promotes them, and whether it is the type of each; `None` is `object`.
fn common_dtype(columns: &[Column]) -> Option<(DType, bool)> {
    let mut common: Option<(DType, bool)> = None;
    for column in columns {
        let dtype = column.data.dtype()?;
        common = Some(match common {
            None => (dtype, true),
            Some((same, uniform)) if same == dtype => (dtype, uniform),
            Some((DType::Bool | DType::String, _)) => return None,
            Some(_) if matches!(dtype, DType::Bool | DType::String) => return None,
            Some((DType::I32 | DType::I64, _)) if matches!(dtype, DType::I32 | DType::I64) => {
                (DType::I64, false)
            }
            Some(_) => (DType::F64, false),
        });
    }
    common
}
