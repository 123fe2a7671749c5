//! Cells as the elements of a tensor: whole numbers are fine for floats, nothing else is converted, and no number becomes an infinity.

use super::{Cells, Json};
use crate::budget::OverBudget;
use crate::protocol::meter::{Meter, block_of};
use crate::tensor::{Absent, DType, Element, Tensor, TensorError, dispatch};

/// Why cells are no tensor of a datatype.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ElementError {
    /// A value of another type, or out of range.
    #[error("the data holds {given}, expected values of {dtype}")]
    Value {
        /// The value, when it is a number, or what it is.
        given: String,
        /// The datatype.
        dtype: DType,
    },
    /// They do not fill the shape.
    #[error(transparent)]
    Shape(#[from] TensorError),
    /// They take more memory than there is for them.
    #[error(transparent)]
    OverBudget(#[from] OverBudget),
}

/// A tensor of these cells.
///
/// # Errors
/// [`ElementError`], with the first value that does not fit.
pub(crate) fn tensor_of(
    dtype: DType,
    shape: Vec<usize>,
    cells: Cells,
    meter: &Meter,
) -> Result<Tensor, ElementError> {
    let elements = Elements { dtype, meter };
    let tensor = dispatch!(
        dtype,
        integer T => Tensor::from_vec(shape, elements.ints::<T>(cells)?),
        DType::I64 => match cells {
            Cells::Int(values) => Tensor::from_vec(shape, values),
            cells => Tensor::from_vec(shape, elements.ints::<i64>(cells)?),
        },
        DType::F32 => Tensor::from_vec(shape, elements.floats(cells, Absent::narrow, f32::is_finite)?),
        DType::F64 => Tensor::from_vec(shape, elements.doubles(cells)?),
        DType::F16 => {
            let values = elements.floats(cells, half::f16::from_f64, half::f16::is_finite)?;
            Tensor::from_vec(shape, values)
        },
        DType::Bf16 => {
            let values = elements.floats(cells, half::bf16::from_f64, half::bf16::is_finite)?;
            Tensor::from_vec(shape, values)
        },
        DType::Bool => Tensor::from_bools(shape, &elements.bools(cells)?),
        DType::String => Tensor::from_strings(shape, elements.strings(cells)?),
    );
    Ok(tensor?)
}

struct Elements<'m> {
    dtype: DType,
    meter: &'m Meter,
}

