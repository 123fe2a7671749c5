//! What server and worker send each other: frames of bounded length, each of a kind and for a session.
//!
//! ```text
//! length u32 | kind u8 | session u32 | body          all little-endian; the length is that of what follows it
//! tensors  = count u32, then each: dtype u8 | rank u8 | dimensions u64… | bytes u64 | data
//!            text: for each element, length u32 | UTF-8
//! outputs  = count u32, then each: 0 | tensor, 1 | labels | tensor, or 2 | tensors; labels: 0 i64…, or 1 text…
//! ```
//!
//! Memory is taken for bytes that really arrived, never for what a length claims.

use std::io::{self, Read, Write};

use half::{bf16, f16};

use crate::tensor::{DType, Element, Labels, MapSequence, Storage, Tensor, Value};

/// The longest frame: more than any batch, and less than would wrap around.
const LONGEST: u32 = 1 << 31;

/// Bytes of kind and session.
const HEAD: usize = 5;

/// The kind of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// To the worker: load this, as JSON.
    Load = 1,
    /// To the worker: run these tensors.
    Run = 2,
    /// To the worker: stop what the session runs.
    Stop = 3,
    /// To the worker: the session is over.
    Close = 4,
    /// From the worker: the model is there.
    Loaded = 5,
    /// From the worker: what the run gave.
    Outputs = 6,
    /// From the worker: why there is nothing, as JSON.
    Failed = 7,
    /// To the worker: open the package at this path, and be done.
    Open = 8,
    /// From the worker: it has been opened, or cannot be, which the server will find too.
    Opened = 9,
}

impl Kind {
    const ALL: [Self; 9] = [
        Self::Load,
        Self::Run,
        Self::Stop,
        Self::Close,
        Self::Loaded,
        Self::Outputs,
        Self::Failed,
        Self::Open,
        Self::Opened,
    ];
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    pub(super) session: u32,
    pub(super) body: Vec<u8>,
}

impl Frame {
    pub(super) fn new(kind: Kind, session: u32, body: Vec<u8>) -> Self {
        Self {
            kind,
            session,
            body,
        }
    }

    pub(super) fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let length = u32::try_from(self.body.len() + HEAD).ok();
        let length = length.filter(|length| *length <= LONGEST);
        let length = length.ok_or_else(|| broken("the tensors are larger than a frame can be"))?;
        let mut head = Vec::with_capacity(4 + HEAD);
        head.extend(length.to_le_bytes());
        head.push(self.kind as u8);
        head.extend(self.session.to_le_bytes());
        to.write_all(&head)?;
        to.write_all(&self.body)
    }

    /// The next frame; `None` when the other side has gone.
    pub(super) fn read(from: &mut impl Read) -> io::Result<Option<Self>> {
        let mut length = [0; 4];
        match from.read_exact(&mut length) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        let length = u32::from_le_bytes(length);
        if length > LONGEST || (length as usize) < HEAD {
            return Err(broken("a frame of impossible length"));
        }
        let mut head = [0; HEAD];
        from.read_exact(&mut head)?;
        let [kind, session @ ..] = head;
        let kind = Kind::ALL.into_iter().find(|known| *known as u8 == kind);
        let rest = u64::from(length) - HEAD as u64;
        let mut body = Vec::new();
        from.take(rest).read_to_end(&mut body)?;
        if body.len() as u64 != rest {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Some(Self {
            kind: kind.ok_or_else(|| broken("a frame of unknown kind"))?,
            session: u32::from_le_bytes(session),
            body,
        }))
    }
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Every type, by the number that stands for it.
const DTYPES: [DType; 14] = [
    DType::Bool,
    DType::U8,
    DType::U16,
    DType::U32,
    DType::U64,
    DType::I8,
    DType::I16,
    DType::I32,
    DType::I64,
    DType::F16,
    DType::Bf16,
    DType::F32,
    DType::F64,
    DType::String,
];

