//! Tensors as requests carry them and engines take them.
//!
//! A [`Tensor`] is a [`DType`], a shape and a [`Storage`]. Storage may be a vector of ours, a slice of a request's
//! body or an engine's own memory: no copy is built into the types.

mod absent;
mod dispatch;
mod dtype;
mod storage;
mod value;

pub use absent::Absent;
pub(crate) use dispatch::dispatch;
pub use dtype::{DType, Element};
pub use storage::{Buffer, Storage};
pub use value::{Labels, MapSequence, Value};

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;

use crate::error::{ErrorKind, Kinded};

/// An n-dimensional array with a fixed element type, row-major and dense.
#[derive(Debug, Clone)]
pub struct Tensor {
    dtype: DType,
    shape: Vec<usize>,
    storage: Storage,
}

/// Why a [`Tensor`] cannot be built or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    /// The product of the shape's dimensions does not fit the address space.
    #[error("shape {0:?} has more elements than memory can hold")]
    ShapeOverflow(Vec<usize>),
    /// The data holds another number of elements than the shape asks for.
    #[error("shape {shape:?} takes {expected} elements, got {actual}")]
    ElementCount {
        /// The declared shape.
        shape: Vec<usize>,
        /// The product of its dimensions.
        expected: usize,
        /// The number of elements found.
        actual: usize,
    },
    /// The bytes are no whole number of elements.
    #[error("shape {shape:?} of {dtype} takes {expected} bytes, got {actual}")]
    ByteCount {
        /// The declared shape.
        shape: Vec<usize>,
        /// The declared element type.
        dtype: DType,
        /// The bytes that shape and type ask for.
        expected: usize,
        /// The bytes found.
        actual: usize,
    },
    /// A byte of a boolean tensor is neither 0 nor 1.
    #[error("byte {index} of a BOOL tensor is {value}, expected 0 or 1")]
    NotBool {
        /// Where in the tensor.
        index: usize,
        /// What stands there.
        value: u8,
    },
}

impl Kinded for TensorError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidArgument
    }
}

/// The number of elements of `shape`, or an error when the product overflows.
pub fn element_count(shape: &[usize]) -> Result<usize, TensorError> {
    shape
        .iter()
        .try_fold(1usize, |product, &dim| product.checked_mul(dim))
        .ok_or_else(|| TensorError::ShapeOverflow(shape.to_vec()))
}

impl Tensor {
    /// A tensor over `values`, row-major.
    ///
    /// # Errors
    /// [`TensorError::ElementCount`] when `values` does not fill `shape` exactly.
    pub fn from_vec<T: Element>(shape: Vec<usize>, values: Vec<T>) -> Result<Self, TensorError> {
        check_count(&shape, values.len())?;
        Ok(Self {
            dtype: T::DTYPE,
            shape,
            storage: Storage::owned(values),
        })
    }

    /// A boolean tensor over `values`, row-major.
    ///
    /// # Errors
    /// [`TensorError::ElementCount`] when `values` does not fill `shape` exactly.
    pub fn from_bools(shape: Vec<usize>, values: &[bool]) -> Result<Self, TensorError> {
        check_count(&shape, values.len())?;
        let bytes: Vec<u8> = values.iter().map(|&value| u8::from(value)).collect();
        Ok(Self {
            dtype: DType::Bool,
            shape,
            storage: Storage::owned(bytes),
        })
    }

    /// A string tensor over `values`, row-major.
    ///
    /// # Errors
    /// [`TensorError::ElementCount`] when `values` does not fill `shape` exactly.
    pub fn from_strings(shape: Vec<usize>, values: Vec<String>) -> Result<Self, TensorError> {
        check_count(&shape, values.len())?;
        Ok(Self {
            dtype: DType::String,
            shape,
            storage: Storage::Strings(values.into()),
        })
    }

