//! Arrays as numpy makes them out of JSON: `np.array(data)` and `np.array(data, dtype)`.

use half::f16;

use super::python::{self, PyError};
use crate::protocol::json::{Cells, Flat, Json, Numbers};
use crate::tensor::{DType, Element, Tensor};

/// A numpy array or a pandas column.
#[derive(Debug, Clone)]
pub(super) enum Array {
    /// A type that ONNX has. Text stands for numpy's `<U…` and for pandas' `object` column of strings.
    Tensor(Tensor),
    /// numpy `object`: values of several types, or lists.
    Object(Objects),
    /// Values that no ONNX tensor holds; only their number matters.
    Opaque(Opaque, Vec<usize>),
}

/// An array of Python objects.
#[derive(Debug, Clone)]
pub(super) struct Objects {
    pub(super) shape: Vec<usize>,
    pub(super) cells: Vec<Json>,
}

/// What an [`Array::Opaque`] holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opaque {
    /// `datetime64[ns]`.
    Datetime,
    /// `datetime64[ns, UTC]`.
    Zoned,
    /// `bytes`.
    Binary,
}

impl Array {
    pub(super) fn shape(&self) -> &[usize] {
        match self {
            Self::Tensor(tensor) => tensor.shape(),
            Self::Object(objects) => &objects.shape,
            Self::Opaque(_, shape) => shape,
        }
    }

    /// numpy's name of the element type.
    pub(super) fn dtype_name(&self) -> &'static str {
        match self {
            Self::Tensor(tensor) => tensor.dtype().numpy_name(),
            Self::Object(_) | Self::Opaque(Opaque::Binary, _) => "object",
            Self::Opaque(Opaque::Datetime, _) => "datetime64[ns]",
            Self::Opaque(Opaque::Zoned, _) => "datetime64[ns, UTC]",
        }
    }

    /// The element type, when ONNX has it.
    pub(super) fn dtype(&self) -> Option<DType> {
        match self {
            Self::Tensor(tensor) => Some(tensor.dtype()),
            Self::Object(_) | Self::Opaque(..) => None,
        }
    }

    /// `np.array(data)`: the type is inferred.
    pub(super) fn infer(data: Json) -> Result<Self, PyError> {
        match data {
            Json::Array(flat) => Ok(infer_flat(*flat)),
            Json::List(items) => infer_list(items),
            Json::Object(_) => Ok(objects(vec![], vec![data])),
            scalar => Ok(infer_flat(scalar_array(scalar))),
        }
    }

    /// `np.array(data, dtype)`: each element is converted as Python does.
    pub(super) fn of_type(data: Json, dtype: DType) -> Result<Self, PyError> {
        match data {
            Json::Array(flat) => convert(*flat, dtype).map(Self::Tensor),
            Json::List(items)
                if items
                    .iter()
                    .all(|item| !matches!(item, Json::Array(_) | Json::List(_))) =>
            {
                let shape = vec![items.len()];
                convert(
                    Flat {
                        shape,
                        cells: Cells::Mixed(items),
                    },
                    dtype,
                )
                .map(Self::Tensor)
            }
            Json::List(_) => Err(ragged()),
            scalar => convert(scalar_array(scalar), dtype).map(Self::Tensor),
        }
    }

    /// `np.array(data, dtype=object)`.
    pub(super) fn of_objects(data: Json) -> Self {
        match data {
            Json::Array(flat) => objects(flat.shape, flat.cells.into_iter().collect()),
            Json::List(items) => objects(vec![items.len()], items),
            scalar => objects(vec![], vec![scalar]),
        }
    }
}

/// An array over values that fill its shape.
pub(super) fn objects(shape: Vec<usize>, cells: Vec<Json>) -> Array {
    Array::Object(Objects { shape, cells })
}

fn scalar_array(scalar: Json) -> Flat {
    Flat {
        shape: vec![],
        cells: Cells::one(scalar),
    }
}

