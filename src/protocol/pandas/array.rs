//! Arrays as numpy makes them out of JSON: `np.array(data)` and `np.array(data, dtype)`.

use std::borrow::Cow;

use half::f16;

use super::python::{self, PyError};
use crate::budget::OverBudget;
use crate::protocol::json::{Cells, Flat, Json};
use crate::protocol::meter::{Meter, block, block_of, tensor_heap};
use crate::tensor::{Absent, DType, Element, Tensor, dispatch};

/// A numpy array or a pandas column.
#[derive(Debug, Clone)]
pub(crate) enum Array {
    /// A type that ONNX has. Text stands for numpy's `<U…` and for pandas' `object` column of strings.
    Tensor(Tensor),
    /// numpy `object`: values of several types, or lists.
    Object(Objects),
    /// Values that no ONNX tensor holds; only their number matters.
    Opaque(Opaque, Vec<usize>),
}

/// An array of Python objects.
#[derive(Debug, Clone)]
pub(crate) struct Objects {
    pub(crate) shape: Vec<usize>,
    pub(crate) cells: Vec<Json>,
}

/// What an [`Array::Opaque`] holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opaque {
    /// `datetime64[ns]`.
    Datetime,
    /// `datetime64[ns, UTC]`.
    Zoned,
    /// `bytes`.
    Binary,
}

impl Array {
    pub(crate) fn shape(&self) -> &[usize] {
        match self {
            Self::Tensor(tensor) => tensor.shape(),
            Self::Object(objects) => &objects.shape,
            Self::Opaque(_, shape) => shape,
        }
    }

    /// numpy's name of the element type.
    pub(crate) fn dtype_name(&self) -> &'static str {
        match self {
            Self::Tensor(tensor) => tensor.dtype().numpy_name(),
            Self::Object(_) | Self::Opaque(Opaque::Binary, _) => "object",
            Self::Opaque(Opaque::Datetime, _) => "datetime64[ns]",
            Self::Opaque(Opaque::Zoned, _) => "datetime64[ns, UTC]",
        }
    }

    /// The element type, when ONNX has it.
    pub(crate) fn dtype(&self) -> Option<DType> {
        match self {
            Self::Tensor(tensor) => Some(tensor.dtype()),
            Self::Object(_) | Self::Opaque(..) => None,
        }
    }

    /// Bytes that its elements take on the heap.
    pub(crate) fn heap(&self) -> usize {
        match self {
            Self::Tensor(tensor) => tensor_heap(tensor),
            Self::Object(objects) => {
                let heap = objects.cells.iter().map(Json::heap).sum::<usize>();
                block_of::<Json>(objects.cells.capacity()) + heap
            }
            Self::Opaque(..) => 0,
        }
    }

    /// `np.array(data)`: the type is inferred.
    pub(crate) fn infer(data: Json, meter: &Meter) -> Result<Self, PyError> {
        match data {
            Json::Array(flat) => infer_flat(*flat, meter),
            Json::List(items) => infer_list(items),
            Json::Object(_) => Ok(objects(vec![], vec![data])),
            scalar => infer_flat(scalar_array(scalar, meter)?, meter),
        }
    }

    /// `np.array(data, dtype)`: each element is converted as Python does.
    pub(crate) fn of_type(data: Json, dtype: DType, meter: &Meter) -> Result<Self, PyError> {
        match data {
            Json::Array(flat) => convert(*flat, dtype, meter).map(Self::Tensor),
            Json::List(items)
                if items
                    .iter()
                    .all(|item| !matches!(item, Json::Array(_) | Json::List(_))) =>
            {
                let shape = vec![items.len()];
                let cells = Cells::Mixed(items);
                convert(Flat { shape, cells }, dtype, meter).map(Self::Tensor)
            }
            Json::List(_) => Err(ragged()),
            scalar => convert(scalar_array(scalar, meter)?, dtype, meter).map(Self::Tensor),
        }
    }

    /// `np.array(data, dtype=object)`.
    pub(crate) fn of_objects(data: Json, meter: &Meter) -> Result<Self, PyError> {
        Ok(match data {
            Json::Array(flat) => as_objects(flat.shape, flat.cells, meter)?,
            Json::List(items) => objects(vec![items.len()], items),
            scalar => objects(vec![], vec![scalar]),
        })
    }
}