fn count(to: &mut Vec<u8>, count: usize) {
    // More than this does not fit a frame anyway, which is refused when it is written.
    to.extend(u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
}

fn text(to: &mut Vec<u8>, text: &str) {
    count(to, text.len());
    to.extend(text.as_bytes());
}

fn tensor(to: &mut Vec<u8>, tensor: &Tensor) {
    let dtype = DTYPES.iter().position(|dtype| *dtype == tensor.dtype());
    to.push(
        dtype
            .and_then(|at| u8::try_from(at).ok())
            .unwrap_or(u8::MAX),
    );
    to.push(u8::try_from(tensor.shape().len()).unwrap_or(u8::MAX));
    for dim in tensor.shape() {
        to.extend((*dim as u64).to_le_bytes());
    }
    let Some(texts) = tensor.as_strings() else {
        to.extend((tensor.bytes().len() as u64).to_le_bytes());
        to.extend(tensor.bytes());
        return;
    };
    let bytes: usize = texts.iter().map(|text| 4 + text.len()).sum();
    to.extend((bytes as u64).to_le_bytes());
    texts.iter().for_each(|element| text(to, element));
}

/// The body of a run.
pub(super) fn inputs(tensors: &[Tensor]) -> Vec<u8> {
    let bytes: usize = tensors.iter().map(|tensor| tensor.bytes().len() + 64).sum();
    let mut to = Vec::with_capacity(bytes);
    all(&mut to, tensors);
    to
}

fn all(to: &mut Vec<u8>, tensors: &[Tensor]) {
    count(to, tensors.len());
    tensors.iter().for_each(|one| tensor(to, one));
}

/// The body of what a run gave.
pub(super) fn outputs(values: &[Value]) -> Vec<u8> {
    let mut to = Vec::new();
    count(&mut to, values.len());
    for value in values {
        match value {
            Value::Tensor(one) => {
                to.push(0);
                tensor(&mut to, one);
            }
            Value::Maps(maps) => {
                to.push(1);
                labels(&mut to, &maps.labels);
                tensor(&mut to, &maps.scores);
            }
            Value::Sequence(tensors) => {
                to.push(2);
                all(&mut to, tensors);
            }
        }
    }
    to
}

fn labels(to: &mut Vec<u8>, labels: &Labels) {
    match labels {
        Labels::Int64(labels) => {
            to.push(0);
            count(to, labels.len());
            labels
                .iter()
                .for_each(|label| to.extend(label.to_le_bytes()));
        }
        Labels::String(labels) => {
            to.push(1);
            count(to, labels.len());
            labels.iter().for_each(|label| text(to, label));
        }
    }
}

/// Takes a body apart; `None` as soon as it is not what it should be.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(body: &'a [u8]) -> Self {
        Self(body)
    }

    /// The tensors of a run.
    pub(super) fn inputs(mut self) -> Option<Vec<Tensor>> {
        let tensors = self.tensors()?;
        self.0.is_empty().then_some(tensors)
    }

    /// What a run gave.
    pub(super) fn outputs(mut self) -> Option<Vec<Value>> {
        let count = self.count()?;
        let values = (0..count).map(|_| self.value()).collect::<Option<_>>()?;
        self.0.is_empty().then_some(values)
    }

    fn tensors(&mut self) -> Option<Vec<Tensor>> {
        let count = self.count()?;
        (0..count).map(|_| self.tensor()).collect()
    }

    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn count(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn size(&mut self) -> Option<usize> {
        usize::try_from(u64::from_le_bytes(self.array()?)).ok()
    }

    fn text(&mut self) -> Option<String> {
        let length = usize::try_from(self.count()?).ok()?;
        let text = std::str::from_utf8(self.take(length)?).ok()?;
        Some(text.to_owned())
    }

    fn value(&mut self) -> Option<Value> {
        match self.array()? {
            [0] => self.tensor().map(Value::Tensor),
            [1] => {
                let labels = self.labels()?;
                let scores = self.tensor()?;
                Some(Value::Maps(MapSequence { labels, scores }))
            }
            [2] => self.tensors().map(Value::Sequence),
            _ => None,
        }
    }

    fn labels(&mut self) -> Option<Labels> {
        let [kind] = self.array()?;
        let count = self.count()?;
        match kind {
            0 => {
                let label = |_| self.array().map(i64::from_le_bytes);
                (0..count)
                    .map(label)
                    .collect::<Option<_>>()
                    .map(Labels::Int64)
            }
            1 => {
                let label = |_| self.text();
                (0..count)
                    .map(label)
                    .collect::<Option<_>>()
                    .map(Labels::String)
            }
            _ => None,
        }
    }

    fn tensor(&mut self) -> Option<Tensor> {
        let [dtype, rank] = self.array()?;
        let dtype = *DTYPES.get(usize::from(dtype))?;
        let shape = (0..rank).map(|_| self.size()).collect::<Option<Vec<_>>>()?;
        let bytes = self.size()?;
        let data = self.take(bytes)?;
        if dtype == DType::String {
            let mut data = Self(data);
            let mut texts = Vec::new();
            while !data.0.is_empty() {
                texts.push(data.text()?);
            }
            return Tensor::from_strings(shape, texts).ok();
        }
        Tensor::from_storage(dtype, shape, aligned(dtype, data)).ok()
    }
}

/// A copy that lies in memory as the type needs it.
fn aligned(dtype: DType, data: &[u8]) -> Storage {
    match dtype {
        DType::Bool | DType::U8 | DType::String => Storage::owned(data.to_vec()),
        DType::I8 => copy::<i8>(data),
        DType::U16 => copy::<u16>(data),
        DType::I16 => copy::<i16>(data),
        DType::F16 => copy::<f16>(data),
        DType::Bf16 => copy::<bf16>(data),
        DType::U32 => copy::<u32>(data),
        DType::I32 => copy::<i32>(data),
        DType::F32 => copy::<f32>(data),
        DType::U64 => copy::<u64>(data),
        DType::I64 => copy::<i64>(data),
        DType::F64 => copy::<f64>(data),
    }
}