    /// A tensor over little-endian bytes: of a request, or of an engine. Not for strings.
    ///
    /// # Errors
    /// [`TensorError::ByteCount`] when the bytes do not fill `shape` exactly, [`TensorError::NotBool`] when a boolean
    /// is neither 0 nor 1.
    ///
    /// # Panics
    /// When `dtype` is [`DType::String`], whose elements have no fixed width.
    pub fn from_storage(
        dtype: DType,
        shape: Vec<usize>,
        storage: Storage,
    ) -> Result<Self, TensorError> {
        let width = dtype
            .width()
            .expect("a string tensor is built by `from_strings`");
        let expected = element_count(&shape)?
            .checked_mul(width)
            .ok_or_else(|| TensorError::ShapeOverflow(shape.clone()))?;
        let bytes = storage.bytes();
        if bytes.len() != expected {
            return Err(TensorError::ByteCount {
                shape,
                dtype,
                expected,
                actual: bytes.len(),
            });
        }
        if dtype == DType::Bool
            && let Some(index) = bytes.iter().position(|&byte| byte > 1)
        {
            return Err(TensorError::NotBool {
                index,
                value: bytes[index],
            });
        }
        Ok(Self {
            dtype,
            shape,
            storage,
        })
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The dimensions, outermost first; empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first dimension: the rows of a batch; `None` for a scalar.
    pub fn rows(&self) -> Option<usize> {
        self.shape.first().copied()
    }

    /// The elements as little-endian bytes, booleans as 0 or 1; empty for strings.
    pub fn bytes(&self) -> &[u8] {
        self.storage.bytes()
    }

    /// Bytes of memory that its elements take.
    pub fn size(&self) -> usize {
        match self.as_strings() {
            Some(texts) => {
                let texts = texts.iter();
                texts.map(|text| size_of::<String>() + text.len()).sum()
            }
            None => self.bytes().len(),
        }
    }

    /// The same bytes, without a copy, for as long as somebody holds them.
    pub fn shared_bytes(&self) -> Bytes {
        self.storage.shared()
    }

    /// The elements, when they are of type `T` and lie aligned in memory; see [`Tensor::to_vec`] for the other case.
    pub fn as_slice<T: Element>(&self) -> Option<&[T]> {
        if self.dtype != T::DTYPE {
            return None;
        }
        bytemuck::try_cast_slice(self.storage.bytes()).ok()
    }

    /// The elements as a vector, when they are of type `T`; always a copy, so it also reads misaligned bytes.
    pub fn to_vec<T: Element>(&self) -> Option<Vec<T>> {
        if self.dtype != T::DTYPE {
            return None;
        }
        let mut values = vec![T::zeroed(); self.len()];
        bytemuck::cast_slice_mut::<T, u8>(&mut values).copy_from_slice(self.storage.bytes());
        Some(values)
    }

    /// This tensor with its elements aligned in memory: itself, or a copy.
    pub fn aligned(&self) -> Cow<'_, Self> {
        match self.storage.aligned(self.dtype) {
            Some(storage) => Cow::Owned(Self {
                storage,
                ..self.clone()
            }),
            None => Cow::Borrowed(self),
        }
    }

    /// The elements of a string tensor.
    pub fn as_strings(&self) -> Option<&[String]> {
        match &self.storage {
            Storage::Strings(values) => Some(values),
            _ => None,
        }
    }

    /// A tensor of this many rows: those of this one, over and over. `None` when it has none.
    pub fn repeat_rows(&self, rows: usize) -> Option<Self> {
        let given = self.rows().filter(|&given| given > 0)?;
        let mut shape = self.shape.clone();
        shape[0] = rows;
        if let Some(values) = self.as_strings() {
            let width = values.len() / given;
            let row = |row: usize| values[row % given * width..][..width].iter().cloned();
            return Self::from_strings(shape, (0..rows).flat_map(row).collect()).ok();
        }
        let bytes = self.bytes();
        let width = bytes.len() / given;
        let row = |row: usize| &bytes[row % given * width..][..width];
        let repeated: Vec<&[u8]> = (0..rows).map(row).collect();
        let storage = Storage::Shared(repeated.concat().into());
        Self::from_storage(self.dtype, shape, storage).ok()
    }

    /// One tensor with the rows of all, in order. `None` unless they agree in datatype and in all dimensions but the
    /// first.
    pub fn join_rows(parts: &[&Self]) -> Option<Self> {
        let first = parts.first()?;
        let inner = first.shape.get(1..)?;
        let agree = |part: &&&Self| part.dtype == first.dtype && part.shape.get(1..) == Some(inner);
        if !parts.iter().all(|part| agree(&part)) {
            return None;
        }
        let mut shape = first.shape.clone();
        shape[0] = parts.iter().map(|part| part.shape[0]).sum();
        if first.dtype == DType::String {
            let texts = parts.iter().filter_map(|part| part.as_strings());
            return Self::from_strings(shape, texts.flatten().cloned().collect()).ok();
        }
        let bytes: Vec<&[u8]> = parts.iter().map(|part| part.bytes()).collect();
        let storage = Storage::Shared(bytes.concat().into());
        Self::from_storage(first.dtype, shape, storage).ok()
    }

    /// One tensor with each of these under a new first axis; of shape `[0]` and this datatype when there are none. `None`
    /// unless they agree in datatype and shape.
    pub fn stack(parts: &[Self], dtype: DType) -> Option<Self> {
        if parts.is_empty() {
            return match dtype {
                DType::String => Self::from_strings(vec![0], vec![]).ok(),
                _ => Self::from_storage(dtype, vec![0], Storage::Shared(Bytes::new())).ok(),
            };
        }
        let rows = parts.iter().map(|part| {
            let shape = [&[1], part.shape()].concat();
            part.clone().reshaped(shape).ok()
        });
        let rows = rows.collect::<Option<Vec<_>>>()?;
        Self::join_rows(&rows.iter().collect::<Vec<_>>())
    }