/// An array over values that fill its shape.
pub(crate) fn objects(shape: Vec<usize>, cells: Vec<Json>) -> Array {
    Array::Object(Objects { shape, cells })
}

/// The same of cells that have a type.
pub(crate) fn as_objects(
    shape: Vec<usize>,
    cells: Cells,
    meter: &Meter,
) -> Result<Array, OverBudget> {
    if let Cells::Mixed(values) = cells {
        return Ok(objects(shape, values));
    }
    let mut values = meter.vec(cells.len())?;
    values.extend(cells.into_iter());
    Ok(objects(shape, values))
}

fn scalar_array(scalar: Json, meter: &Meter) -> Result<Flat, OverBudget> {
    Ok(Flat {
        shape: vec![],
        cells: Cells::one(scalar, meter)?,
    })
}

pub(crate) fn ragged() -> PyError {
    PyError::value(
        "setting an array element with a sequence. The requested array has an inhomogeneous shape.",
    )
}

fn infer_list(items: Vec<Json>) -> Result<Array, PyError> {
    if items.iter().all(|item| matches!(item, Json::Object(_))) {
        return Ok(objects(vec![items.len()], items));
    }
    Err(ragged())
}

fn infer_flat(flat: Flat, meter: &Meter) -> Result<Array, PyError> {
    let Flat { shape, cells } = flat;
    if cells.is_empty() {
        return Ok(Array::Tensor(filled::<f64>(shape, vec![])));
    }
    Ok(Array::Tensor(match cells {
        Cells::Int(values) => filled(shape, fitted(values, meter)),
        Cells::Number(numbers) if numbers.nulls > 0 => {
            return Ok(as_objects(shape, Cells::Number(numbers), meter)?);
        }
        Cells::Number(numbers) => filled(shape, fitted(numbers.values, meter)),
        Cells::Bool(values) => metered_bools(shape, values, meter)?,
        Cells::Text(values) => metered_texts(shape, values, meter)?,
        Cells::Mixed(values) => return infer_mixed(shape, values, meter),
    }))
}

fn infer_mixed(shape: Vec<usize>, values: Vec<Json>, meter: &Meter) -> Result<Array, PyError> {
    let any = |wanted: fn(&Json) -> bool| values.iter().any(wanted);
    let huge = any(|value| matches!(value, Json::Big(digits) if digits.parse::<u64>().is_err()));
    if huge || any(|value| matches!(value, Json::Null)) {
        return Ok(objects(shape, values));
    }
    let dtype = if any(|value| matches!(value, Json::Text(_))) {
        DType::String
    } else if any(|value| matches!(value, Json::Big(_)))
        && !any(|value| !matches!(value, Json::Big(_)))
    {
        DType::U64
    } else if any(|value| matches!(value, Json::Float(_) | Json::Big(_))) {
        DType::F64
    } else {
        DType::I64
    };
    match convert_each(
        shape.clone(),
        values.iter().map(Cow::Borrowed),
        dtype,
        meter,
    ) {
        Ok(tensor) => {
            meter.release(objects(vec![], values).heap());
            Ok(Array::Tensor(tensor))
        }
        Err(over @ PyError::OverBudget(_)) => Err(over),
        Err(_) => Ok(objects(shape, values)),
    }
}

/// Converts each element as Python's `int()`, `float()`, `bool()` or `str()` does; whole numbers that do not fit are
/// an error.
pub(crate) fn convert(flat: Flat, dtype: DType, meter: &Meter) -> Result<Tensor, PyError> {
    let Flat { shape, cells } = flat;
    match (dtype, cells) {
        (DType::F64, Cells::Number(numbers)) => Ok(filled(shape, fitted(numbers.values, meter))),
        (DType::F32, Cells::Number(numbers)) => {
            let heap = block_of::<f64>(numbers.values.capacity());
            let singles = narrow(&numbers.values, meter)?;
            meter.release(heap);
            Ok(filled(shape, singles))
        }
        (DType::I64, Cells::Int(values)) => Ok(filled(shape, fitted(values, meter))),
        (DType::Bool, Cells::Bool(values)) => Ok(metered_bools(shape, values, meter)?),
        (DType::String, Cells::Text(values)) => Ok(metered_texts(shape, values, meter)?),
        (dtype, cells) => {
            let heap = cells.heap();
            let converted = match &cells {
                Cells::Mixed(values) => {
                    convert_each(shape, values.iter().map(Cow::Borrowed), dtype, meter)
                }
                cells => {
                    let each = (0..cells.len()).filter_map(|index| cells.get(index));
                    convert_each(shape, each.map(Cow::Owned), dtype, meter)
                }
            };
            drop(cells);
            meter.release(heap);
            converted
        }
    }
}