pub(super) fn ragged() -> PyError {
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

fn infer_flat(flat: Flat) -> Array {
    let Flat { shape, cells } = flat;
    if cells.is_empty() {
        return Array::Tensor(filled::<f64>(shape, vec![]));
    }
    match cells {
        Cells::Int(values) => Array::Tensor(filled(shape, values)),
        Cells::Number(Numbers { values, .. }) => Array::Tensor(filled(shape, values)),
        Cells::Bool(values) => Array::Tensor(bools(shape, &values)),
        Cells::Text(values) => Array::Tensor(texts(shape, values)),
        Cells::Mixed(values) => infer_mixed(shape, values),
    }
}

fn infer_mixed(shape: Vec<usize>, values: Vec<Json>) -> Array {
    let any = |wanted: fn(&Json) -> bool| values.iter().any(wanted);
    let huge = any(|value| matches!(value, Json::Big(digits) if digits.parse::<u64>().is_err()));
    if huge || any(|value| matches!(value, Json::Null)) {
        return objects(shape, values);
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
    match convert(
        Flat {
            shape: shape.clone(),
            cells: Cells::Mixed(values.clone()),
        },
        dtype,
    ) {
        Ok(tensor) => Array::Tensor(tensor),
        Err(_) => objects(shape, values),
    }
}

/// Converts each element as Python's `int()`, `float()`, `bool()` or `str()` does; whole numbers that do not fit are
/// an error.
pub(super) fn convert(flat: Flat, dtype: DType) -> Result<Tensor, PyError> {
    let Flat { shape, cells } = flat;
    match (dtype, cells) {
        (DType::F64, Cells::Number(numbers)) => Ok(filled(shape, numbers.values)),
        (DType::F32, Cells::Number(numbers)) => Ok(filled(shape, narrow(&numbers.values))),
        (DType::I64, Cells::Int(values)) => Ok(filled(shape, values)),
        (DType::Bool, Cells::Bool(values)) => Ok(bools(shape, &values)),
        (DType::String, Cells::Text(values)) => Ok(texts(shape, values)),
        (dtype, cells) => convert_each(shape, cells.into_iter(), dtype),
    }
}

fn convert_each(
    shape: Vec<usize>,
    cells: impl Iterator<Item = Json>,
    dtype: DType,
) -> Result<Tensor, PyError> {
    let cells = cells.into_iter();
    Ok(match dtype {
        DType::Bool => bools(
            shape,
            &cells.map(|cell| python::truthy(&cell)).collect::<Vec<_>>(),
        ),
        DType::String => texts(shape, cells.map(|cell| python::text(&cell)).collect()),
        DType::F64 => filled(shape, floats(cells, |value| value)?),
        DType::F32 => filled(shape, floats(cells, to_f32)?),
        DType::F16 => filled(shape, floats(cells, f16::from_f64)?),
        DType::Bf16 => filled(shape, floats(cells, half::bf16::from_f64)?),
        DType::U8 => filled(shape, ints::<u8>(cells)?),
        DType::U16 => filled(shape, ints::<u16>(cells)?),
        DType::U32 => filled(shape, ints::<u32>(cells)?),
        DType::U64 => filled(shape, ints::<u64>(cells)?),
        DType::I8 => filled(shape, ints::<i8>(cells)?),
        DType::I16 => filled(shape, ints::<i16>(cells)?),
        DType::I32 => filled(shape, ints::<i32>(cells)?),
        DType::I64 => filled(shape, ints::<i64>(cells)?),
    })
}

fn floats<T>(
    cells: impl Iterator<Item = Json>,
    narrow: impl Fn(f64) -> T,
) -> Result<Vec<T>, PyError> {
    cells
        .map(|cell| python::float(&cell).map(&narrow))
        .collect()
}

fn ints<T: Element + TryFrom<i128>>(cells: impl Iterator<Item = Json>) -> Result<Vec<T>, PyError> {
    cells
        .map(|cell| {
            let int = python::int(&cell)?;
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
        .collect()
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "numpy rounds to the nearest single too, and overflows to infinity"
)]
pub(super) fn to_f32(value: f64) -> f32 {
    value as f32
}

/// Doubles rounded to singles.
pub(super) fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&value| to_f32(value)).collect()
}

/// A tensor over values that were read for this very shape.
pub(super) fn filled<T: Element>(shape: Vec<usize>, values: Vec<T>) -> Tensor {
    Tensor::from_vec(shape, values).expect("the reader counted the elements of the shape")
}

/// As [`filled`], of booleans.
pub(super) fn bools(shape: Vec<usize>, values: &[bool]) -> Tensor {
    Tensor::from_bools(shape, values).expect("the reader counted the elements of the shape")
}

/// As [`filled`], of text.
pub(super) fn texts(shape: Vec<usize>, values: Vec<String>) -> Tensor {
    Tensor::from_strings(shape, values).expect("the reader counted the elements of the shape")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::json::Reader;

    fn json(text: &str) -> Json {
        Reader::new(text.as_bytes()).unwrap().value().unwrap()
    }

    fn typed(text: &str, dtype: DType) -> Result<Tensor, String> {
        match Array::of_type(json(text), dtype) {
            Ok(Array::Tensor(tensor)) => Ok(tensor),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
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
            let array = Array::infer(json(text)).unwrap();
            assert_eq!(
                (array.dtype_name(), array.shape()),
                (dtype, shape),
                "{text}"
            );
        }
        assert!(
            Array::infer(json("[[1], [2, 3]]"))
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
        assert_eq!(error, "Python integer 2147483648 out of bounds for int32");
        assert_eq!(
            typed("[-1]", DType::U8).unwrap_err(),
            "Python integer -1 out of bounds for uint8"
        );
        assert_eq!(
            typed("[1e20]", DType::I64).unwrap_err(),
            "Python int too large to convert to C long"
        );
    }
}
