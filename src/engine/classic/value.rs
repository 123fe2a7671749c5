//! What operators take and give: dense arrays of the element types that classic models use.

use bytemuck::checked;

use super::failure::Failure;
use crate::tensor::{DType, Tensor, TensorError};

/// An array that the engine owns. Its memory is used again by the next run.
#[derive(Debug, Clone, Default)]
pub(super) struct Value {
    /// The dimensions, outermost first.
    pub(super) shape: Vec<usize>,
    /// The elements, row-major.
    pub(super) data: Data,
}

/// Elements of one type.
#[derive(Debug, Clone)]
pub(super) enum Data {
    F32(Vec<f32>),
    F64(Vec<f64>),
    I64(Vec<i64>),
    I32(Vec<i32>),
    /// Only what a graph gives: values of `LabelEncoder`.
    I16(Vec<i16>),
    Bool(Vec<bool>),
    Text(Vec<String>),
}

/// An array that somebody else owns: a request, a constant or another operator.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) shape: &'a [usize],
    pub(super) data: Slice<'a>,
}

/// Elements of one type, borrowed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Slice<'a> {
    F32(&'a [f32]),
    F64(&'a [f64]),
    I64(&'a [i64]),
    I32(&'a [i32]),
    I16(&'a [i16]),
    Bool(&'a [bool]),
    Text(&'a [String]),
}

/// Does the same for the elements of each type: `$run` is an expression over `$elements`.
macro_rules! each_type {
    ($slice:expr, $elements:ident => $run:expr) => {{
        #[allow(clippy::clone_on_copy, reason = "texts have to be cloned")]
        let made = match $slice {
            $crate::engine::classic::value::Slice::F32($elements) => $run,
            $crate::engine::classic::value::Slice::F64($elements) => $run,
            $crate::engine::classic::value::Slice::I64($elements) => $run,
            $crate::engine::classic::value::Slice::I32($elements) => $run,
            $crate::engine::classic::value::Slice::I16($elements) => $run,
            $crate::engine::classic::value::Slice::Bool($elements) => $run,
            $crate::engine::classic::value::Slice::Text($elements) => $run,
        };
        made
    }};
}
pub(super) use each_type;

/// A Rust type that is an element of arrays.
pub(super) trait Element: Clone + Default + Send + Sync + 'static {
    const DTYPE: DType;

    /// These elements, when they are of this type.
    fn from_slice(slice: Slice<'_>) -> Option<&[Self]>;

    /// The vector of this type in `data`, which may hold another type: then it holds an empty vector of this one after.
    fn vec_of(data: &mut Data) -> &mut Vec<Self>;
}

macro_rules! element {
    ($($rust:ty => $variant:ident, $dtype:ident);* $(;)?) => {
        $(impl Element for $rust {
            const DTYPE: DType = DType::$dtype;

            fn from_slice(slice: Slice<'_>) -> Option<&[Self]> {
                match slice {
                    Slice::$variant(elements) => Some(elements),
                    _ => None,
                }
            }

            fn vec_of(data: &mut Data) -> &mut Vec<Self> {
                if !matches!(data, Data::$variant(_)) {
                    *data = Data::$variant(Vec::new());
                }
                match data {
                    Data::$variant(elements) => elements,
                    _ => unreachable!("it was just made one"),
                }
            }
        })*
    };
}

element! {
    f32 => F32, F32;
    f64 => F64, F64;
    i64 => I64, I64;
    i32 => I32, I32;
    i16 => I16, I16;
    bool => Bool, Bool;
    String => Text, String;
}

impl Default for Data {
    fn default() -> Self {
        Self::F32(Vec::new())
    }
}

/// Whether arrays of this element type exist here.
pub(super) fn is_supported(dtype: DType) -> bool {
    use DType::{Bool, F32, F64, I32, I64, String};
    matches!(dtype, F32 | F64 | I64 | I32 | Bool | String)
}

impl Value {
    /// An array over `elements`.
    pub(super) fn new<T: Element>(shape: Vec<usize>, elements: Vec<T>) -> Self {
        debug_assert_eq!(shape.iter().product::<usize>(), elements.len());
        let mut data = Data::default();
        *T::vec_of(&mut data) = elements;
        Self { shape, data }
    }

    /// A copy of a tensor.
    ///
    /// # Errors
    /// [`Failure`] for an element type that is not supported here.
    pub(super) fn from_tensor(tensor: &Tensor) -> Result<Self, Failure> {
        let tensor = tensor.aligned();
        View::of_tensor(&tensor).map(View::to_value)
    }

    /// Whether there are as many elements as the shape says.
    pub(super) fn is_whole(&self) -> bool {
        self.shape.iter().product::<usize>() == self.view().len()
    }

    pub(super) fn view(&self) -> View<'_> {
        View {
            shape: &self.shape,
            data: match &self.data {
                Data::F32(elements) => Slice::F32(elements),
                Data::F64(elements) => Slice::F64(elements),
                Data::I64(elements) => Slice::I64(elements),
                Data::I32(elements) => Slice::I32(elements),
                Data::I16(elements) => Slice::I16(elements),
                Data::Bool(elements) => Slice::Bool(elements),
                Data::Text(elements) => Slice::Text(elements),
            },
        }
    }

    /// Sets the shape and hands out the vector for the elements, emptied.
    pub(super) fn start<T: Element>(&mut self, shape: &[usize]) -> &mut Vec<T> {
        self.shape.clear();
        self.shape.extend_from_slice(shape);
        let elements = T::vec_of(&mut self.data);
        elements.clear();
        elements
    }

    /// Becomes a copy of `view` in another shape of as many elements.
    pub(super) fn copy_as(&mut self, view: View<'_>, shape: &[usize]) {
        each_type!(view.data, elements => self.start(shape).extend_from_slice(elements));
    }

    /// The tensor that this is, without a copy of numbers.
    pub(super) fn into_tensor(self) -> Result<Tensor, TensorError> {
        let Self { shape, data } = self;
        match data {
            Data::F32(elements) => Tensor::from_vec(shape, elements),
            Data::F64(elements) => Tensor::from_vec(shape, elements),
            Data::I64(elements) => Tensor::from_vec(shape, elements),
            Data::I32(elements) => Tensor::from_vec(shape, elements),
            Data::I16(elements) => Tensor::from_vec(shape, elements),
            Data::Bool(elements) => Tensor::from_bools(shape, &elements),
            Data::Text(elements) => Tensor::from_strings(shape, elements),
        }
    }

    /// Bytes of memory that it holds.
    pub(super) fn size(&self) -> u64 {
        let bytes = match &self.data {
            Data::F32(elements) => elements.capacity() * 4,
            Data::F64(elements) => elements.capacity() * 8,
            Data::I64(elements) => elements.capacity() * 8,
            Data::I32(elements) => elements.capacity() * 4,
            Data::I16(elements) => elements.capacity() * 2,
            Data::Bool(elements) => elements.capacity(),
            Data::Text(elements) => {
                let texts = elements.iter().map(String::capacity).sum::<usize>();
                texts + elements.capacity() * size_of::<String>()
            }
        };
        bytes as u64
    }
}

impl<'a> View<'a> {
    /// A tensor whose elements lie aligned.
    pub(super) fn of_tensor(tensor: &'a Tensor) -> Result<Self, Failure> {
        let misplaced = || Failure::new("the elements of an input do not lie aligned".to_owned());
        let data = match tensor.dtype() {
            DType::F32 => Slice::F32(tensor.as_slice().ok_or_else(misplaced)?),
            DType::F64 => Slice::F64(tensor.as_slice().ok_or_else(misplaced)?),
            DType::I64 => Slice::I64(tensor.as_slice().ok_or_else(misplaced)?),
            DType::I32 => Slice::I32(tensor.as_slice().ok_or_else(misplaced)?),
            DType::I16 => Slice::I16(tensor.as_slice().ok_or_else(misplaced)?),
            DType::Bool => {
                let elements = checked::try_cast_slice(tensor.bytes());
                Slice::Bool(elements.map_err(|_| misplaced())?)
            }
            DType::String => Slice::Text(tensor.as_strings().unwrap_or_default()),
            other => {
                let message = format!("tensors of {other} are not supported");
                return Err(Failure::new(message));
            }
        };
        Ok(Self {
            shape: tensor.shape(),
            data,
        })
    }

    pub(super) fn to_value(self) -> Value {
        let mut value = Value::default();
        value.copy_as(self, self.shape);
        value
    }

    pub(super) fn len(&self) -> usize {
        each_type!(self.data, elements => elements.len())
    }

    pub(super) fn dtype(&self) -> DType {
        match self.data {
            Slice::F32(_) => DType::F32,
            Slice::F64(_) => DType::F64,
            Slice::I64(_) => DType::I64,
            Slice::I32(_) => DType::I32,
            Slice::I16(_) => DType::I16,
            Slice::Bool(_) => DType::Bool,
            Slice::Text(_) => DType::String,
        }
    }

    /// The elements; an error when they are of another type than the operator was compiled for.
    pub(super) fn elements<T: Element>(&self) -> Result<&'a [T], Failure> {
        T::from_slice(self.data).ok_or_else(|| {
            let (found, expected) = (self.dtype(), T::DTYPE);
            Failure::new(format!("got a tensor of {found}, expected {expected}"))
        })
    }

    /// Rows and columns of a table: all dimensions but the last are rows, a vector is one row.
    pub(super) fn table(&self) -> (usize, usize) {
        match self.shape {
            [] => (1, 1),
            [rows @ .., columns] => (rows.iter().product(), *columns),
        }
    }

    /// Rows of so many features; an empty batch may be of any width.
    ///
    /// # Errors
    /// [`Failure`] for rows of another width.
    pub(super) fn rows_of(&self, features: usize) -> Result<usize, Failure> {
        let (rows, columns) = self.samples();
        if columns != features && rows > 0 {
            return Err(Failure::shapes(format!(
                "rows have {columns} features; expected {features}"
            )));
        }
        Ok(rows)
    }

    /// Rows and columns as ai.onnx.ml counts them: a vector is one row, of more axes all but the first are columns.
    pub(super) fn samples(&self) -> (usize, usize) {
        match self.shape {
            [] => (1, 1),
            [columns] => (1, *columns),
            [rows, rest @ ..] => (*rows, rest.iter().product()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_also_for_another_type() {
        let mut value = Value::new(vec![2], vec![1.0f32, 2.0]);
        value.start::<f32>(&[1, 1]).push(3.0);
        assert_eq!(
            (value.shape.as_slice(), value.view().len()),
            (&[1, 1][..], 1)
        );
        value.start::<String>(&[1]).push("a".to_owned());
        assert_eq!(value.view().dtype(), DType::String);
    }

    #[test]
    fn tables_and_samples_count_rows_each_in_its_way() {
        let elements = vec![0i64; 24];
        let value = Value::new(vec![2, 3, 4], elements);
        assert_eq!(value.view().table(), (6, 4));
        assert_eq!(value.view().samples(), (2, 12));
        let vector = Value::new(vec![3], vec![0i64; 3]);
        assert_eq!(
            (vector.view().table(), vector.view().samples()),
            ((1, 3), (1, 3))
        );
    }
}