/// As [`convert`], of as many cells as the shape has.
pub(crate) fn convert_each<'c>(
    shape: Vec<usize>,
    cells: impl Iterator<Item = Cow<'c, Json>>,
    dtype: DType,
    meter: &Meter,
) -> Result<Tensor, PyError> {
    let count = shape.iter().product();
    let into = Maker { count, meter };
    Ok(dispatch!(
        dtype,
        integer T => filled(shape, into.ints::<T>(cells)?),
        DType::Bool => {
            let values = into.each(cells, |cell| Ok(python::truthy(cell)))?;
            metered_bools(shape, values, meter)?
        },
        DType::String => {
            let values = into.each(cells, |cell| Ok(python::text(cell, meter)?))?;
            metered_texts(shape, values, meter)?
        },
        DType::F64 => filled(shape, into.floats(cells, |value| value)?),
        DType::F32 => filled(shape, into.floats(cells, to_f32)?),
        DType::F16 => filled(shape, into.floats(cells, f16::from_f64)?),
        DType::Bf16 => filled(shape, into.floats(cells, half::bf16::from_f64)?),
    ))
}

/// Makes a vector of so many elements.
struct Maker<'m> {
    count: usize,
    meter: &'m Meter,
}

impl Maker<'_> {
    fn each<'c, T>(
        &self,
        cells: impl Iterator<Item = Cow<'c, Json>>,
        convert: impl Fn(&Json) -> Result<T, PyError>,
    ) -> Result<Vec<T>, PyError> {
        let mut out = self.meter.vec(self.count)?;
        for cell in cells {
            out.push(convert(&cell)?);
        }
        Ok(out)
    }

    fn floats<'c, T>(
        &self,
        cells: impl Iterator<Item = Cow<'c, Json>>,
        narrow: impl Fn(f64) -> T,
    ) -> Result<Vec<T>, PyError> {
        self.each(cells, |cell| python::float(cell).map(&narrow))
    }

    fn ints<'c, T: Element + TryFrom<i128>>(
        &self,
        cells: impl Iterator<Item = Cow<'c, Json>>,
    ) -> Result<Vec<T>, PyError> {
        self.each(cells, |cell| {
            let int = python::int(cell)?;
            let fits_c_long = i64::try_from(int).is_ok() || T::DTYPE == DType::U64;
            T::try_from(int).map_err(|_| {
                PyError::overflow(if fits_c_long {
                    format!(
                        "Python integer {int} out of bounds for {}",
                        T::DTYPE.numpy_name()
                    )
                } else {
                    "Python int too large to convert to C long".to_owned()
                })
            })
        })
    }
}

/// The vector without the room that it does not need.
pub(crate) fn fitted<T>(mut values: Vec<T>, meter: &Meter) -> Vec<T> {
    let before = block_of::<T>(values.capacity());
    values.shrink_to_fit();
    meter.release(before.saturating_sub(block_of::<T>(values.capacity())));
    values
}

/// A tensor of booleans, which are copied.
pub(crate) fn metered_bools(
    shape: Vec<usize>,
    values: Vec<bool>,
    meter: &Meter,
) -> Result<Tensor, OverBudget> {
    meter.charge(block(values.len()))?;
    let tensor = bools(shape, &values);
    meter.release(block(values.capacity()));
    Ok(tensor)
}

/// A tensor of texts, which has a vector of its own.
pub(crate) fn metered_texts(
    shape: Vec<usize>,
    values: Vec<String>,
    meter: &Meter,
) -> Result<Tensor, OverBudget> {
    meter.charge(block_of::<String>(values.len()))?;
    let before = block_of::<String>(values.capacity());
    let tensor = texts(shape, values);
    meter.release(before);
    Ok(tensor)
}