fn copy<T: Element>(data: &[u8]) -> Storage {
    let (whole, rest) = (data.len() / size_of::<T>(), data.len() % size_of::<T>());
    if rest != 0 {
        // No whole number of elements, which the tensor refuses.
        return Storage::owned(data.to_vec());
    }
    let mut values = vec![T::zeroed(); whole];
    bytemuck::cast_slice_mut::<T, u8>(&mut values).copy_from_slice(data);
    Storage::owned(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn same(one: &Tensor, other: &Tensor) -> bool {
        (one.dtype(), one.shape(), one.bytes(), one.as_strings())
            == (
                other.dtype(),
                other.shape(),
                other.bytes(),
                other.as_strings(),
            )
    }

    fn any_tensor() -> impl Strategy<Value = Tensor> {
        let shape = proptest::collection::vec(0usize..4, 0..4);
        (shape, 0usize..DTYPES.len(), any::<u64>()).prop_map(|(shape, dtype, seed)| {
            let elements = shape.iter().product::<usize>();
            let dtype = DTYPES[dtype];
            let byte = |at: usize| seed.rotate_left(at as u32 % 64) as u8;
            match dtype.width() {
                None => {
                    let texts = (0..elements).map(|at| format!("{}ä", byte(at)));
                    Tensor::from_strings(shape, texts.collect()).unwrap()
                }
                Some(width) => {
                    let most = if dtype == DType::Bool { 1 } else { u8::MAX };
                    let bytes: Vec<u8> = (0..elements * width).map(|at| byte(at) & most).collect();
                    Tensor::from_storage(dtype, shape, aligned(dtype, &bytes)).unwrap()
                }
            }
        })
    }

    proptest! {
        #[test]
        fn tensors_arrive_bit_for_bit(tensors in proptest::collection::vec(any_tensor(), 0..4)) {
            let body = inputs(&tensors);
            let read = Reader::new(&body).inputs().unwrap();
            prop_assert_eq!(read.len(), tensors.len());
            prop_assert!(read.iter().zip(&tensors).all(|(one, other)| same(one, other)));
            let mut values: Vec<Value> = tensors.iter().cloned().map(Value::Tensor).collect();
            values.push(Value::Sequence(tensors.clone()));
            let body = outputs(&values);
            let read = Reader::new(&body).outputs().unwrap();
            prop_assert_eq!(read.len(), values.len());
            for (one, other) in read.iter().zip(&values) {
                prop_assert_eq!(std::mem::discriminant(one), std::mem::discriminant(other));
                let mut pairs = one.tensors().iter().zip(other.tensors());
                prop_assert_eq!(one.tensors().len(), other.tensors().len());
                prop_assert!(pairs.all(|(one, other)| same(one, other)));
            }
        }

        #[test]
        fn no_bytes_break_the_reader(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Reader::new(&body).inputs();
            let _ = Reader::new(&body).outputs();
            let _ = Frame::read(&mut &body[..]);
        }

        #[test]
        fn what_is_cut_off_is_refused(tensor in any_tensor(), at in 0usize..100) {
            let body = inputs(&[tensor]);
            let at = at.min(body.len() - 1);
            prop_assert!(Reader::new(&body[..at]).inputs().is_none());
        }
    }

    #[test]
    fn maps_arrive_with_their_labels() {
        let scores = Tensor::from_vec(vec![1, 2], vec![0.25f32, f32::NAN]).unwrap();
        let all = [
            Labels::Int64(vec![-1, 7]),
            Labels::String(vec![String::new(), "b".to_owned()]),
        ];
        for labels in all {
            let maps = MapSequence {
                labels: labels.clone(),
                scores: scores.clone(),
            };
            let body = outputs(&[Value::Maps(maps)]);
            let read = Reader::new(&body).outputs().unwrap();
            let [Value::Maps(read)] = read.as_slice() else {
                panic!("{read:?}");
            };
            assert_eq!(read.labels, labels);
            assert!(same(&read.scores, &scores));
        }
    }

    #[test]
    fn frames_are_read_as_they_were_written_and_lengths_are_checked() {
        let frame = Frame::new(Kind::Run, 7, vec![1, 2, 3]);
        let mut bytes = Vec::new();
        frame.write(&mut bytes).unwrap();
        let mut stream = &bytes[..];
        assert_eq!(Frame::read(&mut stream).unwrap(), Some(frame));
        assert_eq!(Frame::read(&mut stream).unwrap(), None);
        assert!(Frame::read(&mut &bytes[..bytes.len() - 1]).is_err());
        for length in [0u32, 4, u32::MAX] {
            let mut bad = bytes.clone();
            bad[..4].copy_from_slice(&length.to_le_bytes());
            assert!(Frame::read(&mut &bad[..]).is_err(), "{length}");
        }
    }
}