    /// Some of the rows, without a copy but for text; `None` when there are fewer.
    pub fn rows_of(&self, rows: Range<usize>) -> Option<Self> {
        let given = self.rows().filter(|given| rows.end <= *given)?;
        let mut shape = self.shape.clone();
        shape[0] = rows.len();
        let width = self.len().checked_div(given)?;
        let storage = match &self.storage {
            Storage::Strings(texts) => {
                let texts = &texts[rows.start * width..rows.end * width];
                Storage::Strings(texts.into())
            }
            storage => {
                let width = width * self.dtype.width()?;
                storage.part(rows.start * width..rows.end * width)
            }
        };
        Some(Self {
            dtype: self.dtype,
            shape,
            storage,
        })
    }

    /// The same elements in another shape.
    ///
    /// # Errors
    /// [`TensorError::ElementCount`] when the new shape holds another number of elements.
    pub fn reshaped(self, shape: Vec<usize>) -> Result<Self, TensorError> {
        check_count(&shape, self.len())?;
        Ok(Self { shape, ..self })
    }
}

fn check_count(shape: &[usize], actual: usize) -> Result<(), TensorError> {
    let expected = element_count(shape)?;
    if expected == actual {
        return Ok(());
    }
    Err(TensorError::ElementCount {
        shape: shape.to_vec(),
        expected,
        actual,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_data_that_does_not_fill_the_shape() {
        let error = Tensor::from_vec(vec![2, 2], vec![1.0f32, 2.0, 3.0]).unwrap_err();
        assert_eq!(error.to_string(), "shape [2, 2] takes 4 elements, got 3");
        let overflow = Tensor::from_vec::<u8>(vec![usize::MAX, 2], vec![]).unwrap_err();
        assert_eq!(overflow, TensorError::ShapeOverflow(vec![usize::MAX, 2]));
    }

    #[test]
    fn reads_a_request_slice_without_copy_when_aligned_and_by_copy_when_not() {
        let body: Vec<u8> = std::iter::once(0u8)
            .chain([1.5f32, 2.5].iter().flat_map(|v| v.to_le_bytes()))
            .collect();
        let slice = Bytes::from(body).slice(1..);
        let tensor = Tensor::from_storage(DType::F32, vec![2], Storage::Shared(slice)).unwrap();
        assert_eq!(tensor.to_vec::<f32>().unwrap(), [1.5, 2.5]);
        assert!(tensor.as_slice::<f64>().is_none());
    }

    #[test]
    fn rows_are_joined_and_taken_apart_again() {
        let rows =
            |values: &[f32]| Tensor::from_vec(vec![values.len() / 2, 2], values.to_vec()).unwrap();
        let joined =
            Tensor::join_rows(&[&rows(&[1.0, 2.0]), &rows(&[3.0, 4.0, 5.0, 6.0])]).unwrap();
        assert_eq!(joined.shape(), [3, 2]);
        let last = joined.rows_of(1..3).unwrap();
        assert_eq!(last.to_vec::<f32>().unwrap(), [3.0, 4.0, 5.0, 6.0]);
        assert_eq!(
            last.rows_of(1..2).unwrap().to_vec::<f32>().unwrap(),
            [5.0, 6.0]
        );
        assert!(joined.rows_of(2..4).is_none());
        let texts = |values: &[&str]| {
            let values = values
                .iter()
                .map(|text| (*text).to_owned())
                .collect::<Vec<_>>();
            Tensor::from_strings(vec![values.len()], values).unwrap()
        };
        let joined = Tensor::join_rows(&[&texts(&["a"]), &texts(&["b", "c"])]).unwrap();
        assert_eq!(
            joined.rows_of(1..3).unwrap().as_strings().unwrap(),
            ["b", "c"]
        );
        assert!(Tensor::join_rows(&[&texts(&["a"]), &rows(&[1.0, 2.0])]).is_none());
        let owned = Tensor::from_vec(vec![2, 0], Vec::<f32>::new()).unwrap();
        assert_eq!(owned.rows_of(0..1).unwrap().shape(), [1, 0]);
    }

    #[test]
    fn an_engines_memory_is_shared_and_not_copied() {
        let tensor = Tensor::from_vec(vec![3], vec![1.0f32, 2.0, 3.0]).unwrap();
        let (place, shared) = (tensor.bytes().as_ptr(), tensor.shared_bytes());
        assert_eq!((shared.as_ptr(), shared.len()), (place, 12));
        let rows = tensor.rows_of(1..2).unwrap().shared_bytes();
        drop(tensor);
        assert_eq!(&rows[..], 2.0f32.to_le_bytes());
    }

    #[test]
    fn refuses_bytes_that_are_no_booleans() {
        let storage = Storage::Shared(Bytes::from_static(&[0, 1, 7]));
        let error = Tensor::from_storage(DType::Bool, vec![3], storage).unwrap_err();
        assert_eq!(error, TensorError::NotBool { index: 2, value: 7 });
    }
}