pub(crate) fn to_f32(value: f64) -> f32 {
    Absent::narrow(value)
}

/// Doubles rounded to singles.
///
/// # Errors
/// [`OverBudget`].
pub(crate) fn narrow(values: &[f64], meter: &Meter) -> Result<Vec<f32>, OverBudget> {
    let mut singles = meter.vec(values.len())?;
    singles.extend(values.iter().map(|&value| to_f32(value)));
    Ok(singles)
}

/// A tensor over values that were read for this very shape.
pub(crate) fn filled<T: Element>(shape: Vec<usize>, values: Vec<T>) -> Tensor {
    Tensor::from_vec(shape, values).expect("the reader counted the elements of the shape")
}

/// As [`filled`], of booleans.
pub(crate) fn bools(shape: Vec<usize>, values: &[bool]) -> Tensor {
    Tensor::from_bools(shape, values).expect("the reader counted the elements of the shape")
}

/// As [`filled`], of text.
pub(crate) fn texts(shape: Vec<usize>, values: Vec<String>) -> Tensor {
    Tensor::from_strings(shape, values).expect("the reader counted the elements of the shape")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::json::Reader;

    fn json(text: &str) -> Json {
        Reader::new(text.as_bytes()).unwrap().value().unwrap()
    }

    fn typed(text: &str, dtype: DType) -> Result<Tensor, PyError> {
        match Array::of_type(json(text), dtype, &Meter::unlimited()) {
            Ok(Array::Tensor(tensor)) => Ok(tensor),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error),
        }
    }

    #[test]
    fn infers_the_types_that_numpy_infers() {
        for (text, dtype, shape) in [
            ("[1, 2]", "int64", &[2][..]),
            ("[[1, 2.5]]", "float64", &[1, 2]),
            ("[true, 1]", "int64", &[2]),
            ("[true, 2.5]", "float64", &[2]),
            ("[1, \"a\", true]", "str", &[3]),
            ("[null, 1]", "object", &[2]),
            ("[9223372036854775808]", "uint64", &[1]),
            ("[9223372036854775808, 1]", "float64", &[2]),
            ("[1000000000000000000000000000000]", "object", &[1]),
            ("[{\"a\": 1}]", "object", &[1]),
            ("[]", "float64", &[0]),
            ("5", "int64", &[]),
        ] {
            let array = Array::infer(json(text), &Meter::unlimited()).unwrap();
            assert_eq!(
                (array.dtype_name(), array.shape()),
                (dtype, shape),
                "{text}"
            );
        }
        assert!(
            Array::infer(json("[[1], [2, 3]]"), &Meter::unlimited())
                .unwrap_err()
                .to_string()
                .starts_with("setting an array element")
        );
    }

    #[test]
    fn converts_elements_as_python_does() {
        assert_eq!(
            typed("[1.9, \"2\", true]", DType::I32)
                .unwrap()
                .as_slice::<i32>()
                .unwrap(),
            [1, 2, 1]
        );
        assert_eq!(
            typed("[[1, 2]]", DType::F32)
                .unwrap()
                .as_slice::<f32>()
                .unwrap(),
            [1.0, 2.0]
        );
        assert_eq!(
            typed("[0, 2.5, \"\", \"false\", null]", DType::Bool)
                .unwrap()
                .bytes(),
            [0, 1, 0, 1, 0]
        );
        let strings = typed("[1, 2.5, null, true]", DType::String).unwrap();
        assert_eq!(strings.as_strings().unwrap(), ["1", "2.5", "None", "True"]);
        assert_eq!(
            typed("1e39", DType::F32)
                .unwrap()
                .as_slice::<f32>()
                .unwrap(),
            [f32::INFINITY]
        );
        let error = typed("[2147483648]", DType::I32).unwrap_err();
        assert_eq!(
            error.to_string(),
            "Python integer 2147483648 out of bounds for int32"
        );
        assert_eq!(
            typed("[-1]", DType::U8).unwrap_err().to_string(),
            "Python integer -1 out of bounds for uint8"
        );
        assert_eq!(
            typed("[1e20]", DType::I64).unwrap_err().to_string(),
            "Python int too large to convert to C long"
        );
    }
}
