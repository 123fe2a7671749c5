//! Where the elements of a tensor live.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::{DType, Element};

/// Memory that somebody else owns, such as an engine's output. Must stay unchanged while it lives.
pub trait Buffer: Send + Sync {
    /// The elements, row-major, in the machine's byte order.
    fn bytes(&self) -> &[u8];
}

impl<T: Element> Buffer for Vec<T> {
    fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(self)
    }
}

/// Some bytes of a buffer.
struct Part {
    whole: Arc<dyn Buffer>,
    range: Range<usize>,
}

impl Buffer for Part {
    fn bytes(&self) -> &[u8] {
        &self.whole.bytes()[self.range.clone()]
    }
}

/// A buffer that lives as long as somebody reads it.
struct Held(Arc<dyn Buffer>);

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        self.0.bytes()
    }
}

/// The memory of a tensor; cloning shares it.
#[derive(Clone)]
pub enum Storage {
    /// A slice of a request's body. May be misaligned.
    Shared(Bytes),
    /// A vector of ours, or an engine's memory. Aligned for its element type.
    Owned(Arc<dyn Buffer>),
    /// Text.
    Strings(Arc<[String]>),
}

impl Storage {
    /// Storage over a vector, without a copy.
    pub fn owned<T: Element>(values: Vec<T>) -> Self {
        Self::Owned(Arc::new(values))
    }

    /// Some of the bytes, without a copy. Not for strings, which have none.
    pub(super) fn part(&self, range: Range<usize>) -> Self {
        match self {
            Self::Shared(bytes) => Self::Shared(bytes.slice(range)),
            Self::Owned(whole) => Self::Owned(Arc::new(Part {
                whole: Arc::clone(whole),
                range,
            })),
            Self::Strings(texts) => Self::Strings(Arc::clone(texts)),
        }
    }

    /// A copy whose bytes lie as elements of this type need it; `None` when these do.
    pub(super) fn aligned(&self, dtype: DType) -> Option<Self> {
        fn copy<T: Element>(bytes: &[u8]) -> Option<Storage> {
            if bytemuck::try_cast_slice::<u8, T>(bytes).is_ok() {
                return None;
            }
            let mut values = vec![T::zeroed(); bytes.len() / size_of::<T>()];
            bytemuck::cast_slice_mut::<T, u8>(&mut values).copy_from_slice(bytes);
            Some(Storage::owned(values))
        }
        let bytes = self.bytes();
        match dtype {
            DType::Bool | DType::U8 | DType::I8 | DType::String => None,
            DType::U16 | DType::I16 | DType::F16 | DType::Bf16 => copy::<u16>(bytes),
            DType::U32 | DType::I32 | DType::F32 => copy::<u32>(bytes),
            DType::U64 | DType::I64 | DType::F64 => copy::<u64>(bytes),
        }
    }

    /// The bytes, for as long as they are needed, without a copy; empty for strings.
    pub(super) fn shared(&self) -> Bytes {
        match self {
            Self::Shared(bytes) => bytes.clone(),
            Self::Owned(buffer) => Bytes::from_owner(Held(Arc::clone(buffer))),
            Self::Strings(_) => Bytes::new(),
        }
    }

    /// The bytes; empty for strings.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Shared(bytes) => bytes,
            Self::Owned(buffer) => buffer.bytes(),
            Self::Strings(_) => &[],
        }
    }
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shared(bytes) => write!(f, "Shared({} bytes)", bytes.len()),
            Self::Owned(buffer) => write!(f, "Owned({} bytes)", buffer.bytes().len()),
            Self::Strings(values) => write!(f, "Strings({})", values.len()),
        }
    }
}