impl Elements<'_> {
    fn refuse(&self, value: &Json) -> ElementError {
        let given = match value {
            Json::Null => "null".to_owned(),
            Json::Bool(value) => value.to_string(),
            Json::Int(value) => value.to_string(),
            Json::Big(digits) => digits.chars().take(40).collect(),
            // With an exponent where it is long.
            Json::Float(value) => format!("{value:?}"),
            Json::Text(_) => "a string".to_owned(),
            Json::Array(_) | Json::List(_) => "a list".to_owned(),
            Json::Object(_) => "an object".to_owned(),
        };
        let dtype = self.dtype;
        ElementError::Value { given, dtype }
    }

    fn bools(&self, cells: Cells) -> Result<Vec<bool>, ElementError> {
        // They are copied into the tensor.
        self.meter.charge(block_of::<bool>(cells.len()))?;
        if let Cells::Bool(values) = cells {
            return Ok(values);
        }
        self.each(cells, |cell| match cell {
            Json::Bool(value) => Ok(value),
            other => Err(self.refuse(&other)),
        })
    }

    fn strings(&self, cells: Cells) -> Result<Vec<String>, ElementError> {
        // A tensor has a vector of its own.
        self.meter.charge(block_of::<String>(cells.len()))?;
        if let Cells::Text(values) = cells {
            return Ok(values);
        }
        self.each(cells, |cell| match cell {
            Json::Text(value) => Ok(value),
            other => Err(self.refuse(&other)),
        })
    }

    fn doubles(&self, cells: Cells) -> Result<Vec<f64>, ElementError> {
        match cells {
            Cells::Number(numbers) => Ok(numbers.values),
            other => self.floats(other, |value| value, f64::is_finite),
        }
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "a whole number for a float is rounded to it"
    )]
    fn floats<T: Copy>(
        &self,
        cells: Cells,
        narrow: impl Fn(f64) -> T,
        is_finite: impl Fn(T) -> bool,
    ) -> Result<Vec<T>, ElementError> {
        // A number that is too large would arrive as an infinity, which the client has not sent.
        let held = |value: f64| {
            let narrowed = narrow(value);
            (is_finite(narrowed) || !value.is_finite()).then_some(narrowed)
        };
        if let Cells::Number(numbers) = cells {
            let mut floats = self.meter.vec(numbers.values.len())?;
            for value in numbers.values {
                floats.push(held(value).ok_or_else(|| self.refuse(&Json::Float(value)))?);
            }
            return Ok(floats);
        }
        self.each(cells, |cell| {
            let float = match &cell {
                Json::Int(value) => *value as f64,
                Json::Float(value) => *value,
                Json::Big(digits) => {
                    let float = digits.parse().ok().filter(|float: &f64| float.is_finite());
                    float.ok_or_else(|| self.refuse(&cell))?
                }
                // What this server writes for a NaN, it also reads.
                Json::Null => Absent::F64,
                _ => return Err(self.refuse(&cell)),
            };
            held(float).ok_or_else(|| self.refuse(&cell))
        })
    }

    fn ints<T: Element + TryFrom<i64> + std::str::FromStr>(
        &self,
        cells: Cells,
    ) -> Result<Vec<T>, ElementError> {
        self.each(cells, |cell| match &cell {
            Json::Int(value) => T::try_from(*value).map_err(|_| self.refuse(&cell)),
            Json::Big(digits) => digits.parse().map_err(|_| self.refuse(&cell)),
            _ => Err(self.refuse(&cell)),
        })
    }

    fn each<T>(
        &self,
        cells: Cells,
        mut element: impl FnMut(Json) -> Result<T, ElementError>,
    ) -> Result<Vec<T>, ElementError> {
        let mut elements = self.meter.vec(cells.len())?;
        for cell in cells.into_iter() {
            elements.push(element(cell)?);
        }
        Ok(elements)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::json::Reader;

    fn read(text: &str, dtype: DType) -> Result<Tensor, ElementError> {
        let value = Reader::new(text.as_bytes()).unwrap().value().unwrap();
        let Json::Array(flat) = value else {
            panic!("{text} is no array");
        };
        tensor_of(dtype, flat.shape, flat.cells, &Meter::unlimited())
    }

    #[test]
    fn whole_numbers_are_fine_for_floats_and_nothing_else_is_converted() {
        let floats = read("[1, 2.5, null]", DType::F32).unwrap();
        let floats = floats.to_vec::<f32>().unwrap();
        assert_eq!(floats[..2], [1.0, 2.5]);
        assert!(floats[2].is_nan());
        let big = read("[18446744073709551615]", DType::U64).unwrap();
        assert_eq!(big.to_vec::<u64>().unwrap(), [u64::MAX]);
        for (text, dtype, given) in [
            ("[1, 2.5]", DType::I64, "2.5"),
            ("[300]", DType::U8, "300"),
            ("[\"1\"]", DType::F32, "a string"),
            ("[1]", DType::String, "1"),
            ("[1]", DType::Bool, "1"),
            ("[true]", DType::F64, "true"),
        ] {
            let error = read(text, dtype).unwrap_err().to_string();
            assert_eq!(
                error,
                format!("the data holds {given}, expected values of {dtype}")
            );
        }
    }

    #[test]
    fn no_number_becomes_an_infinity() {
        let digits = format!("1{}", "0".repeat(400));
        for (text, dtype, given) in [
            ("1e39", DType::F32, "1e39"),
            ("-3.5e38", DType::F32, "-3.5e38"),
            ("1e39, null", DType::F32, "1e39"),
            ("65520", DType::F16, "65520"),
            ("1e39", DType::Bf16, "1e39"),
            (&digits, DType::F64, &digits[..40]),
        ] {
            let error = read(&format!("[{text}]"), dtype).unwrap_err().to_string();
            assert_eq!(
                error,
                format!("the data holds {given}, expected values of {dtype}")
            );
        }
        let largest = read("[3.4028235e38, Infinity, -Infinity]", DType::F32).unwrap();
        let expected = [f32::MAX, f32::INFINITY, f32::NEG_INFINITY];
        assert_eq!(largest.to_vec::<f32>().unwrap(), expected);
    }
}
